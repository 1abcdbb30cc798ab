package control

import (
	"sync"

	"github.com/kured-host/kured/internal/status"
)

// Feed is the newest status, for any number of readers. It keeps nothing for
// those who are slow but that there is something new. The zero Feed holds a zero
// Status.
type Feed struct {
	mu       sync.Mutex
	now      status.Status
	watchers map[chan struct{}]struct{}
}

// Publish replaces the status.
func (f *Feed) Publish(s status.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = s
	for w := range f.watchers {
		select {
		case w <- struct{}{}:
		default: // has not read of the last change yet
		}
	}
}

// Now is the newest status.
func (f *Feed) Now() status.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Watch signals after each Publish; several may come as one.
func (f *Feed) Watch() (changed <-chan struct{}, stop func()) {
	w := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = map[chan struct{}]struct{}{}
	}
	f.watchers[w] = struct{}{}
	return w, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, w)
	}
}
