package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/explain"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

// gatesTimeout bounds a question to all gates; the daemon itself gives up before.
const gatesTimeout = time.Minute

func newWhy() *cobra.Command {
	var output present.Format
	var socket string
	cmd := &cobra.Command{
		Use:   "why",
		Short: "Tell in sentences what is in the way of the reboot, and what helps",
		Long: `Tell in sentences what is in the way of the reboot, and what helps: what kured
does and since when, what is in the way now, what would be in the way next, and
what happens by itself.

Every gate is asked anew, those behind a closed one too, so this can take some
seconds and makes requests to the API server. While no reboot is wanted it tells
which gates would be closed.

` + stateCodes,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, s, err := reasons(cmd.Context(), control.Client{Path: socket})
			if err != nil {
				return absent(cmd.Context(), err)
			}
			if err := present.Why(cmd.OutOrStdout(), output, a); err != nil {
				return asDaemonError(err)
			}
			return exitState(s)
		},
	}
	outputFlag(cmd, &output, present.Text, present.JSON, present.YAML)
	socketFlag(cmd, &socket)
	return cmd
}

// reasons asks the gates first: they can take a while, and the status is to be newer.
func reasons(ctx context.Context, daemon control.Client) (present.Answer, status.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, gatesTimeout+5*time.Second)
	defer cancel()
	asking, stop := context.WithTimeout(ctx, gatesTimeout)
	defer stop()
	gates, gatesErr := daemon.Gates(asking)
	s, err := daemon.Status(ctx)
	if err != nil {
		return present.Answer{}, status.Status{}, err
	}
	a := present.Answer{Node: s.Node, Phase: s.Phase, Reason: s.Reason, Points: explain.Explain(s, gates, time.Now(), time.Local)}
	if gatesErr != nil {
		a.GatesError = status.Clean(gatesErr.Error(), 200)
	}
	return a, s, nil
}

// absent is the error of a daemon that does not answer: what systemd says of
// it, and where else to look.
func absent(ctx context.Context, err error) error {
	coded := asDaemonError(err)
	if !errors.Is(err, control.ErrNotRunning) {
		return coded
	}
	if unit := unitState(ctx); unit != "" {
		coded = fmt.Errorf("%w\nsystemd says: kured.service is %s", coded, unit)
	}
	return fmt.Errorf("%w\nwhat the cluster knows of this node: kured status --all", coded)
}

// unitState is what systemd says of the daemon's unit: "inactive (dead)",
// "failed (exit-code)"; empty if it cannot be asked (systemctl(1), show).
func unitState(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", "kured.service").Output()
	if err != nil {
		return ""
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			said[key] = status.Clean(value, 40)
		}
	}
	switch {
	case said["LoadState"] != "" && said["LoadState"] != "loaded":
		return said["LoadState"]
	case said["ActiveState"] == "":
		return ""
	case said["ActiveState"] == "failed":
		return "failed (" + said["Result"] + ")"
	}
	return said["ActiveState"] + " (" + said["SubState"] + ")"
}
