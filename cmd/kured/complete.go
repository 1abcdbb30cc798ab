package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/present"
)

// completeWithin bounds the question to the cluster: somebody waits at a prompt.
const completeWithin = 2 * time.Second

// completeNodes completes NODE of "kured lock release" by the nodes that are in
// the lock, or by nothing if they cannot be asked for in time.
func completeNodes(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	o, err := openLock(ctx, cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	listing, err := o.viewer.List(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var nodes []cobra.Completion
	for _, holder := range listing.Holders {
		nodes = append(nodes, cobra.CompletionWithDesc(present.Line(holder.Node), "holds the lock: "+string(holder.Phase)))
	}
	for _, odd := range listing.Unreadable {
		if odd.Node != "" {
			nodes = append(nodes, cobra.CompletionWithDesc(present.Line(odd.Node), "has an entry that cannot be read"))
		}
	}
	for _, waiter := range listing.Waiters {
		nodes = append(nodes, cobra.CompletionWithDesc(present.Line(waiter.Node), "waits"))
	}
	return nodes, cobra.ShellCompDirectiveNoFileComp
}
