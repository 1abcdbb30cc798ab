package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

// statusAll tells of every node of the pool what the API server knows. It needs no daemon.
func statusAll(cmd *cobra.Command, o statusOptions) error {
	ctx := cmd.Context()
	limited, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	opened, err := openLock(limited, cmd)
	if err != nil {
		return asDaemonError(err)
	}
	all := opened.fleet()
	if o.watch {
		return watchAll(cmd, o, all)
	}
	v, err := all.List(limited)
	if err != nil {
		return asDaemonError(err)
	}
	return asDaemonError(present.Fleet(cmd.OutOrStdout(), o.output, v))
}

// fleet is the pool of the lock that was opened.
func (o *opened) fleet() fleet.Fleet {
	return fleet.Fleet{Client: o.person.Client, Selector: o.cfg.Lock.NodeSelector, Lock: o.store, Viewer: o.viewer}
}

// statusElsewhere is what the API server knows of this node. It is asked where the daemon is down.
func statusElsewhere(ctx context.Context, cmd *cobra.Command) (fleet.Row, error) {
	opened, err := openLock(ctx, cmd)
	if err != nil {
		return fleet.Row{}, err
	}
	name := cmp.Or(opened.person.Node, opened.cfg.Kubernetes.NodeName)
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return fleet.Row{}, fmt.Errorf("which node this is: %w", err)
		}
		name = strings.ToLower(strings.TrimSpace(name)) // as kubelets do it
	}
	r, found, err := opened.fleet().One(ctx, name)
	switch {
	case err != nil:
		return fleet.Row{}, err
	case !found:
		return fleet.Row{}, fmt.Errorf("there is no node %s", status.Clean(name, 253))
	}
	return r, nil
}
