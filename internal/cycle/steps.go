package cycle

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
)

// after is the first step behind done that there is something to do in.
func (r *Runner) after(done Verb) Verb {
	s := r.Settings
	for step := done + 1; step < Reboot; step++ {
		switch step {
		case PreDrain, PreReboot:
			if r.Hooks != nil {
				return step
			}
		case DelayDrain:
			if s.DelayDrain > 0 {
				return step
			}
		case Drain:
			return step
		case Detach:
			if s.Volumes > 0 {
				return step
			}
		case DelayReboot:
			if s.DelayReboot > 0 {
				return step
			}
		case Announce:
			if s.Announce > 0 {
				return step
			}
		}
	}
	return Reboot
}

// step does one of the steps between the cordon and the reboot. What is over
// goes on with the next one; what was cut short is decided anew.
func (r *Runner) step(ctx context.Context, verb Verb) error {
	if err := r.advance(ctx, status.Draining); err != nil || !r.seen.Known {
		return err
	}
	r.silence(ctx)
	began := time.Now()
	var err error
	switch verb {
	case PreDrain:
		err = r.hooks(ctx, hook.PreDrain)
	case DelayDrain:
		err = r.hold(ctx, "the drain begins", r.Settings.DelayDrain)
	case Drain:
		err = r.drain(ctx)
	case Detach:
		err = r.detach(ctx)
	case DelayReboot:
		err = r.hold(ctx, "the reboot goes on", r.Settings.DelayReboot)
	case PreReboot:
		err = r.hooks(ctx, hook.PreReboot)
	case Announce:
		err = r.announceReboot(ctx)
	}
	switch {
	case errors.Is(err, errChanged), ctx.Err() != nil:
		return nil
	case errors.Is(err, lock.ErrLost):
		r.lost()
		return nil
	case errors.Is(err, errUncordoned):
		r.seen.Known = false // and it is cordoned again
		return nil
	case err != nil || r.seen.Failure != nil:
		return err
	}
	r.done = verb
	if time.Since(began) > time.Second {
		r.seen.Known = false // somebody may have undone the cordon meanwhile
	}
	return nil
}

// errUncordoned means that somebody took off the cordon while we need it.
var errUncordoned = errors.New("the node was uncordoned")

// held does what has to be done while the lock is held and the node is
// cordoned, and ends it with lock.ErrLost or errUncordoned when that is over.
func (r *Runner) held(ctx context.Context, w watching, do func(context.Context) error) error {
	c := r.cluster // the cluster may be left before the goroutine below begins
	w.demand, w.gates, w.whole = true, true, true
	return r.during(ctx, func(ctx context.Context) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		go func() { stop(awaitLoss(ctx, c, r.Boot)) }()
		err := do(ctx)
		if cause := context.Cause(ctx); err != nil && (errors.Is(cause, lock.ErrLost) || errors.Is(cause, errUncordoned)) {
			return cause
		}
		return err
	}, w)
}

// interrupted reports whether a step was ended from outside: it has not failed.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errChanged) || errors.Is(err, lock.ErrLost) || errors.Is(err, errUncordoned)
}

// lookWhileHeld is how often a node in the midst of its cycle looks whether the
// lock and the cordon still stand: it can take long, and evicts pods all the time.
const lookWhileHeld = 30 * time.Second

// awaitLoss returns lock.ErrLost when the lock is not ours any more,
// errUncordoned when the cordon is gone, and the error of ctx when that ends.
// What cannot be read is no loss: the fence before the reboot decides.
func awaitLoss(ctx context.Context, c *Cluster, boot string) error {
	for {
		if err := sleep(ctx, lookWhileHeld); err != nil {
			return err
		}
		if own, err := c.Entries.Read(ctx); err == nil && (own.Holder == nil || own.Holder.Boot != boot) {
			return lock.ErrLost
		}
		if self, err := c.Self.Get(ctx); err == nil && !self.Unschedulable {
			return errUncordoned
		}
	}
}

// drain moves the pods away.
func (r *Runner) drain(ctx context.Context) error {
	r.heldTold = nil
	if !r.ownCordon {
		r.log().Info("node was cordoned by somebody else, that cordon stays", "phase", status.Draining)
	}
	r.tell(status.EventDrain, "", "cordoned, pods are being moved")
	var result drain.Result
	progress := make(chan drain.Progress, 1)
	err := r.held(ctx, watching{drain: progress}, func(ctx context.Context) error {
		result = r.cluster.Pods.Drain(ctx, r.Settings.Drain, func(p drain.Progress) { newest(progress, p) })
		return result.Err
	})
	r.publish(func(s *status.Status) { s.Drain = nil })
	switch {
	case result.Drained:
		r.log().Info(result.String(), "phase", status.Draining)
		r.seen.Known = false // somebody may have undone the cordon meanwhile
		return nil
	case interrupted(ctx, err):
		return err
	case errors.Is(result.Err, drain.ErrTimeout):
		r.seen.Failure = &Failure{Reason: status.DrainTimeout, Detail: result.String(), Hold: r.Settings.HoldOnTimeout}
	default:
		r.seen.Failure = &Failure{Reason: status.DrainFailed, Detail: result.String()}
	}
	return nil
}

// hold waits before the next step.
func (r *Runner) hold(ctx context.Context, what string, d time.Duration) error {
	next := time.Now().Add(d)
	r.publish(func(s *status.Status) {
		s.Detail, s.Next = what+" at "+next.UTC().Format(time.RFC3339), &next
	})
	return r.held(ctx, watching{}, func(ctx context.Context) error { return sleep(ctx, d) })
}

// hooks runs the programs of a phase. What they say decides: go on, not now,
// or fail.
func (r *Runner) hooks(ctx context.Context, phase string) error {
	err := r.held(ctx, watching{}, func(ctx context.Context) error { return r.Hooks.Run(ctx, phase, r.hookEnvironment()) })
	if err == nil || interrupted(ctx, err) {
		return err
	}
	r.seen.Failure = &Failure{Reason: hookReason(err), Detail: err.Error()}
	return nil
}

// hookReason is why hooks did not end well.
func hookReason(err error) status.Reason {
	if errors.Is(err, hook.ErrNotNow) {
		return status.HookDeferred
	}
	return status.HookFailed
}

// hookEnvironment is what hooks are told.
func (r *Runner) hookEnvironment() map[string]string {
	env := map[string]string{"KURED_NODE": r.now.Node, "KURED_BOOT_ID": r.Boot, "KURED_LOCK": r.Settings.Lock, "KURED_PHASE": string(r.now.Phase)}
	switch {
	case r.holder != nil && r.holder.Reason != "":
		env["KURED_REASON"] = r.holder.Reason
	case len(r.demanded.Reasons) > 0:
		env["KURED_REASON"] = strings.Join(r.demanded.Reasons, " ")
	}
	return env
}

// detach waits for volumes to be let go, as long as the configuration says.
func (r *Runner) detach(ctx context.Context) error {
	waits := make(chan missing, 1)
	var left drain.Volumes
	err := r.held(ctx, watching{missing: waits}, func(ctx context.Context) error {
		var err error
		left, err = r.cluster.Pods.AwaitDetached(ctx, r.Settings.Volumes, func(v drain.Volumes) {
			newest(waits, missing{status.VolumesAttached, v.String()})
		})
		return err
	})
	if err == nil && !left.Gone() {
		r.log().Warn("not waiting any longer: "+left.String(), "phase", status.Draining, "reason", status.VolumesAttached)
	}
	return err
}

// announceReboot tells those who are logged in, and gives them time. Whoever
// cancels it is obeyed. The reboot itself comes after it, with its fence.
func (r *Runner) announceReboot(ctx context.Context) error {
	at := time.Now().Add(r.Settings.Announce)
	r.publish(func(s *status.Status) {
		s.Reason, s.Detail, s.Next = status.RebootDelayed, "the reboot is announced for "+at.UTC().Format(time.RFC3339), &at
	})
	err := r.held(ctx, watching{}, func(ctx context.Context) error {
		if err := r.Announcer.Announce(ctx, at); err != nil {
			return err
		}
		return r.Announcer.AwaitAnnounced(ctx, at)
	})
	if err == nil {
		return nil // not withdrawn, which people would be told: the reboot takes its place, or it lapses in seconds
	}
	withdrawing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := r.Announcer.Withdraw(withdrawing); err != nil {
		r.log().Warn("the announcement of the reboot stays: " + err.Error())
	}
	var scheduled *logind.ScheduledError
	var refused *logind.RefusedError
	switch {
	case errors.Is(err, logind.ErrAnnouncementCancelled), errors.As(err, &scheduled):
		r.seen.Failure = &Failure{Reason: status.RebootCancelled, Detail: err.Error()}
		return nil
	case errors.As(err, &refused):
		r.seen.Failure = &Failure{Reason: status.RebootRefused, Detail: err.Error()}
		return nil
	case interrupted(ctx, err):
		return err
	}
	return status.Because(status.LogindUnavailable, err)
}

// silence keeps alerts quiet from now on, until the node is back or the try
// ends. That it does not work stops nothing.
func (r *Runner) silence(ctx context.Context) {
	if r.cluster == nil || r.cluster.Silencer == nil || r.quiet != nil {
		return
	}
	keeping, stop := context.WithCancel(ctx)
	if until := r.Settings.SilenceUntil; r.Mode == Return {
		if !time.Now().Before(until) {
			stop()
			return // whoever is not well by now is worth an alert
		}
		keeping, stop = context.WithDeadline(ctx, until)
	}
	done := make(chan struct{})
	silencer, log, reason := r.cluster.Silencer, r.Log, strings.Join(r.demanded.Reasons, " ")
	go func() {
		defer close(done)
		silencer.Keep(keeping, reason, func(err error) { log.Warn("alerts are not silenced: " + err.Error()) })
	}()
	r.quiet = func() { stop(); <-done }
}

// leaveSilence lets the silence lapse by itself; unsilence ends it at once.
func (r *Runner) leaveSilence() {
	if r.quiet != nil {
		r.quiet()
		r.quiet = nil
	}
}

func (r *Runner) unsilence(ctx context.Context) {
	r.leaveSilence()
	if r.cluster == nil || r.cluster.Silencer == nil {
		return
	}
	if err := r.short(ctx, r.cluster.Silencer.Expire); err != nil {
		r.log().Warn("the silence of the alerts lapses by itself: " + err.Error())
	}
}
