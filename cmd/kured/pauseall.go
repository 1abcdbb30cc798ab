package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/present"
)

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
