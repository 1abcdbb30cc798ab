package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/present"
)

// planTimeout bounds the whole dry run.
const planTimeout = 2 * time.Minute

// exitHeldUp is the exit code of a plan that would not go through.
const exitHeldUp = 3

func newPlanDrain() *cobra.Command {
	var output present.Format
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a drain of this node would do now: who leaves, who stays, what is held",
		Long: `Show what a drain of this node would do now: which pods leave, in their order
and with the time that they get to stop; which stay and why; which are held, by
a PodDisruptionBudget or otherwise; which the configuration does not let go.

Nothing is changed: each eviction is a dry run. It is asked with the node's own
credential, and so runs on the node, as root. The API server looks at each pod
alone: a budget that lets one pod go lets each of several go in a dry run.

The exit code is 0 if the drain would go through, and 3 if something would hold
it up or the API server does not say. Where there is no answer: 64 wrong command
line, 78 wrong configuration, 70 any other error.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := openHouse(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), planTimeout)
			defer cancel()
			return p.tellPlan(ctx, cmd.OutOrStdout(), output)
		},
	}
	configFlag(cmd)
	outputFlag(cmd, &output, present.Text, present.JSON, present.YAML)
	return cmd
}

// tellPlan rehearses the drain and writes what it would do.
func (p *program) tellPlan(ctx context.Context, w io.Writer, output present.Format) error {
	name, report, err := p.rehearse(ctx)
	if err == nil {
		err = present.Drain(w, output, name, p.settings().Drain, report)
	}
	if err != nil {
		return &exitError{exitSoftware, err}
	}
	if report.Err() != nil {
		return &exitError{exitHeldUp, errors.New("")} // an answer, and nothing to say about it
	}
	return nil
}

// rehearse tries the drain with the node's own credential, which says the node's name.
func (p *program) rehearse(ctx context.Context) (string, drain.Report, error) {
	c, err := kube.Connect(ctx, p.identity())
	if err != nil {
		return "", drain.Report{}, err
	}
	defer c.CloseIdle()
	report, err := drain.PodsOf(c.Client, c.NodeName).Preflight(ctx, p.settings().Drain)
	return c.NodeName, report, err
}
