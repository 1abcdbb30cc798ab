package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/sentinel/source"
)

func newSource() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "source",
		Short: "Check whether a reboot is wanted, and make the sentinel (started by systemd)",
		Long: `Check whether a reboot is wanted, and make the sentinel that says so.

The units kured-needs-restarting, kured-sentinel-command and kured-kernel run
this. A check that cannot find out leaves the sentinel NAME as it is and writes
into NAME.failed why; "kured status" shows it.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSourceRun(), newSourceKernel())
	return cmd
}

// sourceFlags are what all sources have in common.
type sourceFlags struct {
	sentinel source.Sentinel
	repeat   source.Repeat
	timeout  time.Duration
}

func (f *sourceFlags) register(cmd *cobra.Command, name string) {
	cmd.Flags().StringVar(&f.sentinel.Directory, "directory", source.DefaultDirectory, "`directory` in which the sentinel is")
	cmd.Flags().StringVar(&f.sentinel.Name, "name", name, "`name` of the sentinel")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Minute, "a check that takes longer could not find out")
	cmd.Flags().DurationVar(&f.repeat.Settle, "settle", 0, "wait this long before the check, for a package manager that is at work")
}

// check makes the check and writes down what it found. An error is told twice: to the journal and in the file. Who stops
// the check wants to know nothing.
func (f *sourceFlags) check(cmd *cobra.Command, check func(context.Context) (source.Finding, error)) error {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), f.timeout, fmt.Errorf("not done after %s", f.timeout))
	defer cancel()
	finding, err := f.repeat.Do(ctx, check)
	if cmd.Context().Err() != nil {
		fmt.Fprintln(cmd.OutOrStdout(), "stopped, and nothing found out")
		return nil
	}
	if failed := f.sentinel.Report(finding, err); failed != nil {
		return failed
	}
	switch {
	case err != nil:
		return err
	case !finding.Wanted:
		fmt.Fprintln(cmd.OutOrStdout(), "no reboot is wanted")
	default:
		fmt.Fprintf(cmd.OutOrStdout(), "a reboot is wanted: %q\n", finding.Reasons)
	}
	return nil
}

func newSourceRun() *cobra.Command {
	var flags sourceFlags
	var command source.Command
	var form string
	cmd := &cobra.Command{
		Use:               "run --name NAME [flags] -- COMMAND [ARGUMENT...]",
		Short:             "Let a command's exit code say whether a reboot is wanted",
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: files,
		RunE: func(cmd *cobra.Command, given []string) error {
			if command.Form = source.Form(form); !slices.Contains(source.Forms(), command.Form) {
				return &exitError{exitUsage, fmt.Errorf("--reasons: %q is none of %q", form, source.Forms())}
			}
			if flags.sentinel.Name == "" {
				return &exitError{exitUsage, fmt.Errorf("--name is needed")}
			}
			command.Line, command.Output = given, cmd.OutOrStdout()
			return flags.check(cmd, command.Check)
		},
	}
	flags.register(cmd, "")
	cmd.Flags().IntVar(&command.Wanted, "wanted", 0, "exit `code` that means yes; no is 1 if this is 0, and 0 otherwise; everything else is an error")
	cmd.Flags().StringVar(&form, "reasons", string(source.Lines), "`what` of the standard output is a reason: lines, bullets (lines that begin with \"* \"; needed for a yes), none")
	cmd.Flags().StringArrayVar(&flags.repeat.Paths, "watch", nil, "check again if this `file` changes meanwhile (may be given several times)")
	return cmd
}

func newSourceKernel() *cobra.Command {
	var flags sourceFlags
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "Look whether a newer kernel than the running one is installed",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			kernel, err := source.Host(func(line string) { fmt.Fprintln(cmd.OutOrStdout(), line) })
			if err == nil {
				flags.repeat.Paths = kernel.Paths()
			}
			return flags.check(cmd, func(context.Context) (source.Finding, error) {
				if err != nil {
					return source.Finding{}, err
				}
				return kernel.Check()
			})
		},
	}
	flags.register(cmd, "kernel")
	return cmd
}
