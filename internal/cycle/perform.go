package cycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kured-host/kured/internal/lock"
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
		return r.release(ctx, r.Boot)
	case Acquire:
		return r.acquire(ctx)
	case Rehearse:
		return r.rehearse(ctx)
	case WaitPreflight:
		return r.waitPreflight(ctx)
	case ShowPlan:
		return r.showPlan(ctx)
	case Cordon:
		return r.cordon(ctx)
	case PreDrain, DelayDrain, Drain, Detach, DelayReboot, PreReboot, Announce:
		return r.step(ctx, act.Do)
	case Reboot:
		return r.reboot(ctx)
	case AwaitShutdown:
		return r.awaitShutdown(ctx)
	case RollBack:
		return r.rollBack(ctx, act)
	case Uncordon, Acknowledge:
		return r.uncordon(ctx, act)
	case AwaitReturn:
		return r.awaitReturn(ctx)
	case HoldFast:
		r.leaveSilence() // what needs a person is worth an alert
		return r.lookAgain(ctx)
	case Verify:
		return r.verify(ctx)
	case ComeBack:
		return r.comeBack(ctx)
	case GiveUp:
		return r.giveUp(ctx, act)
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
	if r.now.Node != c.Node {
		r.Log = r.Log.With("node", c.Node)
	}
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
	unreadable := false
	err := r.short(ctx, func(ctx context.Context) (err error) {
		own, err = r.cluster.Entries.Read(ctx)
		if unreadable = errors.Is(err, lock.ErrUnreadable); err != nil && !unreadable {
			return err
		}
		self, err = r.cluster.Self.Get(ctx)
		return err
	})
	if err != nil {
		return err
	}
	r.understand(own, self, unreadable)
	if r.seen.Entry == ThisBootEntry && r.Mode == Run && !r.seen.ShuttingDown && own.Holder.Phase == status.Rebooting {
		// A daemon that was restarted after it called Reboot.
		going, err := r.Host.PreparingForShutdown(ctx)
		if err != nil {
			return status.Because(status.LogindUnavailable, fmt.Errorf("ask logind whether the machine is going down: %w", err))
		}
		r.seen.ShuttingDown = going
	}
	if self.UID != r.cluster.UID {
		r.disconnect() // what the lock is to write of us has changed
		return status.Because(status.NodeMissing, errors.New("the Node object was created anew, connecting anew"))
	}
	if r.seen.Entry == ThisBootEntry && own.Holder.UID != self.UID {
		// To the others this entry is one of a node that is gone, so they may take the lock.
		r.seen.Failure = &Failure{Reason: status.LockLost, Detail: "the Node object was created anew since the lock was taken"}
	}
	if r.seen.Entry != ThisBootEntry {
		r.done, r.seen.Failure = 0, nil
		if r.Mode == Run {
			r.leaveSilence() // the try is over, however that came
		}
	}
	r.seen.Known = true
	return nil
}

// understand makes an observation of what was read. The loop does it, not the
// step beside it: what it changes the loop shows.
func (r *Runner) understand(own lock.Own, self node.State, unreadable bool) {
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
	// What else we put on the Node is a mark as well, of a node that a person had cordoned.
	r.ownCordon = self.Mark != ""
	r.mark = cmp.Or(self.Mark, self.Dressed)
	r.chronicle.learn(self.Announced)
	r.shown.tainted = slices.Contains(self.SoftTaints, r.Settings.WaitingTaint)
	if r.shown.conditions = len(self.Conditions) > 0; !r.shown.conditions {
		r.shown.last = ""
	}
	switch r.mark {
	case "":
	case r.Boot:
		o.Mark = ThisBootMark
	default:
		o.Mark = OtherBootMark
	}
	r.holder, r.note = own.Holder, self.Released
	switch o.Released = ""; {
	case o.Entry != NoEntry:
		r.lockLost = false
	case r.note != nil:
		o.Released = r.note.String()
	case r.lockLost:
		o.Released = releasedBySomebody
	}
}

// rest is the idle state: no connection, no timer, no memory that is not needed.
func (r *Runner) rest(ctx context.Context) error {
	if err := r.lastWord(ctx); err != nil {
		return unlessDemand(err)
	}
	r.leave()
	return unlessDemand(r.during(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, watching{demand: true}))
}

// leave ends the connection for a time in which nothing can be done.
func (r *Runner) leave() {
	known := r.seen.Known
	r.disconnect()
	r.seen.Known = known // until there is something to do: see observe
	if r.Rest != nil {
		r.Rest()
	}
}

// unlessDemand makes a wait that a change of the demand has ended no error.
func unlessDemand(err error) error {
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

// wait is a pause that a change of the demand ends.
func (r *Runner) wait(ctx context.Context, d time.Duration) error {
	return unlessDemand(r.during(ctx, func(ctx context.Context) error { return sleep(ctx, d) }, watching{demand: true}))
}

// lookAgainEvery is how often a node looks that waits for another process or
// a person. It is in a cycle, so this is not idle cost.
const lookAgainEvery = 15 * time.Second

// lookAgain pauses as long as it has waited already, within limits: the way
// back mostly takes seconds, a person does not.
func (r *Runner) lookAgain(ctx context.Context) error {
	r.seen.Known = false
	return r.wait(ctx, min(lookAgainEvery, max(time.Second, time.Since(r.now.Since))))
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
