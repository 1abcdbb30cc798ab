package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

// Exit codes of the commands that ask the daemon, where there is no answer, as
// in sysexits(3). Smaller ones are answers.
const (
	exitUnavailable = 69 // EX_UNAVAILABLE: the daemon is not running
	exitSoftware    = 70 // EX_SOFTWARE: everything else
)

// stateCode is the exit code that a state is for those who ask. A phase of a
// newer daemon that is not known here is exitSoftware.
func stateCode(s status.Status) int {
	switch s.Glance() {
	case status.Quiet:
		return 0
	case status.Waiting:
		return 1
	case status.Busy:
		return 2
	case status.Stopped:
		return 3
	case status.Failed:
		return 4
	}
	return exitSoftware
}

// stateCodes is stateCode for the help of a command.
const stateCodes = `Exit codes: 0 no reboot is wanted; 1 one is wanted: starting, queued or backing
off; 2 in a cycle: locked, draining, rebooting, returning or rolling back; 3
blocked; 4 failed: held, or nothing goes on any more. Where there is no answer:
64 wrong command line, 69 kured is not running, 70 any other error.`

// exitState ends a command that has answered with a state.
func exitState(s status.Status) error {
	code := stateCode(s)
	if code == 0 {
		return nil
	}
	return &exitError{code, errors.New("")} // an answer, and nothing to say about it
}

// asDaemonError gives an error of control.Client its exit code.
func asDaemonError(err error) error {
	var coded *exitError
	var refused *control.RefusedError
	switch {
	case err == nil, errors.As(err, &coded):
		return err
	case errors.Is(err, control.ErrNotRunning):
		return &exitError{exitUnavailable, err}
	case errors.As(err, &refused) && refused.Code == http.StatusBadRequest:
		return &exitError{exitUsage, err}
	}
	return &exitError{exitSoftware, err}
}

// askLimit bounds a question that the daemon answers at once.
const askLimit = 5 * time.Second

// statusOptions are the flags of kured status.
type statusOptions struct {
	output present.Format
	watch  bool
	all    bool
	socket string
}

func newStatus() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell what kured does on this node and what it waits for",
		Long: `Tell what kured does on this node and what it waits for, or with --all on every
node of the cluster. The daemon answers; where it is not running the command
says so, and what the API server knows of this node.

With --watch it goes on telling until it is interrupted, also while the daemon
is started anew: on a terminal in its place, elsewhere a line for each change.
Colours are only on a terminal, and not if $NO_COLOR is set.

` + stateCodes + `
With --all it is 0 if all nodes could be listed.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.all {
				return statusAll(cmd, o)
			}
			if o.watch {
				return watchStatus(cmd, o)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), askLimit)
			defer cancel()
			s, err := control.Client{Path: o.socket}.Status(ctx)
			if errors.Is(err, control.ErrNotRunning) {
				return lookElsewhere(cmd, o, err)
			}
			if err != nil {
				return asDaemonError(err)
			}
			if err := present.Status(cmd.OutOrStdout(), o.output, s, time.Now()); err != nil {
				return asDaemonError(err)
			}
			return exitState(s)
		},
	}
	outputFlag(cmd, &o.output, present.Text, present.Wide, present.JSON, present.YAML)
	flags := cmd.Flags()
	flags.BoolVar(&o.all, "all", false, "every node, from the API server")
	flags.BoolVarP(&o.watch, "watch", "w", false, "go on telling what changes")
	socketFlag(cmd, &o.socket)
	lockFlags(flags)
	return cmd
}

// socketFlag adds --socket to a command.
func socketFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "socket", control.DefaultPath, "`path` of the daemon's control socket")
}

// lookElsewhere is for a daemon that is down: people are shown what the API
// server knows of this node, and the exit code stays that of down.
func lookElsewhere(cmd *cobra.Command, o statusOptions, down error) error {
	if o.output.ForPeople() {
		ctx, cancel := context.WithTimeout(cmd.Context(), askLimit)
		defer cancel()
		row, err := statusElsewhere(ctx, cmd)
		if err != nil {
			down = fmt.Errorf("%w\nand the API server cannot be asked for this node: %w", down, err)
		} else if err := present.Row(cmd.OutOrStdout(), row, time.Now()); err != nil {
			return asDaemonError(err)
		}
	}
	return &exitError{exitUnavailable, down}
}
