package cycle

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// acquire waits for our turn; a demand or a gate that goes away ends the wait.
func (r *Runner) acquire(ctx context.Context) error {
	demand := lock.Demand{Reason: strings.Join(r.demanded.Reasons, " "), Since: r.queuedAt, Shared: r.shared}
	asked := time.Now()
	reports := make(chan lock.Report, 1)
	err := r.during(ctx, func(ctx context.Context) error {
		return r.cluster.Turn.Acquire(ctx, demand, func(report lock.Report) { newest(reports, report) })
	}, watching{demand: true, gates: true, queue: reports})
	switch {
	case errors.Is(err, lock.ErrUnreadable):
		r.seen.Entry = UnreadableEntry
		return nil
	case errors.Is(err, lock.ErrOther):
		r.seen.Known = false // a late write of the boot before: see learn
		return nil
	case errors.Is(err, errChanged):
		r.seen.Waiting = true // perhaps; leaving when not in it is harmless
		return nil
	case err != nil:
		r.seen.Waiting = true
		return err
	}
	r.shared, r.lockLost = false, false
	r.seen.Entry, r.seen.Waiting, r.seen.Drained, r.seen.Failure = ThisBootEntry, false, false, nil
	r.holder = &lock.Holder{Since: time.Now(), Phase: status.Locked, Boot: r.Boot}
	r.seen.Known = false // our Node may have been cordoned, uncordoned or created anew while we waited
	r.Log.Info("lock taken", "phase", status.Locked, "waited", round(time.Since(asked)))
	return nil
}

func (r *Runner) cordon(ctx context.Context) error {
	var marked bool
	err := r.short(ctx, func(ctx context.Context) (err error) {
		marked, err = r.cluster.Self.Cordon(ctx)
		return err
	})
	if err != nil {
		return err
	}
	r.seen.Cordoned, r.seen.Drained = true, false
	if marked {
		r.seen.Mark, r.mark = ThisBootMark, r.Boot
		r.Log.Info("node cordoned", "phase", status.Locked)
	}
	return nil
}

func (r *Runner) drain(ctx context.Context) error {
	if err := r.advance(ctx, status.Draining); err != nil || !r.seen.Known {
		return err
	}
	if r.seen.Mark == NoMark {
		r.Log.Info("node was cordoned by somebody else, that cordon stays", "phase", status.Draining)
	}
	var result node.Result
	progress := make(chan node.Progress, 1)
	entries := r.cluster.Entries // the cluster may be left before the goroutine below begins
	err := r.during(ctx, func(ctx context.Context) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		go func() { stop(awaitLoss(ctx, entries, r.Boot)) }()
		result = r.cluster.Pods.Drain(ctx, r.Settings.Drain, func(p node.Progress) { newest(progress, p) })
		if !result.Drained && errors.Is(context.Cause(ctx), lock.ErrLost) {
			return lock.ErrLost
		}
		return result.Err
	}, watching{demand: true, gates: true, drain: progress})
	r.publish(func(s *status.Status) { s.Drain = nil })
	switch {
	case result.Drained:
		r.Log.Info(result.String(), "phase", status.Draining)
		r.seen.Drained = true
		r.seen.Known = false // somebody may have undone the cordon meanwhile
	case ctx.Err() != nil, errors.Is(err, errChanged):
		return nil
	case errors.Is(err, lock.ErrLost):
		r.lost()
	case errors.Is(result.Err, node.ErrDrainTimeout):
		r.seen.Failure = &Failure{status.DrainTimeout, result.String()}
	default:
		r.seen.Failure = &Failure{status.DrainFailed, result.String()}
	}
	return nil
}

// lookWhileDraining is how often a node that drains looks whether the lock is
// still its own: a drain can take long, and evicts pods all the time.
const lookWhileDraining = 30 * time.Second

// awaitLoss returns lock.ErrLost when the lock is not ours any more, and the
// error of ctx when that ends. What cannot be read is no loss: the fence before
// the reboot decides.
func awaitLoss(ctx context.Context, entries Entries, boot string) error {
	for {
		if err := sleep(ctx, lookWhileDraining); err != nil {
			return err
		}
		if own, err := entries.Read(ctx); err == nil && (own.Holder == nil || own.Holder.Boot != boot) {
			return lock.ErrLost
		}
	}
}

// advance writes the phase into our entry, which also proves that the lock is
// still ours. If it is not, what we knew is forgotten.
func (r *Runner) advance(ctx context.Context, phase status.Phase) error {
	if r.holder != nil && r.holder.Phase == phase && phase != status.Rebooting {
		return nil
	}
	err := r.short(ctx, func(ctx context.Context) error { return r.cluster.Turn.Advance(ctx, phase) })
	var paused *lock.PausedError
	switch {
	case errors.Is(err, lock.ErrLost):
		r.lost()
		return nil
	case errors.As(err, &paused):
		r.seen.Failure, r.seen.Known = &Failure{paused.Reason, paused.Detail}, false
		return nil
	}
	if err == nil && r.holder != nil {
		r.holder.Phase = phase
	}
	return err
}

// lost is when somebody released our lock while we held it. The next look
// finds who it was, and leads to what follows: see uncordon.
func (r *Runner) lost() { r.lockLost, r.seen.Known = true, false }

// reboot proves one last time that all holds: the lock by a quorum read and a
// compare-and-swap, then the gates and the sentinel. Then it asks logind.
func (r *Runner) reboot(ctx context.Context) error {
	if err := r.advance(ctx, status.Rebooting); err != nil || !r.seen.Known {
		return err
	}
	if s := r.Demand.State(); !s.Wanted {
		return nil
	}
	if v := r.checkGates(ctx); !v.Open {
		return nil // the next look decides
	}
	if err := r.Budget.Spend(); err != nil {
		r.seen.Failure = &Failure{status.BudgetUnreadable, err.Error()}
		return nil
	}
	r.Log.Info("rebooting: everything checked, asking logind", "phase", status.Rebooting, "boot", r.Boot)
	err := r.during(ctx, func(ctx context.Context) error {
		return r.Host.Reboot(ctx, r.Settings.ConfirmWithin)
	}, watching{})
	if ctx.Err() != nil {
		return nil // systemd stops us: it is going down
	}
	var refused *logind.RefusedError
	switch {
	case err == nil:
		r.seen.ShuttingDown = true
		return nil
	case errors.As(err, &refused):
		r.seen.Failure = &Failure{status.RebootRefused, err.Error()}
	case errors.Is(err, logind.ErrUnconfirmed):
		r.seen.Failure = &Failure{status.RebootUnconfirmed, err.Error()}
	default:
		// Nobody can say that it will not go down, so nothing is given back.
		r.seen.ShuttingDown = true
		r.Log.Warn("logind cannot be asked any more, the machine is probably going down: "+err.Error(), "reason", status.RebootUnknown)
		return nil
	}
	if err := r.Budget.Refund(); err != nil {
		r.Log.Warn("the refused reboot still counts: " + err.Error())
	}
	return nil
}

// awaitShutdown waits for the end of this boot. Only logind's word that no
// shutdown is under way ends the wait; that it takes long is told.
func (r *Runner) awaitShutdown(ctx context.Context) error {
	overdue := time.Now().Add(r.Settings.Overdue)
	for told := false; ctx.Err() == nil; {
		waiting, cancel := ctx, context.CancelFunc(func() {})
		if !told {
			waiting, cancel = context.WithDeadline(ctx, overdue)
		}
		err := r.during(waiting, r.Host.AwaitCancelled, watching{})
		cancel()
		switch {
		case err == nil:
			r.seen.ShuttingDown = false
			r.seen.Failure = &Failure{status.RebootCancelled, "logind prepares no shutdown any more"}
			return nil
		case ctx.Err() != nil:
			return nil
		case !told && !time.Now().Before(overdue):
			told = true
			detail := "the reboot was accepted and the machine is still up: lock and cordon are kept, a person is needed"
			r.Log.Error(detail, "phase", status.Rebooting, "reason", status.RebootOverdue, "after", r.Settings.Overdue)
			r.publish(func(s *status.Status) { s.Reason, s.Detail = status.RebootOverdue, detail })
			continue
		case !told:
			// The bus goes early in a shutdown. If it was only restarted, logind's own word counts again.
			r.publish(func(s *status.Status) { s.Reason, s.Detail = status.RebootUnknown, err.Error() })
		}
		if r.pause(ctx, 5*time.Second) != nil {
			return nil
		}
	}
	return nil
}
