package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kured-host/kured/internal/enroll"
	"github.com/kured-host/kured/internal/manifests"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/sentinel/source"
)

// completing tells the shells what stands behind a flag: files where its help says
// so, one of a few words where there are only those, and else nothing that they know.
// Only they need it, by cobra's hidden commands.
func completing(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	words := map[string][]cobra.Completion{
		"identity": texts(manifests.Identities()), "method": texts(enroll.Methods()), "reasons": texts(source.Forms()),
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.NonInheritedFlags().VisitAll(func(flag *pflag.Flag) {
			do := cobra.FixedCompletions(words[flag.Name], cobra.ShellCompDirectiveNoFileComp)
			var name string
			switch name, flag.Usage = pflag.UnquoteUsage(flag); name {
			case "file", "directory", "path":
				do = files
			case "format":
				do = cobra.FixedCompletions(texts(flag.Value.(*outputValue).allowed), cobra.ShellCompDirectiveNoFileComp)
			}
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, do) // fails for flags that are not there, or are told twice
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// files completes by files.
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func texts[T ~string](words []T) (all []cobra.Completion) {
	for _, word := range words {
		all = append(all, string(word))
	}
	return all
}

// completeWithin bounds the question to the cluster: somebody waits at a prompt.
const completeWithin = 2 * time.Second

// completeNodes completes NODE of "kured lock release" by the nodes that are in
// the lock, or by nothing if they cannot be asked for in time.
func completeNodes(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
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
