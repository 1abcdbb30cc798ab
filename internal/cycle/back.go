package cycle

import (
	"cmp"
	"context"
	"time"

	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/status"
)

// giveBack takes off our cordon, if there is one, and releases the lock: in the
// order that brings the node back into service first. A note of a release that
// did not come about, or comes too late, goes with the cordon.
func (r *Runner) giveBack(ctx context.Context) (uncordoned bool, err error) {
	begun := false
	err = r.change(ctx, func(ctx context.Context) (err error) {
		if r.seen.Mark != NoMark || r.note != nil {
			if uncordoned, err = r.cluster.Self.Uncordon(ctx, r.mark); err != nil {
				return err
			}
		}
		begun = true
		boot := r.Boot
		if r.holder != nil {
			boot = r.holder.Boot
		}
		return r.cluster.Turn.Release(ctx, boot)
	})
	if begun {
		r.done = 0 // what was done before is undone, whatever becomes of the release
	}
	return uncordoned, err
}

// release gives back the lock that was taken in that boot, and a place in the
// waiting room.
func (r *Runner) release(ctx context.Context, boot string) error {
	return r.change(ctx, func(ctx context.Context) error { return r.cluster.Turn.Release(ctx, boot) })
}

// rollBack ends a try that comes to nothing.
func (r *Runner) rollBack(ctx context.Context, act Action) error {
	uncordoned, err := r.giveBack(ctx)
	if err != nil {
		return err
	}
	failed := act.Reason != status.SentinelGone && act.Reason != status.Abandoned
	var next time.Duration
	switch {
	case act.Reason == status.DryRun:
		next = r.Settings.BackOffMax
		r.restTill, r.restFor, r.restWhy = time.Now().Add(next), act.Reason, act.Detail
	case failed && (uncordoned || r.seen.Failure != nil):
		next = r.backOff(act)
	}
	r.seen.Failure = nil
	r.unsilence(ctx)
	r.rehearseAgain()
	message := "rolled back: lock released"
	if uncordoned {
		message = "rolled back: uncordoned, lock released"
	}
	if next > 0 {
		message += ", next try in " + next.String()
	}
	r.log().Info(message, "phase", status.RollingBack, "reason", act.Reason)
	if failed && act.Reason != status.DryRun {
		r.tell(status.EventFailed, act.Reason, act.Detail+"; "+message)
	}
	return nil
}

// releasedBySomebody is what can be said where no note says more.
const releasedBySomebody = "the lock of this node was released by somebody else"

// uncordon takes off a cordon of ours, or an admin's note, that has no lock
// behind it any more. Who released the lock was told when the action was
// announced. The node does not come back at once, unless it has rebooted since.
func (r *Runner) uncordon(ctx context.Context, act Action) error {
	var uncordoned bool
	old := !r.lockLost && r.note != nil && r.note.Boot != "" && r.note.Boot != r.Boot
	err := r.change(ctx, func(ctx context.Context) (err error) {
		uncordoned, err = r.cluster.Self.Uncordon(ctx, r.mark)
		return err
	})
	if err != nil {
		return err
	}
	r.lockLost = false
	if old && !uncordoned {
		return nil
	}
	r.unsilence(ctx)
	message := "next try in " + r.backOff(act).String()
	if uncordoned {
		message = "uncordoned, " + message
	}
	r.log().Info(message, "phase", act.Phase, "reason", act.Reason)
	return nil
}

// backOff starts the pause after a try that came to nothing, as act says.
func (r *Runner) backOff(act Action) time.Duration {
	r.attempts++
	pause := min(r.Settings.BackOffMax, r.Settings.BackOff<<min(r.attempts-1, 16))
	r.restTill = time.Now().Add(pause)
	r.standing.Queued = time.Now() // at the end of the queue
	r.keep()
	r.restFor, r.restWhy = act.Reason, act.Detail
	return pause
}

// awaitReturn waits for kured-uncordon.service. If that takes long it says
// where to look: a health check may hold boot-complete.target, on purpose.
func (r *Runner) awaitReturn(ctx context.Context) error {
	if waited := time.Since(r.now.Since); waited > r.Settings.Overdue+r.Settings.WayBack && !r.nagged {
		r.nagged = true
		detail := "the node has rebooted and is not back in service: look at systemctl status kured-uncordon.service boot-complete.target"
		r.log().Error(detail, "phase", status.Returning, "reason", status.AwaitingReturn, "after", round(waited))
		r.tell(status.EventHeld, status.AwaitingReturn, detail)
	}
	return r.lookAgain(ctx)
}

// verify waits until the node has proved in every respect that it is well, in
// the order of the proofs. A node that does not keeps the lock, for as long as
// the configuration says.
func (r *Runner) verify(ctx context.Context) error {
	if r.holder != nil {
		r.log().Info("rebooted: the boot id changed", "phase", status.Returning, "boot_before", r.holder.Boot, "boot", r.Boot)
	}
	r.silence(ctx)
	until := ctx
	if !r.seen.GiveUp && !r.Settings.GiveUpAt.IsZero() {
		var cancel context.CancelFunc
		until, cancel = context.WithDeadline(ctx, r.Settings.GiveUpAt)
		defer cancel()
	}
	err := r.prove(until, r.cluster.Ready)
	if err == nil {
		err = r.hooksBack(until, hook.PostBoot)
	}
	if err == nil {
		err = r.prove(until, r.cluster.Well)
	}
	switch {
	case err != nil && until.Err() != nil && ctx.Err() == nil:
		return nil // it takes too long
	case err != nil:
		return err
	}
	r.seen.Verified = true
	r.log().Info("node is well in this boot", "phase", status.Returning)
	return nil
}

func (r *Runner) prove(ctx context.Context, proofs []Proof) error {
	for _, proof := range proofs {
		waits := make(chan missing, 1)
		err := r.during(ctx, func(ctx context.Context) error {
			return proof.Await(ctx, func(what string) { newest(waits, missing{proof.Reason, what}) })
		}, watching{missing: waits})
		if err != nil {
			return err
		}
	}
	return nil
}

// hooksAgain is how soon hooks of the way back are run again that did not end well.
const hooksAgain = 30 * time.Second

// hooksBack runs the hooks of a phase of the way back until they are well. The
// lock is kept meanwhile, if there is one.
func (r *Runner) hooksBack(ctx context.Context, phase string) error {
	if r.Hooks == nil {
		return nil
	}
	waits := make(chan missing, 1)
	return r.during(ctx, func(ctx context.Context) error {
		for told := ""; ; {
			err := r.Hooks.Run(ctx, phase, r.hookEnvironment())
			if err == nil || ctx.Err() != nil {
				return err
			}
			newest(waits, missing{hookReason(err), err.Error()})
			if told != err.Error() {
				told = err.Error()
				r.log().Warn("trying again in "+hooksAgain.String()+": "+oneLine(told), "phase", status.Returning, "reason", hookReason(err))
			}
			if err := sleep(ctx, hooksAgain); err != nil {
				return err
			}
		}
	}, watching{missing: waits})
}

// comeBack ends the story: pods may come again, the next node may go.
func (r *Runner) comeBack(ctx context.Context) error {
	if r.inService.IsZero() { // else only the release has failed
		if err := r.uncordonAfterReboot(ctx); err != nil {
			return err
		}
		r.inService = time.Now()
	}
	if r.holder == nil {
		what, reason := cmp.Or(r.seen.Released, releasedBySomebody), status.LockLost
		if r.seen.gaveUp() {
			what, reason = "the way back took too long, and the lock was released before", status.GaveUp
		}
		message := "back in service: " + what
		r.log().Warn(message, "phase", status.Returning, "reason", reason, "uncordoned", r.uncordonedNow)
		r.tell(status.EventBack, reason, message)
		r.seen.Known = false
		return nil
	}
	if next := r.inService.Add(r.Settings.ReleaseDelay); time.Now().Before(next) {
		r.publish(func(s *status.Status) {
			s.Reason, s.Detail, s.Next = status.ReleaseDelayed, "the lock is released at "+next.UTC().Format(time.RFC3339), &next
		})
		if err := r.pause(ctx, time.Until(next)); err != nil {
			return err
		}
	}
	if err := r.release(ctx, r.holder.Boot); err != nil {
		return err
	}
	message, held := "back in service: lock released", ""
	if !r.holder.Since.IsZero() {
		held = round(time.Since(r.holder.Since))
	}
	if !r.uncordonedNow && r.seen.Cordoned {
		message = "lock released; the node was cordoned by somebody else and stays so"
	}
	r.log().Info(message, "phase", status.Returning, "uncordoned", r.uncordonedNow, "held_lock_for", held,
		"message_id", status.MessageVerified)
	r.tell(status.EventBack, "", message)
	return nil
}

// uncordonAfterReboot brings the node back into service, and runs the hooks
// behind that.
func (r *Runner) uncordonAfterReboot(ctx context.Context) error {
	err := r.short(ctx, func(ctx context.Context) (err error) {
		r.uncordonedNow, err = r.cluster.Self.Uncordon(ctx, r.mark)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.hooksBack(ctx, hook.PostUncordon); err != nil {
		return err
	}
	r.unsilence(ctx)
	return nil
}

// giveUp lets the other nodes go on although this one is not well. It stays
// cordoned until it is.
func (r *Runner) giveUp(ctx context.Context, act Action) error {
	if err := r.release(ctx, r.holder.Boot); err != nil {
		return err
	}
	r.unsilence(ctx)
	message := act.Detail + ": the lock is released, the node stays cordoned"
	if !r.seen.Cordoned {
		message = act.Detail + ": the lock is released, the node is in service"
	}
	r.log().Error(message, "phase", status.Returning, "reason", status.GaveUp)
	r.tell(status.EventHeld, status.GaveUp, message)
	return nil
}
