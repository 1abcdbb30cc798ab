package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/lock"
)

// witness sees every version of the lock, and when it came.
type witness struct {
	mu    sync.Mutex
	seen  []sight
	ended bool
	more  chan struct{} // closed when there is one more, or no more will come
}

type sight struct {
	at    time.Time
	state lock.State
}

// newWitness watches until ctx ends.
func newWitness(ctx context.Context, store lock.Store) (*witness, error) {
	start, err := store.Read(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := store.Watch(ctx, start.Revision)
	if err != nil {
		return nil, err
	}
	w := &witness{seen: []sight{{time.Now(), start.State}}, more: make(chan struct{})}
	go func() {
		for v := range versions {
			at := time.Now()
			w.note(func() { w.seen = append(w.seen, sight{at, v.State}) })
		}
		w.note(func() { w.ended = true })
	}()
	return w, nil
}

func (w *witness) note(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
	close(w.more)
	w.more = make(chan struct{})
}

// next is the number of the version that is still to come.
func (w *witness) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// latest is the number of the version that was seen last.
func (w *witness) latest() int { return w.next() - 1 }

// await returns the first version from number from on that is as wanted.
func (w *witness) await(ctx context.Context, from int, what string, is func(lock.State) bool) (sight, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it took longer than %s", patience))
	defer cancel()
	for {
		w.mu.Lock()
		fresh, ended, more := w.seen[min(from, len(w.seen)):], w.ended, w.more
		w.mu.Unlock()
		for _, s := range fresh {
			if is(s.state) {
				return s, nil
			}
		}
		from += len(fresh)
		if ended {
			return sight{}, fmt.Errorf("wait for %s: the watch of the lock ended", what)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return sight{}, fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
}
