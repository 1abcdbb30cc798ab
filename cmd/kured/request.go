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

func newPause() *cobra.Command {
	var o control.Order
	var until, socket string
	var all bool
	cmd := &cobra.Command{
		Use:   "pause --reason WHY [--until TIME]",
		Short: "Let this node, or with --all the whole cluster, not reboot for a while",
		Long: `Let this node, or with --all the whole cluster, not reboot for a while.

A node that has begun rolls back, unless it is shutting down already. The pause
outlives the daemon and the machine. It ends with "kured resume" or, with
--until, by itself: after a duration such as 2h30m, when the clock shows 15:04
next, or at a time such as "2026-12-01 08:00", all by this machine's time zone, or
2026-12-01T08:00:00Z.

For this node only root may do this. With --all it is written into the policy of
the lock, which takes the kubeconfig of a person with the right to do so. Exit
codes: 0 done; 64 wrong command line, 69 kured is not running, 70 any other error.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			if until != "" {
				end, err := control.ParseUntil(until, now)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("--until: %w", err)}
				}
				o.Until = &end
			}
			o.Reason = strings.TrimSpace(o.Reason)
			if err := o.Check(control.Pause, now); err != nil {
				return &exitError{exitUsage, fmt.Errorf("--reason: %w", err)}
			}
			if !all {
				return tellDaemon(cmd, socket, control.Pause, o)
			}
			var end time.Time
			if o.Until != nil {
				end = *o.Until
			}
			return pauseAll(cmd, end, o.Reason)
		},
	}
	cmd.Flags().StringVar(&o.Reason, "reason", "", "`why`, for those who ask later (required)")
	cmd.Flags().StringVar(&until, "until", "", "`time` at which it ends by itself")
	cmd.Flags().BoolVar(&all, "all", false, "the whole cluster")
	socketFlag(cmd, &socket)
	lockFlags(cmd.Flags())
	return cmd
}

func newResume() *cobra.Command {
	var socket string
	var all bool
	cmd := &cobra.Command{
		Use:   "resume",
		Short: `End what "kured pause" began`,
		Long: `End what "kured pause" began, for this node or with --all for the whole cluster.
Each ends only its own pause: a node stays paused by that of the cluster, and by
an annotation kured.dev/pause on its Node.

For this node only root may do this. With --all it takes the kubeconfig of a
person with the right to do so. Exit codes: 0 done, or it was so before; 64 wrong
command line, 69 kured is not running, 70 any other error.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all {
				return resumeAll(cmd)
			}
			return tellDaemon(cmd, socket, control.Resume, control.Order{})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the whole cluster")
	socketFlag(cmd, &socket)
	lockFlags(cmd.Flags())
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
