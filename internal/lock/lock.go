package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// ErrLost means that this node does not hold the lock, or holds it for
// another boot.
var ErrLost = errors.New("this node does not hold the lock")

// ErrOther means that this node holds the lock, but for another boot or as
// another Node object than it is now.
var ErrOther = errors.New("this node's lock is of another boot or Node object")

// ErrPaused means that the cluster's policy lets nobody reboot now.
var ErrPaused = errors.New("nobody may reboot now")

// ErrUnreadable means that this node's own holder entry cannot be read.
var ErrUnreadable = errors.New("own lock entry cannot be read")

// Evidence answers whether a Node object exists, and with which UID. It is
// asked only by the first in the queue, about those who hold.
type Evidence interface {
	NodeUID(ctx context.Context, node string) (uid string, found bool, err error)
}

// Lock is one node's view of the lock and its place in it.
type Lock struct {
	Store    Store
	Evidence Evidence // nil: holders always count
	Fleet    Fleet    // nil: the other Nodes are not looked at
	Rules    Rules    // nil: no policy
	Pace     Pace
	Now      func() time.Time // the wall clock, for what is written; nil: time.Now

	Node string // this node's name
	UID  string // of this node's Node object
	Boot string // this boot's id
	Zone string // "": none; holders of different zones exclude each other

	Max              intstr.IntOrString // holders that the configuration allows; a percent is of the pool
	MinReady         intstr.IntOrString // Nodes of the pool that stay Ready: a number, a percent or Quorum
	CountUnavailable bool               // Nodes that are down use up Max
	Room             int                // size of the waiting room
	Priority         int                // higher is served first

	// Pending outlives this Lock, for a process that connects anew; nil: it does not.
	Pending *Pending
	alone   Pending // where there is no other
}

// Pending is what a process knows of its last write that got no answer.
type Pending struct {
	mu       sync.Mutex
	revision string // that the write was based on
}

// mayLand reports whether that write may yet be applied: it compares and swaps,
// so while the object is at the version that it was based on.
func (p *Pending) mayLand(revision string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return revision != "" && revision == p.revision
}

func (p *Pending) sent(revision string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revision = revision
}

func (l *Lock) pending() *Pending {
	if l.Pending != nil {
		return l.Pending
	}
	return &l.alone
}

// Demand is what an asker asks for.
type Demand struct {
	Reason string    // why the node reboots, for people
	Since  time.Time // when it began to ask, by the clock of time.Now: its place among equals
	Shared bool      // many ask at this same instant: spread out first
}

// Report is how a waiting node stands. Err is set when it could not ask.
type Report struct {
	Reason status.Reason // "": the lock is ours
	Detail string
	Queue  status.Queue
	Next   time.Time // when the node asks again by itself; zero: on a change
	Err    error
}

// Own is what the lock object says of this node.
type Own struct {
	Holder  *Holder // nil: it does not hold
	Waiting bool    // it is in the waiting room, or a write of ours may yet put it there
}

// Read returns this node's entries. A holder entry that is there and cannot be
// read is ErrUnreadable.
func (l *Lock) Read(ctx context.Context) (Own, error) {
	snap, h, err := l.own(ctx)
	_, waiting := snap.State.Waiters[l.Node]
	// A take of ours that may yet land is left as the room is: by Release.
	waiting = waiting || snap.State.damagedWaiter(l.Node) || l.pending().mayLand(snap.Revision)
	return Own{Holder: h, Waiting: waiting}, err
}

func (l *Lock) own(ctx context.Context) (Snapshot, *Holder, error) {
	snap, err := l.read(ctx)
	if err != nil {
		return Snapshot{}, nil, err
	}
	if what := snap.State.HolderDamage(l.Node); what != "" {
		return snap, nil, fmt.Errorf("%w: %s", ErrUnreadable, what)
	}
	if h, ok := snap.State.Holders[l.Node]; ok {
		return snap, &h, nil
	}
	return snap, nil, nil
}

// Advance writes the phase into our entry. Its success proves that at this
// moment the lock is ours: it reads with quorum and then writes by
// compare-and-swap. The error is ErrLost when the entry is not there or is not
// of this boot and Node, and ErrPaused when the policy lets nobody go on.
func (l *Lock) Advance(ctx context.Context, phase status.Phase) error {
	if err := l.open(ctx); err != nil {
		return err
	}
	for try := 0; ; try++ {
		snap, h, err := l.own(ctx)
		switch {
		case err != nil:
			return err
		case h == nil, h.Boot != l.Boot, h.UID != l.UID:
			return ErrLost
		}
		if done, err := l.swap(ctx, snap, advance(l.Node, *h, phase), try); done || err != nil {
			return err
		}
	}
}

// PausedError is the ErrPaused that says why.
type PausedError struct {
	Reason status.Reason
	Detail string
}

func (e *PausedError) Error() string   { return e.Detail }
func (e *PausedError) Is(t error) bool { return t == ErrPaused }

// open returns a PausedError if the policy lets nobody go on now.
func (l *Lock) open(ctx context.Context) error {
	p, err := l.policy(ctx)
	if err != nil {
		return err
	}
	if reason, detail, _ := p.Closed(l.now()); reason != "" {
		return &PausedError{reason, detail}
	}
	return nil
}

func (l *Lock) policy(ctx context.Context) (Policy, error) {
	if l.Rules == nil {
		return Policy{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.Pace.Call)
	defer cancel()
	return l.Rules.Policy(ctx)
}

func (l *Lock) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

// stamp is the wall clock as entries have it: UTC, whole seconds.
func (l *Lock) stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Release removes our entries: the one that was taken in that boot from the
// lock, and that in the waiting room. An entry of another boot has been written
// by another process of this node since the caller last looked: then nothing
// is removed. It is no error if there are none. It never removes an entry that
// cannot be read.
func (l *Lock) Release(ctx context.Context, boot string) error {
	for try := 0; ; try++ {
		snap, h, err := l.own(ctx)
		if err != nil {
			return err
		}
		if h != nil && h.Boot != boot {
			return nil
		}
		if _, waiting := snap.State.Waiters[l.Node]; h == nil && !waiting && !snap.State.damagedWaiter(l.Node) {
			if !l.pending().mayLand(snap.Revision) {
				return nil
			}
			// Any write makes the one under way void. This one is taken back in the next round.
			if _, err := l.swap(ctx, snap, join(l.Node, Waiter{Since: l.stamp(l.now()), Priority: l.Priority, Zone: l.Zone, UID: l.UID}), try); err != nil {
				return err
			}
			continue
		}
		if done, err := l.swap(ctx, snap, leave(l.Node), try); done || err != nil {
			return err
		}
	}
}

func (s State) damagedWaiter(node string) bool {
	return slices.ContainsFunc(s.Damaged, func(d Damage) bool { return d.Key == waiterPrefix+node })
}

// maxConflicts bounds how often one change is tried again.
const maxConflicts = 50

// swap writes once; a conflict costs a random pause and is not done. The pause
// is short: few hold, and those who wait for them lose more by it.
func (l *Lock) swap(ctx context.Context, snap Snapshot, e Edit, try int) (bool, error) {
	call, cancel := context.WithTimeout(ctx, l.Pace.Call)
	defer cancel()
	_, err := l.write(call, snap.Revision, e)
	if errors.Is(err, ErrConflict) && try < maxConflicts {
		return false, sleep(ctx, l.Pace.part(l.Pace.brief(try)))
	}
	return err == nil, err
}

// write sends an edit and remembers it if no answer came.
func (l *Lock) write(ctx context.Context, revision string, e Edit) (Snapshot, error) {
	snap, err := l.Store.Write(ctx, revision, e)
	if err != nil && !errors.Is(err, ErrConflict) && !refusal(err) {
		l.pending().sent(revision)
	}
	return snap, err
}

func (l *Lock) read(ctx context.Context) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Pace.Call)
	defer cancel()
	return l.Store.Read(ctx)
}
