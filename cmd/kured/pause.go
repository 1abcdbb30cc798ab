package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/present"
)

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

// pauseAll has no node begin any more, by the policy of the lock. A zero until is no end.
func pauseAll(cmd *cobra.Command, until time.Time, reason string) error {
	return writePolicy(cmd, "a pause of all nodes", func(ctx context.Context, p fleet.Pauser) ([]string, error) {
		return p.Pause(ctx, until, reason)
	})
}

// resumeAll ends what pauseAll began.
func resumeAll(cmd *cobra.Command) error {
	return writePolicy(cmd, "the end of a pause of all nodes", func(ctx context.Context, p fleet.Pauser) ([]string, error) {
		return p.Resume(ctx)
	})
}

// writePolicy does something to the policy with a person's credential, and tells what was done.
func writePolicy(cmd *cobra.Command, what string, do func(context.Context, fleet.Pauser) ([]string, error)) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), lockTimeout)
	defer cancel()
	o, err := openLock(ctx, cmd)
	if err != nil {
		return asDaemonError(err)
	}
	if o.person.Node != "" {
		// The API server would refuse it, less clearly.
		return asDaemonError(fmt.Errorf("%s is the credential of the node %s: %s is a person's decision, give a person's with --kubeconfig", o.person.Kubeconfig, o.person.Node, what))
	}
	if o.store.PolicyName == "" {
		return asDaemonError(errors.New("lock.policy is empty: the nodes read no policy, so there is none to write"))
	}
	p := fleet.Pauser{Client: o.person.Client, Namespace: o.store.Namespace, Policy: o.store.PolicyName, By: o.person.User}
	if p.By == "" {
		p.By = "somebody whom the API server does not name"
	}
	if cmd.Flags().Changed("name") {
		p.Lock = o.store.Name // one of several that share the policy
	}
	done, err := do(ctx, p)
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("nothing was changed: %w\nit needs the rights to get, create and patch the ConfigMap %s/%s", err, p.Namespace, p.Policy)
	}
	if err != nil {
		return asDaemonError(err)
	}
	var b strings.Builder
	for _, line := range done {
		b.WriteString(present.Line(line) + "\n")
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), b.String())
	return asDaemonError(err)
}
