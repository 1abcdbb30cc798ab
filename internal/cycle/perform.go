package cycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// requestTimeout bounds each short conversation with the API server.
const requestTimeout = 30 * time.Second

// perform does one action. It returns nil when it is done or when something
// happened that asks for a new decision, and an error when it could not do it.
func (r *Runner) perform(ctx context.Context, act Action) error {
	switch act.Do {
	case Learn:
		return r.learn(ctx)
	case WaitForDemand:
		return r.rest(ctx)
	case WaitForGates:
		return r.waitForGates(ctx)
	case WaitBackOff:
		return r.wait(ctx, time.Until(r.restTill))
	case LeaveRoom:
		return r.change(ctx, func(ctx context.Context) error { return r.cluster.Turn.Release(ctx) })
	case Acquire:
		return r.acquire(ctx)
	case Cordon:
		return r.cordon(ctx)
	case Drain:
		return r.drain(ctx)
	case Reboot:
		return r.reboot(ctx)
	case AwaitShutdown:
		return r.awaitShutdown(ctx)
	case RollBack:
		return r.rollBack(ctx, act)
	case Uncordon:
		return r.uncordon(ctx)
	case AwaitReturn:
		return r.awaitReturn(ctx)
	case HoldFast:
		return r.lookAgain(ctx)
	case Verify:
		return r.verify(ctx)
	case ComeBack:
		return r.comeBack(ctx)
	}
	return fmt.Errorf("no such action: %d", act.Do)
}

// connect dials if need be.
func (r *Runner) connect(ctx context.Context) error {
	if r.cluster != nil {
		return nil
	}
	var c *Cluster
	err := r.during(ctx, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		c, err = r.Dial(ctx)
		return err
	}, watching{})
	if err != nil {
		return err
	}
	r.cluster = c
	r.Log = r.Log.With("node", c.Node)
	r.publish(func(s *status.Status) { s.Node = c.Node })
	return nil
}

// learn reads what the cluster knows of us.
func (r *Runner) learn(ctx context.Context) error {
	if err := r.connect(ctx); err != nil {
		return err
	}
	var own lock.Own
	var self node.State
	err := r.short(ctx, func(ctx context.Context) (err error) {
		if own, err = r.cluster.Entries.Read(ctx); err != nil && !errors.Is(err, lock.ErrUnreadable) {
			return err
		}
		unreadable := err != nil
		if self, err = r.cluster.Self.Get(ctx); err != nil {
			return err
		}
		o := &r.seen
		o.Entry, o.Waiting, o.Cordoned, o.Mark = NoEntry, own.Waiting, self.Unschedulable, NoMark
		switch {
		case unreadable:
			o.Entry = UnreadableEntry
		case own.Holder != nil && own.Holder.Boot == r.Boot:
			o.Entry = ThisBootEntry
		case own.Holder != nil:
			o.Entry = OtherBootEntry
		}
		switch self.Mark {
		case "":
		case r.Boot:
			o.Mark = ThisBootMark
		default:
			o.Mark = OtherBootMark
		}
		r.holder = own.Holder
		return nil
	})
	if err != nil {
		return err
	}
	if r.seen.Entry == ThisBootEntry && r.Mode == Run && !r.seen.ShuttingDown && own.Holder.Phase == status.Rebooting {
		// A daemon that was restarted after it called Reboot.
		going, err := r.Host.PreparingForShutdown(ctx)
		if err != nil {
			return &reasoned{status.LogindUnavailable, fmt.Errorf("ask logind whether the machine is going down: %w", err)}
		}
		r.seen.ShuttingDown = going
	}
	if r.seen.Entry != ThisBootEntry {
		r.seen.Drained, r.seen.Failure = false, nil
	}
	r.seen.Known = true
	return nil
}

// rest is the idle state: no connection, no timer, no memory that is not needed.
func (r *Runner) rest(ctx context.Context) error {
	known := r.seen.Known
	r.disconnect()
	err := r.during(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, watching{demand: true})
	// What happens in the cluster while we idle is not seen: look when there is a demand, not before.
	r.seen.Known = known && !r.Demand.State().Wanted
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

// waitForGates waits until a gate or the demand changes, or patience ends.
func (r *Runner) waitForGates(ctx context.Context) error {
	if r.seen.Entry == NoEntry {
		r.shared = r.seen.Gates.Reason != status.Inhibited // a window opens for many, a package manager ends for one
	}
	patience := time.Duration(-1)
	if r.seen.Entry == ThisBootEntry {
		patience = time.Until(r.waitTill)
	}
	err := r.during(ctx, func(ctx context.Context) error {
		changed := r.Gates.Watch(ctx)
		var ends <-chan time.Time
		if patience >= 0 {
			t := time.NewTimer(patience)
			defer t.Stop()
			ends = t.C
		}
		select {
		case <-changed:
		case <-ends:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, watching{demand: true})
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

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
	case errors.Is(err, errChanged):
		r.seen.Waiting = true // perhaps; leaving when not in it is harmless
		return nil
	case err != nil:
		r.seen.Waiting = true
		return err
	}
	r.shared = false
	r.seen.Entry, r.seen.Waiting, r.seen.Drained, r.seen.Failure = ThisBootEntry, false, false, nil
	r.holder = &lock.Holder{Since: time.Now(), Phase: status.Locked, Boot: r.Boot}
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
		r.seen.Mark = ThisBootMark
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
	err := r.during(ctx, func(ctx context.Context) error {
		result = r.cluster.Pods.Drain(ctx, r.Settings.Drain, func(p node.Progress) { newest(progress, p) })
		return nil
	}, watching{demand: true, gates: true, drain: progress})
	r.publish(func(s *status.Status) { s.Drain = nil })
	switch {
	case result.Drained:
		r.Log.Info(result.String(), "phase", status.Draining)
		r.seen.Drained = true
		r.seen.Known = false // somebody may have undone the cordon meanwhile
	case ctx.Err() != nil, errors.Is(err, errChanged):
		return nil
	case errors.Is(result.Err, node.ErrDrainTimeout):
		r.seen.Failure = &Failure{status.DrainTimeout, result.String()}
	default:
		r.seen.Failure = &Failure{status.DrainFailed, result.String()}
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
	if errors.Is(err, lock.ErrLost) {
		r.lost()
		return nil
	}
	if err == nil && r.holder != nil {
		r.holder.Phase = phase
	}
	return err
}

// lost is when somebody released our lock while we held it: give up this try
// and do not come back at once.
func (r *Runner) lost() {
	r.Log.Warn("this node does not hold the lock any more: somebody released it", "reason", status.LockLost)
	r.backOff()
	r.seen.Known = false
}

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

// awaitShutdown waits for the end of this boot. Only logind's word that the
// shutdown is cancelled ends the wait; that it takes long is told.
func (r *Runner) awaitShutdown(ctx context.Context) error {
	overdue := time.AfterFunc(r.Settings.Overdue, func() {
		r.Log.Error("the reboot was accepted and the machine is still up: lock and cordon are kept, a person is needed",
			"phase", status.Rebooting, "reason", status.RebootOverdue, "after", r.Settings.Overdue)
	})
	defer overdue.Stop()
	for ctx.Err() == nil {
		err := r.during(ctx, r.Host.AwaitCancelled, watching{})
		if err == nil {
			r.seen.ShuttingDown = false
			r.seen.Failure = &Failure{status.RebootCancelled, "logind prepares no shutdown any more"}
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		// The bus goes early in a shutdown; if it was only restarted, logind's own word counts again.
		if r.pause(ctx, 5*time.Second) != nil {
			return nil
		}
	}
	return nil
}

// rollBack gives back what is ours, in the order that brings the node back
// into service first.
func (r *Runner) rollBack(ctx context.Context, act Action) error {
	uncordoned := false
	err := r.change(ctx, func(ctx context.Context) (err error) {
		if r.seen.Mark != NoMark {
			if uncordoned, err = r.cluster.Self.Uncordon(ctx); err != nil {
				return err
			}
		}
		return r.cluster.Turn.Release(ctx)
	})
	if err != nil {
		return err
	}
	failed := act.Reason != status.SentinelGone && act.Reason != status.Abandoned
	var next time.Duration
	if failed && (uncordoned || r.seen.Failure != nil) {
		next = r.backOff()
	}
	r.seen.Failure = nil
	message := "rolled back: lock released"
	if uncordoned {
		message = "rolled back: uncordoned, lock released"
	}
	if next > 0 {
		message += ", next try in " + next.String()
	}
	r.Log.Info(message, "phase", status.RollingBack, "reason", act.Reason)
	return nil
}

// uncordon takes off a cordon of ours that has no lock behind it.
func (r *Runner) uncordon(ctx context.Context) error {
	err := r.change(ctx, func(ctx context.Context) error {
		_, err := r.cluster.Self.Uncordon(ctx)
		return err
	})
	if err == nil {
		r.backOff()
		r.Log.Warn("uncordoned: the lock of this node was released by somebody else", "reason", status.LockLost)
	}
	return err
}

// backOff starts the pause after a try that came to nothing.
func (r *Runner) backOff() time.Duration {
	r.attempts++
	pause := min(r.Settings.BackOffMax, r.Settings.BackOff<<min(r.attempts-1, 16))
	r.restTill = time.Now().Add(pause)
	r.queuedAt = time.Now() // at the end of the queue
	return pause
}

// wait is a pause that a change of the demand ends.
func (r *Runner) wait(ctx context.Context, d time.Duration) error {
	err := r.during(ctx, func(ctx context.Context) error { return sleep(ctx, d) }, watching{demand: true})
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

// lookAgainEvery is how often a node looks that waits for another process or
// a person. It is in a cycle, so this is not idle cost.
const lookAgainEvery = 15 * time.Second

func (r *Runner) lookAgain(ctx context.Context) error {
	r.seen.Known = false
	return r.wait(ctx, lookAgainEvery)
}

// awaitReturn waits for kured-uncordon.service. If that takes long it says
// where to look: a health check may hold boot-complete.target, on purpose.
func (r *Runner) awaitReturn(ctx context.Context) error {
	if waited := time.Since(r.now.Since); waited > r.Settings.Overdue && !r.nagged {
		r.nagged = true
		r.Log.Error("the node has rebooted and is not back in service: look at systemctl status kured-uncordon.service boot-complete.target",
			"phase", status.Returning, "reason", status.AwaitingReturn, "after", round(waited))
	}
	return r.lookAgain(ctx)
}

// verify waits until the node is Ready in this boot.
func (r *Runner) verify(ctx context.Context) error {
	if r.holder != nil {
		r.Log.Info("rebooted: the boot id changed", "phase", status.Returning, "boot_before", r.holder.Boot, "boot", r.Boot)
	}
	missing := make(chan string, 1)
	err := r.during(ctx, func(ctx context.Context) error {
		return r.cluster.Readiness.AwaitReadyReport(ctx, func(what string) { newest(missing, what) })
	}, watching{missing: missing})
	if err != nil {
		return err
	}
	r.seen.Verified = true
	r.Log.Info("node is Ready in this boot", "phase", status.Returning)
	return nil
}

// comeBack ends the story: pods may come again, the next node may go.
func (r *Runner) comeBack(ctx context.Context) error {
	uncordoned := false
	err := r.change(ctx, func(ctx context.Context) (err error) {
		if r.seen.Mark != NoMark {
			if uncordoned, err = r.cluster.Self.Uncordon(ctx); err != nil {
				return err
			}
		}
		return r.cluster.Turn.Release(ctx)
	})
	if err != nil {
		return err
	}
	message, held := "back in service: lock released", ""
	if r.holder != nil && !r.holder.Since.IsZero() {
		held = round(time.Since(r.holder.Since))
	}
	if !uncordoned {
		message = "lock released; the node was cordoned by somebody else and stays so"
	}
	r.Log.Info(message, "phase", status.Returning, "uncordoned", uncordoned, "held_lock_for", held)
	return nil
}

// change does something to the cluster after which all must be read anew.
func (r *Runner) change(ctx context.Context, do func(context.Context) error) error {
	err := r.connect(ctx)
	if err == nil {
		err = r.short(ctx, do)
	}
	r.seen.Known = false
	return err
}

// short runs a short conversation with the API server to its end.
func (r *Runner) short(ctx context.Context, do func(context.Context) error) error {
	return r.during(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		return do(ctx)
	}, watching{})
}

// mayGoOn is asked while a step runs that the demand or a gate can end.
func (r *Runner) mayGoOn(ctx context.Context, w watching) bool {
	if s := r.Demand.State(); !s.Wanted {
		return false
	}
	if !w.gates {
		return true
	}
	check, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	v := r.Gates.Check(check)
	return v.Open || v.Passing && w.drain != nil
}
