package cycle

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/status"
)

// gateTimeout bounds one look at all gates.
const gateTimeout = 20 * time.Second

// lookAtGates asks the gates once, in the time that they have: those of this
// machine first, then those that need a network. far is set if one of the
// latter had the last word.
func (r *Runner) lookAtGates(ctx context.Context) (v gate.Verdict, far bool) {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	at := gate.Before
	if r.seen.Entry == ThisBootEntry {
		at = gate.Within
	}
	v = r.Gates.Check(ctx, at)
	if v.Open && r.cluster != nil && r.cluster.Gates != nil {
		v, far = r.cluster.Gates.Check(ctx, at), true
	}
	v.Detail = oneLine(v.Detail)
	return v, far
}

// watchGates signals when the verdict given last may have changed.
func (r *Runner) watchGates(ctx context.Context, last gate.Verdict, far bool) <-chan struct{} {
	if !far {
		return r.Gates.Watch(ctx, last)
	}
	near, others := r.Gates.Watch(ctx, gate.Verdict{Open: true}), r.cluster.Gates.Watch(ctx, last)
	both := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-near:
			case <-others:
			case <-ctx.Done():
				return
			}
			select {
			case both <- struct{}{}:
			default:
			}
		}
	}()
	return both
}

// allGatesFar says of an open verdict who had the last word.
func (r *Runner) allGatesFar() bool { return r.cluster != nil && r.cluster.Gates != nil }

// checkGates asks the gates while the loop stays alive.
func (r *Runner) checkGates(ctx context.Context) (v gate.Verdict) {
	_ = r.during(ctx, func(ctx context.Context) error { // a look has no error, and nothing ends it but its time
		v, r.farGate = r.lookAtGates(ctx)
		return nil
	}, watching{})
	r.looked = time.Now()
	r.keepStates(v)
	return v
}

// keepStates keeps what each gate said, for those who look.
func (r *Runner) keepStates(v gate.Verdict) {
	r.gateStates = r.Gates.States(v)
	if r.farGate {
		r.gateStates = append(r.Gates.States(gate.Verdict{Open: true}), r.cluster.Gates.States(v)...)
	}
}

// showVerdict shows what closes the gates when it is the same in other words.
func (r *Runner) showVerdict(v gate.Verdict) {
	r.seen.Gates = v
	r.keepStates(v)
	r.publish(func(s *status.Status) { s.Detail = v.Detail })
}

// waitForGates waits until the verdict or the demand changes, or patience ends.
func (r *Runner) waitForGates(ctx context.Context) error {
	patience := time.Duration(-1)
	closed, far := r.seen.Gates, r.farGate
	if r.seen.Entry == NoEntry {
		r.shared = closed.Reason != status.Inhibited // a window opens for many, a package manager ends for one
		r.rehearseAgain()                            // other pods may be here by then
		if !far {
			if err := r.lastWord(ctx); err != nil {
				return unlessDemand(err)
			}
			r.leave() // the cluster is not needed to find out that a window opens
		}
	} else {
		patience = time.Until(r.waitTill)
	}
	if r.cluster != nil {
		r.seen.Known = false // after minutes somebody may have released the lock, or the connection leads nowhere
	}
	r.looked = time.Time{}
	words := make(chan gate.Verdict, 1)
	return unlessDemand(r.during(ctx, func(ctx context.Context) error {
		changed := r.watchGates(ctx, closed, far)
		var ends <-chan time.Time
		if patience >= 0 {
			t := time.NewTimer(patience)
			defer t.Stop()
			ends = t.C
		}
		for {
			select {
			case <-changed:
				v, _ := r.lookAtGates(ctx)
				said := v
				if said.Detail = closed.Detail; said == closed && ctx.Err() == nil {
					if v != closed {
						closed = v
						newest(words, v)
					}
					continue // nothing new, and the watch stays
				}
			case <-ends:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	}, watching{demand: true, words: words}))
}

// mayGoOn is asked while a step runs that the demand or a gate can end.
func (r *Runner) mayGoOn(ctx context.Context, w watching) bool {
	if s := r.Demand.State(); !s.Wanted {
		return false
	}
	if !w.gates {
		return true
	}
	v, _ := r.lookAtGates(ctx)
	return v.Open || v.Passing && w.whole
}
