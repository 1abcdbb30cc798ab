package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/status"
)

func newStatus() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell what kured does on this node and what it waits for",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return &exitError{exitUsage, fmt.Errorf("--output %q: must be text or json", output)}
			}
			socket, err := cmd.Flags().GetString("socket")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			s, err := control.Client{Path: socket}.Status(ctx)
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			return printStatus(cmd.OutOrStdout(), s, time.Now())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	cmd.Flags().String("socket", control.DefaultPath, "control socket of the daemon")
	return cmd
}

// printStatus writes a status for people.
func printStatus(w io.Writer, s status.Status, now time.Time) error {
	var b strings.Builder
	row := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", key+":", fmt.Sprintf(format, args...))
	}
	name := s.Node
	if name == "" {
		name = "(not known yet)"
	}
	row("node", "%s", name)
	row("phase", "%s, for %s", s.Phase, ago(now, s.Since))
	if s.Reason != "" {
		row("reason", "%s", s.Reason)
	}
	if s.Detail != "" {
		row("detail", "%s", s.Detail)
	}
	if s.Next != nil {
		row("next", "%s (in %s)", s.Next.UTC().Format(time.RFC3339), ago(*s.Next, now))
	}
	if d := s.Demand; d != nil {
		row("wanted", "for %s, by %s", ago(now, d.Since), d.Path)
		if len(d.Reasons) > 0 {
			row("because", "%s", strings.Join(d.Reasons, ", "))
		}
	}
	if q := s.Queue; q != nil {
		showQueue(row, *q)
	}
	if d := s.Drain; d != nil {
		row("drain", "%d of %d pods gone", d.Gone, d.Pods)
		for _, held := range d.Held {
			fmt.Fprintf(&b, "%10s%s\n", "", held)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// showQueue adds what is known of the lock.
func showQueue(row func(label, format string, args ...any), q status.Queue) {
	line := "free"
	if len(q.Holders) > 0 {
		line = "held by " + strings.Join(q.Holders, ", ")
	}
	if q.Zone != "" {
		line += " of zone " + q.Zone
	}
	if q.Limit > 0 {
		line += fmt.Sprintf("; %d allowed", q.Limit)
	}
	if q.Place > 0 {
		line += fmt.Sprintf("; place %d of %d in the queue", q.Place, q.Waiting)
	}
	if len(q.Holders)+q.Waiting+len(q.Unavailable) > 0 {
		row("lock", "%s", line)
	}
	if len(q.Unavailable) > 0 {
		row("down", "%s (they use up the same limit)", strings.Join(q.Unavailable, ", "))
	}
	if q.Uncounted != "" {
		row("down", "not counted: %s", q.Uncounted)
	}
	if q.Enforced != nil {
		keeper := "the API server"
		if !*q.Enforced {
			keeper = "the nodes alone; apply wall.yaml"
		}
		row("rules", "kept by %s", keeper)
	}
}

// ago is the time from then to now, in whole seconds.
func ago(now, then time.Time) time.Duration {
	return max(0, now.Sub(then)).Round(time.Second)
}
