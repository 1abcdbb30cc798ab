package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/hook"
)

func newHook() *cobra.Command {
	var directory string
	cmd := &cobra.Command{
		Use:   "hook PHASE",
		Short: "Run the hooks of a phase (started by systemd)",
		Long: `Run the hooks of a phase, one after the other: the executable files in PHASE.d.

kured-hook@.service runs this when the daemon asks for it. It stops at the first
hook that does not exit with 0, and exits with 75 if that hook did, which means
"not now", and otherwise with 1.

Phases: ` + strings.Join(hook.Phases(), ", "),
		Args:      args(cobra.ExactArgs(1)),
		ValidArgs: hook.Phases(),
		RunE: func(cmd *cobra.Command, given []string) error {
			if !slices.Contains(hook.Phases(), given[0]) {
				return &exitError{exitUsage, fmt.Errorf("%q is no phase; the phases are %s", given[0], strings.Join(hook.Phases(), ", "))}
			}
			return runHooks(cmd, directory, given[0])
		},
	}
	cmd.Flags().StringVar(&directory, "directory", hook.DefaultDirectory, "`directory` in which PHASE.d is")
	return cmd
}

func runHooks(cmd *cobra.Command, directory, phase string) error {
	out := cmd.OutOrStdout()
	err := hook.Parts{
		Directory: directory,
		Output:    out,
		Log:       func(line string) { fmt.Fprintln(out, line) },
	}.Run(cmd.Context(), phase)
	if err == nil {
		return nil
	}
	// The daemon reads it from the unit; without a systemd there is nobody to tell.
	_, _ = daemon.SdNotify(false, "STATUS="+err.Error())
	code := hook.ExitFailed
	var part *hook.PartError
	if errors.As(err, &part) {
		code = part.Code
	}
	return &exitError{code, err}
}
