package cycle

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
)

// acquire waits for our turn; a demand or a gate that goes away ends the wait.
func (r *Runner) acquire(ctx context.Context) error {
	demand := lock.Demand{Reason: strings.Join(r.demanded.Reasons, " "), Since: r.standing.Queued, Shared: r.shared}
	asked := time.Now()
	reports := make(chan lock.Report, 1)
	err := r.during(ctx, func(ctx context.Context) error {
		waits := r.waitingSign(ctx)
		defer waits.put()
		return r.cluster.Turn.Acquire(ctx, demand, func(report lock.Report) {
			if report.Reason != "" {
				waits.once()
			}
			newest(reports, report)
		})
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
	r.seen.Entry, r.seen.Waiting, r.seen.Failure = ThisBootEntry, false, nil
	r.done, r.undone = 0, 0
	r.holder = &lock.Holder{Since: time.Now(), Phase: status.Locked, Boot: r.Boot}
	r.seen.Known = false // our Node may have been cordoned, uncordoned or created anew while we waited
	r.log().Info("lock taken", "phase", status.Locked, "waited", round(time.Since(asked)))
	return nil
}

// maxUndone is how often in one try a cordon is set again.
const maxUndone = 3

// cordon begins the steps. If it was done before in this try somebody has taken
// the cordon off: new pods may have come, so all begins again; but not for ever.
func (r *Runner) cordon(ctx context.Context) error {
	again := r.done >= Cordon && !r.seen.Cordoned
	if again && r.undone == maxUndone {
		r.seen.Failure = &Failure{Reason: status.DrainFailed, Detail: "somebody uncordons the node again and again"}
		return nil
	}
	var marked bool
	err := r.short(ctx, func(ctx context.Context) (err error) {
		marked, err = r.cluster.Self.Cordon(ctx)
		return err
	})
	if err != nil {
		return err
	}
	r.seen.Cordoned, r.done = true, Cordon
	r.looked = time.Time{} // a pod that a gate waits for may have come just before
	r.ownCordon = marked
	if again {
		r.undone++
		r.log().Warn("somebody uncordoned the node in mid-cycle: all steps begin again", "phase", status.Draining)
	}
	if marked {
		r.seen.Mark, r.mark = ThisBootMark, r.Boot
		r.log().Info("node cordoned", "phase", status.Draining)
	} else {
		r.seen.Known = false // what else was put on the Node is read as a mark, and a roll-back has to take it off
	}
	return nil
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
		r.seen.Failure, r.seen.Known = &Failure{Reason: paused.Reason, Detail: paused.Detail}, false
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
	if r.seen.Gates = r.checkGates(ctx); !r.seen.Gates.Open {
		return nil // the next look decides
	}
	if s := r.Demand.State(); !s.Wanted || r.next != nil { // after the gates, which can take long
		return nil
	}
	if err := r.Budget.Spend(); err != nil {
		r.seen.Failure = &Failure{Reason: status.BudgetUnreadable, Detail: err.Error()}
		return nil
	}
	r.log().Info("rebooting: everything checked, asking logind", "phase", status.Rebooting, "boot", r.Boot)
	r.tell(status.EventReboot, "", "everything checked, asking logind")
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
		r.seen.Failure = &Failure{Reason: status.RebootRefused, Detail: err.Error()}
	case errors.Is(err, logind.ErrUnconfirmed):
		r.seen.Failure = &Failure{Reason: status.RebootUnconfirmed, Detail: err.Error()}
	default:
		// Nobody can say that it will not go down, so nothing is given back.
		r.seen.ShuttingDown = true
		r.log().Warn("logind cannot be asked any more, the machine is probably going down: "+err.Error(), "reason", status.RebootUnknown)
		return nil
	}
	if err := r.Budget.Refund(); err != nil {
		r.log().Warn("the refused reboot still counts: " + err.Error())
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
			r.seen.Failure = &Failure{Reason: status.RebootCancelled, Detail: "logind prepares no shutdown any more"}
			return nil
		case ctx.Err() != nil:
			return nil
		case !told && !time.Now().Before(overdue):
			told = true
			detail := "the reboot was accepted and the machine is still up: lock and cordon are kept, a person is needed"
			r.log().Error(detail, "phase", status.Rebooting, "reason", status.RebootOverdue, "after", r.Settings.Overdue)
			r.publish(func(s *status.Status) { s.Reason, s.Detail = status.RebootOverdue, detail })
			r.tell(status.EventHeld, status.RebootOverdue, detail)
			r.leaveSilence()
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
