package cycle

import (
	"context"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// signs is what others see of us on the Node beside the cordon.
type signs struct {
	conditions bool   // there are some of ours
	tainted    bool   // with the taint of those who wait
	last       string // phase and reason that they tell of; "": not known, or none
}

// showSigns makes the Node show where we are, where that is configured, and
// takes off what is over. It is for others, so nothing stops where it fails.
func (r *Runner) showSigns(ctx context.Context, act Action) {
	r.bringOut(ctx, act)
	if act.Do == Learn || r.cluster == nil || r.cluster.Signs == nil || r.Mode == Return && r.seen.Entry == ThisBootEntry {
		return
	}
	if act.Do != Acquire {
		r.untaint(ctx)
	}
	var want []node.Condition
	if r.Settings.Conditions {
		want = node.Conditions(act.Phase, act.Reason, act.Detail)
	}
	last, done := "", !r.shown.conditions
	if len(want) > 0 {
		last = string(act.Phase) + " " + string(act.Reason)
		done = last == r.shown.last
	}
	if done {
		return
	}
	r.shown.last, r.shown.conditions = last, len(want) > 0
	r.sign(ctx, "the conditions of the Node are old", func(ctx context.Context) error { return r.cluster.Signs.SetConditions(ctx, want) })
}

// untaint takes off the taint of a node that waits.
func (r *Runner) untaint(ctx context.Context) {
	if !r.shown.tainted || r.cluster == nil || r.cluster.Signs == nil {
		return
	}
	r.shown.tainted = false
	r.sign(ctx, "the taint "+r.Settings.WaitingTaint+" stays", func(ctx context.Context) error {
		return r.cluster.Signs.SetWaiting(ctx, r.Settings.WaitingTaint, false)
	})
}

func (r *Runner) sign(ctx context.Context, otherwise string, do func(context.Context) error) {
	if err := r.short(ctx, do); err != nil && ctx.Err() == nil {
		r.log().Warn(otherwise+": "+err.Error(), "phase", r.now.Phase)
	}
}

// waitingSign is the taint of a node that waits for its turn.
type waitingSign struct {
	once func() // it waits
	put  func() // returns when nothing is written any more
}

// waitingSign sets the taint beside the wait, which nothing holds up.
func (r *Runner) waitingSign(ctx context.Context) waitingSign {
	taint := r.Settings.WaitingTaint
	if taint == "" || r.shown.tainted || r.cluster.Signs == nil {
		return waitingSign{func() {}, func() {}}
	}
	var writing sync.WaitGroup
	set, log := r.cluster.Signs.SetWaiting, r.log()
	r.shown.tainted = true // or perhaps: taking it off is harmless
	return waitingSign{
		once: sync.OnceFunc(func() {
			writing.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				if err := set(ctx, taint, true); err != nil && ctx.Err() == nil {
					log.Warn("the node has no taint while it waits: "+err.Error(), "phase", status.Queued)
				}
			})
		}),
		put: writing.Wait,
	}
}
