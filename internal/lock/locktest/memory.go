// Package locktest is an in-memory lock object for tests and simulations: it
// has the compare-and-swap and the watch of the API server, and faults that
// one can order.
package locktest

import (
	"context"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/lock"
)

// Faults decides the fate of one request: an error before it takes effect
// (the request is lost) or after (the reply is lost), or none.
type Faults func() (before, after error)

// Memory is a lock.Store. Its exported fields are set before it is used.
type Memory struct {
	Latency time.Duration // of each request and watch event: up to this
	Faults  Faults        // nil: none

	mu       sync.Mutex
	data     map[string]string
	revision int
	changed  chan struct{} // closed at each write
	history  []map[string]string
	counts   Counts
}

// Counts is how many requests were made; conflicts are writes as well.
type Counts struct{ Reads, Writes, Conflicts int }

// New returns a store with the given data at revision 1.
func New(data map[string]string) *Memory {
	return &Memory{data: data, revision: 1, changed: make(chan struct{})}
}

// Data returns a copy of the data now.
func (m *Memory) Data() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.data)
}

// Counts returns the number of requests so far.
func (m *Memory) Counts() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts
}

// History returns the data after each write.
func (m *Memory) History() []map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.history[:len(m.history):len(m.history)]
}

// Put writes without a precondition, as an admin does.
func (m *Memory) Put(e lock.Edit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(e)
}

func (m *Memory) put(e lock.Edit) {
	m.data = e.Apply(m.data)
	m.revision++
	m.history = append(m.history, m.data)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Memory) snapshot() lock.Snapshot {
	return lock.Snapshot{State: lock.Parse(m.data), Revision: strconv.Itoa(m.revision)}
}

func (m *Memory) faults() (before, after error) {
	if m.Faults == nil {
		return nil, nil
	}
	return m.Faults()
}

func (m *Memory) delay(ctx context.Context) error {
	if m.Latency > 0 {
		select {
		case <-time.After(rand.N(m.Latency)):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// Read returns the data now.
func (m *Memory) Read(ctx context.Context) (lock.Snapshot, error) {
	if err := m.delay(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.Reads++
	if before, after := m.faults(); before != nil || after != nil {
		return lock.Snapshot{}, cmp(before, after)
	}
	return m.snapshot(), nil
}

// Write compares and swaps.
func (m *Memory) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	if err := m.delay(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.Writes++
	before, after := m.faults()
	if before != nil {
		return lock.Snapshot{}, before
	}
	if revision != strconv.Itoa(m.revision) {
		m.counts.Conflicts++
		return lock.Snapshot{}, lock.ErrConflict
	}
	m.put(e)
	if after != nil {
		return lock.Snapshot{}, after
	}
	return m.snapshot(), nil
}

// Watch delivers the newest version after each change, late and with some
// left out, and ends after a few minutes as the API server's watches do.
func (m *Memory) Watch(ctx context.Context, revision string) (<-chan lock.Snapshot, error) {
	m.mu.Lock()
	before, after := m.faults()
	m.mu.Unlock()
	if err := cmp(before, after); err != nil {
		return nil, err
	}
	versions := make(chan lock.Snapshot)
	ends := time.NewTimer(time.Duration(1+rand.IntN(5)) * time.Minute)
	go func() {
		defer close(versions)
		defer ends.Stop()
		for last := revision; ; {
			m.mu.Lock()
			snap, changed := m.snapshot(), m.changed
			m.mu.Unlock()
			if snap.Revision != last {
				if m.delay(ctx) != nil {
					return
				}
				select {
				case versions <- snap:
					last = snap.Revision
				case <-ctx.Done():
					return
				}
				continue
			}
			select {
			case <-changed:
			case <-ends.C:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return versions, nil
}

func cmp(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
