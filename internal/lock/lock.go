package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// ErrLost means that this node does not hold the lock, or holds it for
// another boot.
var ErrLost = errors.New("this node does not hold the lock")

// ErrUnreadable means that this node's own holder entry cannot be read.
var ErrUnreadable = errors.New("own lock entry cannot be read")

// Evidence answers whether a Node object exists, and with which UID. It is
// asked only by the first in the queue, about those who hold.
type Evidence interface {
	NodeUID(ctx context.Context, node string) (uid string, found bool, err error)
}

// Pace is how long things of the queue take; all durations are positive.
type Pace struct {
	Spread   time.Duration // a lost write, or an instant that many share: wait a random part of this first
	Stagger  time.Duration // a waiter that leaves a free slot this long is overtaken
	Outside  time.Duration // about how often a node outside the waiting room looks
	Evidence time.Duration // about how often the first in the queue checks the holders' Nodes
	Retry    time.Duration // the longest pause between tries while the API server does not answer
	Call     time.Duration // the longest one request may take
}

// DefaultPace is what a cluster uses.
func DefaultPace() Pace {
	return Pace{
		Spread:   200 * time.Millisecond,
		Stagger:  5 * time.Second,
		Outside:  time.Minute,
		Evidence: time.Minute,
		Retry:    30 * time.Second,
		Call:     15 * time.Second,
	}
}

// Lock is one node's view of the lock and its place in it.
type Lock struct {
	Store    Store
	Evidence Evidence // nil: holders always count
	Pace     Pace

	Node     string // this node's name
	UID      string // of this node's Node object
	Boot     string // this boot's id
	Max      int    // holders that the configuration allows
	Room     int    // size of the waiting room
	Priority int    // higher is served first
}

// Demand is what an asker asks for.
type Demand struct {
	Reason string    // why the node reboots, for people
	Since  time.Time // when it began to ask: its place among equals
	Shared bool      // many ask at this same instant: spread out first
}

// Report is how a waiting node stands. Err is set when it could not ask.
type Report struct {
	Reason status.Reason
	Detail string
	Queue  status.Queue
	Next   time.Time // when the node asks again by itself; zero: on a change
	Err    error
}

// Own is what the lock object says of this node.
type Own struct {
	Holder  *Holder // nil: it does not hold
	Waiting bool    // it is in the waiting room
}

// Read returns this node's entries. A holder entry that is there and cannot be
// read is ErrUnreadable.
func (l *Lock) Read(ctx context.Context) (Own, error) {
	snap, h, err := l.own(ctx)
	_, waiting := snap.State.Waiters[l.Node]
	return Own{Holder: h, Waiting: waiting || snap.State.damagedWaiter(l.Node)}, err
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

// Acquire waits for this node's turn and takes the lock. It returns nil when
// the lock is held, and an error only when the context ends (the caller then
// calls Release to leave the waiting room) or when our own entry cannot be
// read. What it waits for, and errors of the API, go to report.
func (l *Lock) Acquire(ctx context.Context, d Demand, report func(Report)) error {
	a := &acquisition{Lock: l, demand: d, report: report}
	defer a.unwatch()
	if d.Shared {
		if err := sleep(ctx, rand.N(l.Pace.Spread)); err != nil {
			return err
		}
	}
	for failures := 0; ; {
		held, err := a.step(ctx)
		switch {
		case held:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for the lock: %w", context.Cause(ctx))
		case errors.Is(err, ErrUnreadable):
			return err
		case errors.Is(err, ErrConflict):
			// Somebody was quicker. Look again, not all at the same moment.
			a.stale = true
			if err := sleep(ctx, rand.N(l.Pace.Spread)); err != nil {
				return err
			}
		case err != nil:
			failures++
			a.unwatch()
			pause := l.Pace.backoff(failures)
			report(Report{Err: err, Next: time.Now().Add(pause)})
			if err := sleep(ctx, pause); err != nil {
				return err
			}
		default:
			failures = 0
		}
	}
}

// acquisition is one call of Acquire: what it has seen so far.
type acquisition struct {
	*Lock
	demand Demand
	report func(Report)

	snap      Snapshot
	seenSince time.Time // since when snap is the newest we know of, monotonic
	stale     bool      // snap must be read anew
	versions  <-chan Snapshot
	stop      context.CancelFunc // of the watch behind versions

	gone    map[string]string // holders with evidence that they are gone, and the UID that is
	checked time.Time
}

// step looks, decides, and does one thing: a write, or a wait. It returns true
// when the lock is held.
func (a *acquisition) step(ctx context.Context) (bool, error) {
	if a.versions == nil || a.stale {
		snap, err := a.read(ctx)
		if err != nil {
			return false, err
		}
		a.see(snap)
	}
	turn := a.ask()
	if turn.First && turn.Move != Take && time.Since(a.checked) >= a.Pace.Evidence {
		a.gone = a.lookForGone(ctx, turn.Queue.Holders)
		a.checked = time.Now()
		turn = a.ask()
	}
	switch turn.Move {
	case Hold:
		return true, nil
	case Stuck:
		return false, fmt.Errorf("%w: %s", ErrUnreadable, turn.Detail)
	case Take:
		err := a.write(ctx, take(a.Node, Holder{
			Boot: a.Boot, Phase: status.Locked, Since: time.Now().UTC().Truncate(time.Second),
			Max: a.Max, Reason: a.demand.Reason, UID: a.UID,
		}, turn.Gone))
		return err == nil, err
	case Join:
		return false, a.write(ctx, join(a.Node, Waiter{
			Since: a.demand.Since.UTC().Truncate(time.Second), Priority: a.Priority, UID: a.UID,
		}))
	}
	return false, a.wait(ctx, turn)
}

func (a *acquisition) ask() Turn {
	return a.snap.State.Ask(Asker{
		Node: a.Node, Max: a.Max, Room: a.Room, Gone: a.gone,
		FreeFor: time.Since(a.seenSince), Stagger: a.Pace.Stagger,
	})
}

// see takes a version as the newest known.
func (a *acquisition) see(snap Snapshot) {
	if snap.Revision != a.snap.Revision {
		a.seenSince = time.Now()
	}
	a.snap, a.stale = snap, false
}

func (a *acquisition) write(ctx context.Context, e Edit) error {
	ctx, cancel := context.WithTimeout(ctx, a.Pace.Call)
	defer cancel()
	snap, err := a.Store.Write(ctx, a.snap.Revision, e)
	if err != nil {
		// It may have been applied all the same: what we know is old.
		a.stale = true
		return err
	}
	a.see(snap)
	return nil
}

// wait blocks until the object changes or it is time to ask again.
func (a *acquisition) wait(ctx context.Context, turn Turn) error {
	after := turn.After
	if turn.Move == Outside {
		// Those outside do not watch; they look about once a minute.
		a.unwatch()
		after = a.Pace.Outside*3/4 + rand.N(a.Pace.Outside/2)
	} else if err := a.watch(ctx); err != nil {
		return err
	}
	if turn.First && len(turn.Queue.Holders) > 0 && a.Evidence != nil {
		evidence := a.Pace.Evidence + rand.N(a.Pace.Evidence/4)
		if after == 0 || evidence < after {
			after = evidence
		}
	}
	r := Report{Reason: turn.Reason, Detail: turn.Detail, Queue: turn.Queue}
	var timer <-chan time.Time
	if after > 0 {
		t := time.NewTimer(after)
		defer t.Stop()
		timer, r.Next = t.C, time.Now().Add(after)
	}
	a.report(r)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer:
	case snap, open := <-a.versions:
		if !open {
			a.unwatch() // read anew, then watch anew
			return sleep(ctx, rand.N(a.Pace.Spread))
		}
		a.see(snap)
	}
	return nil
}

// watch starts to watch from the version that we know, if it does not yet.
func (a *acquisition) watch(ctx context.Context) error {
	if a.versions != nil {
		return nil
	}
	watching, stop := context.WithCancel(ctx)
	versions, err := a.Store.Watch(watching, a.snap.Revision)
	if err != nil {
		stop()
		return err
	}
	a.versions, a.stop = versions, stop
	return nil
}

func (a *acquisition) unwatch() {
	if a.stop != nil {
		a.stop()
	}
	a.versions, a.stop = nil, nil
}

// lookForGone returns those holders whose Node does not exist or is another
// object than the one that took the lock. No answer is no evidence.
func (a *acquisition) lookForGone(ctx context.Context, holders []string) map[string]string {
	if a.Evidence == nil {
		return nil
	}
	gone := map[string]string{}
	for _, name := range holders {
		call, cancel := context.WithTimeout(ctx, a.Pace.Call)
		uid, found, err := a.Evidence.NodeUID(call, name)
		cancel()
		if err != nil {
			continue
		}
		if recorded := a.snap.State.Holders[name].UID; !found || (recorded != "" && recorded != uid) {
			gone[name] = recorded
		}
	}
	return gone
}

// Advance writes the phase into our entry. Its success proves that at this
// moment the lock is ours: it reads with quorum and then writes by
// compare-and-swap. The error is ErrLost when the entry is not there.
func (l *Lock) Advance(ctx context.Context, phase status.Phase) error {
	return l.update(ctx, func(h *Holder) (Edit, bool, error) {
		if h == nil || h.Boot != l.Boot {
			return Edit{}, false, ErrLost
		}
		return advance(l.Node, *h, phase), true, nil
	})
}

// Release removes our entries, from the lock and from the waiting room. It is
// no error if there are none. It never removes an entry that cannot be read.
func (l *Lock) Release(ctx context.Context) error {
	for try := 0; ; try++ {
		snap, h, err := l.own(ctx)
		if err != nil {
			return err
		}
		if _, waiting := snap.State.Waiters[l.Node]; h == nil && !waiting && !snap.State.damagedWaiter(l.Node) {
			return nil
		}
		if done, err := l.swap(ctx, snap, leave(l.Node), try); done || err != nil {
			return err
		}
	}
}

func (s State) damagedWaiter(node string) bool {
	return slices.ContainsFunc(s.Damaged, func(d Damage) bool { return d.Key == waiterPrefix+node })
}

// update reads our entry and writes what edit makes of it, again after a
// conflict.
func (l *Lock) update(ctx context.Context, edit func(*Holder) (Edit, bool, error)) error {
	for try := 0; ; try++ {
		snap, h, err := l.own(ctx)
		if err != nil {
			return err
		}
		e, write, err := edit(h)
		if err != nil || !write {
			return err
		}
		if done, err := l.swap(ctx, snap, e, try); done || err != nil {
			return err
		}
	}
}

// maxConflicts bounds how often one change is tried again.
const maxConflicts = 50

// swap writes once; a conflict costs a random pause and is not done.
func (l *Lock) swap(ctx context.Context, snap Snapshot, e Edit, try int) (bool, error) {
	call, cancel := context.WithTimeout(ctx, l.Pace.Call)
	defer cancel()
	_, err := l.Store.Write(call, snap.Revision, e)
	if errors.Is(err, ErrConflict) && try < maxConflicts {
		return false, sleep(ctx, rand.N(l.Pace.Spread))
	}
	return err == nil, err
}

func (l *Lock) read(ctx context.Context) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Pace.Call)
	defer cancel()
	return l.Store.Read(ctx)
}

// backoff is the pause after so many failures in a row: doubling from half a
// second to Retry, of which a random quarter is taken off.
func (p Pace) backoff(failures int) time.Duration {
	d := min(p.Retry, 500*time.Millisecond<<min(failures-1, 10))
	return d - rand.N(d/4+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
