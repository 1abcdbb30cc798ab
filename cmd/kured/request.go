package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

// orderCodes is the end of the help of the commands that tell the daemon something.
const orderCodes = `Only root may do this. Exit codes: 0 done, or it was so before; 64 wrong command
line, 69 kured is not running, 70 any other error.`

func newRequest() *cobra.Command {
	var reason, socket string
	cmd := &cobra.Command{
		Use:   "request [--reason WHY]",
		Short: "Ask for a reboot of this node, in its turn",
		Long: `Ask for a reboot of this node, in its turn.

kured goes on as if the operating system had asked: gates, lock, drain, reboot.
"kured status --watch" shows how far it is, "kured cancel" withdraws it. The
reboot itself ends the request.

` + orderCodes,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := control.Order{Reason: strings.TrimSpace(reason)}
			if err := o.Check(control.Request, time.Now()); err != nil {
				return &exitError{exitUsage, fmt.Errorf("--reason: %w", err)}
			}
			return tellDaemon(cmd, socket, control.Request, o)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`why`, for those who ask later")
	socketFlag(cmd, &socket)
	return cmd
}

func newCancel() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "cancel",
		Short: `Withdraw what "kured request" asked for`,
		Long: `Withdraw what "kured request" asked for.

A node that has begun rolls back: it takes pods again and lets the next node go.
What else asks for a reboot, such as a new kernel, goes on asking, and is named.

` + orderCodes,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tellDaemon(cmd, socket, control.Cancel, control.Order{})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// tellDaemon has an order carried out and says what was done.
func tellDaemon(cmd *cobra.Command, socket string, verb control.Verb, o control.Order) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), askLimit)
	defer cancel()
	// The uid is root's in any case; sudo(8) knows who it was.
	o.By = status.Clean(os.Getenv("SUDO_USER"), control.MaxBy)
	done, err := control.Client{Path: socket}.Do(ctx, verb, o)
	if err != nil {
		return asDaemonError(err)
	}
	for _, line := range done.Text {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), present.Line(line)); err != nil {
			return asDaemonError(err)
		}
	}
	return nil
}
