// Package ledger keeps what the metrics tell of the past and what must outlive
// a reboot: how many cycles ended how, how long their phases took, evictions by
// the server's answer, and the last verified reboot. It is a small file in the
// state directory, written when the phase changes by the two processes that
// share a cycle, kured run and kured uncordon.
//
// Nothing depends on it: a ledger that cannot be written costs figures and
// never holds up a cycle.
package ledger

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// FileName is the ledger's name in the state directory.
const FileName = "ledger.json"

// ErrDamaged is the error of a ledger that could not be read. It was put aside
// with the suffix ".bad", and a new one was begun.
var ErrDamaged = errors.New("the ledger was damaged: it is kept as " + FileName + ".bad and begun anew")

// Ledger writes the file. Its methods may be used by many goroutines.
type Ledger struct {
	path      string
	evictions func() map[string]uint64
	patience  time.Duration // with another process

	mu      sync.Mutex
	phase   status.Phase      // as last followed; "": nothing was followed yet
	written map[string]uint64 // evictions that are in the file
}

// New is the ledger in the file at path. evictions are those of this process by
// code, from its beginning on; nil: it sends none. Nothing is read or written yet.
func New(path string, evictions func() map[string]uint64) *Ledger {
	if evictions == nil {
		evictions = func() map[string]uint64 { return nil }
	}
	return &Ledger{path: path, evictions: evictions, patience: lockPatience}
}

// Follow notes the published status s. While the phase stays the same it costs
// nothing. A phase that the file knows as begun, perhaps by another process, and
// that s is not in any more, has ended now.
//
// An error changes nothing but the figures; what it lost is not made up for.
func (l *Ledger) Follow(now time.Time, s status.Status) error {
	if s.Phase == status.Starting { // nobody knows yet where we are
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.phase
	if s.Phase == before {
		return nil
	}
	l.phase = s.Phase
	return l.change(func(b *Book) { b.follow(now, s, before) })
}

// Verified notes a reboot after which the node has proved that it is well and
// holds no lock any more. boot is the id of the new boot; a second call with
// the same one changes nothing. A cycle that was given up has ended so: it is
// not counted again.
func (l *Ledger) Verified(now time.Time, boot string) error {
	return l.locked(func(b *Book) {
		if b.LastVerified.Boot == boot {
			return
		}
		b.LastVerified = Verified{At: now.UTC().Truncate(time.Second), Boot: boot}
		if b.GaveUp != boot {
			b.Cycles[ResultVerified]++
		}
	})
}

// GaveUp notes that the way back of this boot took too long and the lock was
// released. A second call with the same boot changes nothing.
func (l *Ledger) GaveUp(boot string) error {
	return l.locked(func(b *Book) {
		if b.GaveUp == boot {
			return
		}
		b.GaveUp = boot
		b.Cycles[ResultGaveUp]++
	})
}

// Tell notes what an occurrence says of the end of a cycle.
func (l *Ledger) Tell(o status.Occurrence) error {
	switch {
	case o.Event == status.EventBack:
		return l.Verified(o.At, o.Boot)
	case o.Event == status.EventHeld && o.Reason == status.GaveUp:
		return l.GaveUp(o.Boot)
	}
	return nil
}

// Read returns what is known now, with what this process has not written yet.
// A file that is absent or cannot be read is an empty book, and the latter an
// error.
func (l *Ledger) Read() (Book, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := read(l.path)
	l.add(&b)
	return b, err
}

func (l *Ledger) locked(change func(*Book)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change(change)
}

// change is a read, a change and a write under the lock of the file. l.mu is held.
func (l *Ledger) change(change func(*Book)) error {
	unlock, err := lockFile(l.path+".lock", l.patience)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer unlock()
	b, damaged := read(l.path)
	if damaged != nil {
		if !errors.Is(damaged, errFormat) {
			return fmt.Errorf("ledger: %w", damaged)
		}
		if err := os.Rename(l.path, l.path+".bad"); err != nil {
			return fmt.Errorf("ledger: put aside a damaged one: %w", err)
		}
		damaged = fmt.Errorf("%w: %w", ErrDamaged, damaged)
	}
	before := b.clone()
	sent := l.add(&b)
	change(&b)
	if damaged == nil && b.same(before) {
		return nil
	}
	if err := write(l.path, b); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	l.written = sent
	return damaged
}

// add puts the evictions into b that are not in the file, and returns all that
// this process has sent.
func (l *Ledger) add(b *Book) map[string]uint64 {
	sent := maps.Clone(l.evictions())
	for code, n := range sent {
		if validCode(code) && n > l.written[code] {
			b.Evictions[code] += n - l.written[code]
		}
	}
	return sent
}
