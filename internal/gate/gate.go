// Package gate answers "may this node reboot now?". Each gate is one small
// file behind one interface. A gate that cannot find out is closed: it fails
// closed and says so by name.
package gate

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/status"
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
}

// Gate is one answer to "may we reboot now?".
type Gate interface {
	// Check answers now. It may ask the machine, with ctx as its limit.
	Check(ctx context.Context) Verdict
}

// Watcher is a Gate that notices by itself when its answer may have changed.
type Watcher interface {
	// Watch signals changes until ctx ends or, with the channel closed, until
	// it can no longer notice.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Set is several gates as one: open when all are.
type Set struct {
	Gates   []Gate
	Recheck time.Duration // how soon to look again where no change is noticed
}

// Check returns the first closed verdict in the set's order, or open.
func (s Set) Check(ctx context.Context) Verdict {
	for _, g := range s.Gates {
		if v := g.Check(ctx); !v.Open {
			return v
		}
	}
	return Verdict{Open: true}
}

// Watch signals when a verdict of the set may have changed, at the latest
// after Recheck, until ctx ends. The channel is never closed.
func (s Set) Watch(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	signal := func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting to be read already
		}
	}
	for _, g := range s.Gates {
		if w, ok := g.(Watcher); ok {
			go s.follow(ctx, w, signal)
		}
	}
	go func() {
		t := time.NewTicker(s.Recheck)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				signal()
			case <-ctx.Done():
				return
			}
		}
	}()
	return changed
}

// follow passes one gate's signals on. Where the watch ends or cannot be had,
// Recheck serves, and the watch is tried again at that pace.
func (s Set) follow(ctx context.Context, w Watcher, signal func()) {
	for ctx.Err() == nil {
		if events, err := w.Watch(ctx); err == nil {
			signal() // of what changed before the watch began
			for range events {
				signal()
			}
		}
		t := time.NewTimer(s.Recheck)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}
