package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/status"
)

func newUncordon() *cobra.Command {
	var abandon bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "uncordon",
		Short: "After a reboot: prove that the node is well, uncordon it, free the lock",
		Long: `After a reboot: prove that the node is well, uncordon it, free the lock.

kured-uncordon.service runs this once at each boot. It does nothing where there
was no reboot of kured's, and undoes only kured's own cordon. It exits with 75
when it could not finish in time; systemd then starts it again.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := openHouse(cmd)
			if err != nil {
				return err
			}
			mode := cycle.Return
			if abandon {
				mode = cycle.Abandon
			} else {
				timeout += p.returnsWithin()
			}
			return p.comeBack(cmd.Context(), mode, timeout)
		},
	}
	configFlag(cmd)
	cmd.Flags().BoolVar(&abandon, "abandon", false, "give back cordon and lock now, without a reboot (used when the package is removed)")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to try, beside the times that the configuration lets it wait")
	return cmd
}

// comeBack goes the way back of this boot, tells the daemon meanwhile what it
// waits for, and gives notifications the time to arrive.
func (p *program) comeBack(ctx context.Context, mode cycle.Mode, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := false
	runner := cycle.Runner{Mode: mode, Boot: p.boot, Parts: p.parts(nil), Publish: func(s status.Status) {
		p.follow(s)
		if err := p.returning().write(s); err != nil && !told {
			told = true
			p.log.Warn(err.Error())
		}
	}}
	err := runner.Do(limited)
	if err == nil {
		p.returning().remove()
	}
	flushing, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // also for who was stopped
	defer stop()
	if err := p.notifier.Flush(flushing); err != nil {
		p.log.Warn(err.Error())
	}
	if err != nil {
		return &exitError{exitTempFail, fmt.Errorf("not done yet: %w", err)}
	}
	return nil
}
