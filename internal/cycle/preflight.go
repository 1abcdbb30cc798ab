package cycle

import (
	"context"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/status"
)

// rehearseAgain asks for another rehearsal of the drain before the node asks
// for the lock.
func (r *Runner) rehearseAgain() {
	r.seen.Preflight, r.seen.Obstacle = PreflightDone, ""
	if r.Settings.Preflight != PreflightOff || r.Settings.Rehearse {
		r.seen.Preflight = PreflightDue
	}
}

// rehearse asks what would hold up the drain, so that nobody holds the lock
// for a drain that cannot end.
func (r *Runner) rehearse(ctx context.Context) error {
	if r.shared { // many rehearse at this instant, with a request for each pod
		if err := r.wait(ctx, r.jitter(preflightSpread)); err != nil {
			return err
		}
	}
	if r.Settings.Rehearse {
		// What the API server refuses to show is better known before the node holds the lock.
		if err := r.short(ctx, r.cluster.Signs.Rehearse); err != nil {
			return err
		}
	}
	if r.Settings.Preflight == PreflightOff {
		r.seen.Preflight = PreflightDone
		return nil
	}
	report, err := r.preflight(ctx)
	if err != nil {
		return unlessDemand(err)
	}
	r.seen.Preflight = PreflightDone
	obstacles := report.Err()
	switch {
	case obstacles == nil:
	case r.Settings.Preflight == PreflightBlock:
		r.seen.Preflight, r.seen.Obstacle = PreflightBlocked, obstacles.Error()
	default:
		r.log().Warn("the drain would be held up now: "+obstacles.Error(), "phase", status.Queued, "reason", status.DrainBlocked)
	}
	return nil
}

func (r *Runner) preflight(ctx context.Context) (report drain.Report, err error) {
	err = r.during(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
		defer cancel()
		report, err = r.cluster.Pods.Preflight(ctx, r.Settings.Drain)
		return err
	}, watching{demand: true})
	return report, err
}

const (
	preflightTimeout = 2 * time.Minute
	preflightEvery   = 5 * time.Minute // each asks once for each pod
	preflightSpread  = 30 * time.Second
)

// waitPreflight waits until it is worth while to rehearse again.
func (r *Runner) waitPreflight(ctx context.Context) error {
	next := time.Now().Add(preflightEvery - r.jitter(preflightEvery/4))
	r.publish(func(s *status.Status) { s.Next = &next })
	err := r.wait(ctx, time.Until(next))
	r.rehearseAgain()
	return err
}

// showPlan says, with the lock in hand, what would be done now, and ends the
// try: a dry run touches nothing.
func (r *Runner) showPlan(ctx context.Context) error {
	report, err := r.preflight(ctx)
	if err != nil {
		return unlessDemand(err)
	}
	for line := range strings.Lines(report.String()) {
		r.log().Info("dry run: "+strings.TrimSpace(line), "phase", status.Locked, "reason", status.DryRun)
	}
	r.seen.Failure = &Failure{Reason: status.DryRun, Detail: "dry run: it is this node's turn; now it would be cordoned, drained and rebooted"}
	return nil
}
