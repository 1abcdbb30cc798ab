package cycle

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// tell hands an event to those who want to know.
func (r *Runner) tell(event status.Event, reason status.Reason, detail string) {
	if r.Tell == nil {
		return
	}
	o := status.Occurrence{
		Event: event, At: time.Now(), Node: r.now.Node, Boot: r.Boot, Phase: r.now.Phase, Reason: reason, Detail: detail,
		Packages: r.demanded.Reasons, Wanted: r.standing.Known, Lock: r.Settings.Lock,
	}
	if len(o.Packages) == 0 && r.holder != nil && r.holder.Reason != "" {
		o.Packages = []string{r.holder.Reason}
	}
	r.Tell(o)
}

// tooLate is a timer for the moment when a demand has waited for too long; nil
// if there is nothing (more) to tell.
func (r *Runner) tooLate() *time.Timer {
	if r.Mode != Run || r.Settings.TooLong <= 0 || r.standing.Known.IsZero() || r.standing.Told {
		return nil
	}
	return time.NewTimer(time.Until(r.standing.Known.Add(r.Settings.TooLong)))
}

// sayLate tells that a reboot is wanted for long, and what is in the way.
func (r *Runner) sayLate() {
	r.standing.Told = true
	r.keep()
	r.log().Warn("the reboot is wanted for "+round(time.Since(r.standing.Known))+" already: "+r.now.Line(), "phase", r.now.Phase, "reason", r.now.Reason,
		"message_id", status.MessageWaitingLong)
	r.tell(status.EventWaiting, r.now.Reason, r.now.Line())
}

// receive keeps another configuration for the next round. One that no round has
// seen yet is void.
func (r *Runner) receive(parts Parts) {
	if r.next != nil && r.next.Dismissed != nil {
		r.next.Dismissed()
	}
	r.next = &parts
}

// adopt goes on with another configuration, if one has come. What the cluster
// knows of us is read anew with it; the place in the queue is kept.
func (r *Runner) adopt(ctx context.Context) {
	select {
	case parts := <-r.Reload:
		r.receive(parts)
	default:
	}
	if r.next == nil {
		return
	}
	if r.next.Settings.WaitingTaint != r.Settings.WaitingTaint {
		r.untaint(ctx) // nobody knows of it any more then
	}
	if r.next.Settings.Lock != r.Settings.Lock {
		r.moveOut(ctx)
	}
	dismissed := r.Dismissed
	r.Parts, r.next = *r.next, nil
	if r.now.Node != "" {
		r.Log = r.Log.With("node", r.now.Node)
	}
	r.leaveSilence()
	r.disconnect()
	r.looked, r.waitTill = time.Time{}, time.Time{}
	if r.restFor == status.DryRun {
		r.restTill = time.Time{} // perhaps it was the last one
	}
	r.rehearseAgain() // before the next try, if this one comes to nothing
	if dismissed != nil {
		dismissed()
	}
}

// moveOut gives back what this node has in the lock, before another one counts:
// nobody would look here again, and an entry would stand until an admin comes.
func (r *Runner) moveOut(ctx context.Context) {
	if r.seen.ShuttingDown || r.seen.Entry != ThisBootEntry && !r.seen.Waiting {
		return
	}
	if _, err := r.giveBack(ctx); err != nil {
		r.log().Warn("another lock is configured, and this node may still be in "+r.Settings.Lock+": "+err.Error(), "phase", r.now.Phase, "reason", ReasonOf(err))
		return
	}
	r.seen.Entry = NoEntry
	r.log().Info("another lock is configured: nothing of this node is left in "+r.Settings.Lock, "phase", r.now.Phase)
}
