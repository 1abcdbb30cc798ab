// Package gate answers "may this node reboot now?". Each gate is one small
// file behind one interface. A gate that cannot find out is closed: it fails
// closed and says so by name.
package gate

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Moment is when in a cycle a gate is asked.
type Moment int

// The moments.
const (
	Before Moment = iota // nothing is begun
	Within               // the node holds the lock
)

// Verdict is a gate's answer at one moment. The zero Verdict is closed.
type Verdict struct {
	Open   bool
	Reason status.Reason // why it is closed
	Detail string        // the same for people, one line
	Next   time.Time     // when the answer changes by itself, zero if that is not known
	// Passing says that what closes the gate ends by itself soon, as a running
	// package manager does: a node that is drained already waits for it a while
	// instead of rolling back.
	Passing bool
	// Unsure says that a Watcher need not notice what ends this: the gate could
	// not find out, for a logind that hung perhaps, or it is not told.
	Unsure bool

	by int // which gate of a Set closes it, from 1; 0: none
}

// Gate is one answer to "may we reboot now?".
type Gate interface {
	Name() status.Gate
	// Check answers now. It may ask the machine or others, with ctx as its limit.
	Check(ctx context.Context, at Moment) Verdict
}

// Watcher is a Gate that notices by itself when its answer may have changed.
// It needs no other look, but for verdicts that are Unsure.
type Watcher interface {
	// Watch signals changes until ctx ends or, with the channel closed, until
	// it can no longer notice.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Set is several gates as one: open when all are. What costs least comes first.
type Set struct {
	Gates   []Gate
	Recheck time.Duration // about how soon to look again where no change is noticed
	// Jitter returns a random part of d, 0 ≤ x < d; nil: math/rand/v2.
	Jitter func(d time.Duration) time.Duration
}

// Check returns the first closed verdict in the set's order, or open.
func (s Set) Check(ctx context.Context, at Moment) Verdict {
	for i, g := range s.Gates {
		if v := g.Check(ctx, at); !v.Open {
			v.by = i + 1
			v.Next = v.Next.Round(0).UTC() // verdicts are compared, and that makes equal times the same
			return v
		}
	}
	return Verdict{Open: true}
}

// Watch signals when the verdict that was given last may have changed, until
// ctx ends. Behind a closed gate nobody looks at the others: they could change
// nothing. Gates that do not notice changes, or could not find out, are looked at
// after about Recheck.
// The channel is never closed.
func (s Set) Watch(ctx context.Context, last Verdict) <-chan struct{} {
	gates := s.Gates
	if !last.Open && last.by > 0 {
		gates = gates[:last.by]
	}
	changed := make(chan struct{}, 1)
	signal := func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting to be read already
		}
	}
	poll := last.Unsure
	for _, g := range gates {
		if w, ok := g.(Watcher); ok {
			go s.follow(ctx, w, signal)
		} else {
			poll = true
		}
	}
	if poll {
		go func() {
			for s.pause(ctx) {
				signal()
			}
		}()
	}
	return changed
}

// follow passes one gate's signals on. Where the watch ends or cannot be had,
// the gate is looked at after Recheck, and the watch is tried again.
func (s Set) follow(ctx context.Context, w Watcher, signal func()) {
	for ctx.Err() == nil {
		if events, err := w.Watch(ctx); err == nil {
			signal() // of what changed before the watch began
			for range events {
				signal()
			}
		}
		if s.pause(ctx) {
			signal()
		}
	}
}

// pause waits for about Recheck, and reports whether ctx still goes on.
func (s Set) pause(ctx context.Context) bool {
	jitter := s.Jitter
	if jitter == nil {
		jitter = rand.N[time.Duration]
	}
	t := time.NewTimer(s.Recheck*3/4 + jitter(s.Recheck/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// clockChecked bounds how long a gate sleeps that waits for a time of day: a
// clock that is set meanwhile is noticed by then.
const clockChecked = time.Hour

// alarm signals each time that next has come, which it asks again after that,
// and within an hour where the clock was set so that next is another. Zero: there
// is none, now and for the next hour.
func alarm(ctx context.Context, now func() time.Time, next func(now time.Time) time.Time) <-chan struct{} {
	events := make(chan struct{}, 1)
	go func() {
		defer close(events)
		for at := next(now()); ; {
			after := clockChecked
			if !at.IsZero() {
				after = min(clockChecked, max(time.Millisecond, at.Sub(now())))
			}
			t := time.NewTimer(after)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
			moment := now()
			then := next(moment)
			if come := !at.IsZero() && !moment.Before(at); come || !then.Equal(at) {
				select {
				case events <- struct{}{}:
				default:
				}
			}
			at = then
		}
	}()
	return events
}
