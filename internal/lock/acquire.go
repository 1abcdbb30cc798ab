package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// Acquire waits for this node's turn and takes the lock. It returns nil when
// the lock is held, and an error only when the context ends (the caller then
// calls Release to leave the waiting room) or when our own entry cannot be
// read or is not of this boot (ErrUnreadable, ErrOther). What it waits for, and
// errors of the API, go to report; so does, at last, the queue when the lock is
// ours.
func (l *Lock) Acquire(ctx context.Context, d Demand, report func(Report)) error {
	// By our wall clock, whatever that is, from the time that passed.
	since := l.stamp(l.now().Add(-time.Since(d.Since)))
	a := &acquisition{Lock: l, demand: d, since: since, report: report, asleep: map[string]Waiter{}}
	defer a.unwatch()
	if d.Shared {
		if err := sleep(ctx, l.Pace.part(l.Pace.Opening)); err != nil {
			return fmt.Errorf("wait for the lock: %w", context.Cause(ctx))
		}
	}
	for failures, conflicts := 0, 0; ; {
		held, err := a.step(ctx)
		switch {
		case held:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for the lock: %w", context.Cause(ctx))
		case errors.Is(err, ErrUnreadable), errors.Is(err, ErrOther):
			return err
		case errors.Is(err, ErrConflict):
			// Somebody was quicker. Look again, not all at the same moment.
			spread := l.Pace.crowded(conflicts)
			if a.head {
				spread = l.Pace.brief(conflicts)
			}
			if err := sleep(ctx, l.Pace.part(spread)); err != nil {
				continue
			}
			conflicts++
		case err != nil:
			failures++
			a.unwatch()
			pause := l.Pace.backoff(failures)
			report(Report{Err: err, Next: time.Now().Add(pause)})
			if err := sleep(ctx, pause); err != nil {
				continue
			}
		default:
			failures, conflicts = 0, 0
		}
	}
}

// acquisition is one call of Acquire: what it has seen so far.
type acquisition struct {
	*Lock
	demand Demand
	since  time.Time // of the demand, as written
	report func(Report)

	snap      Snapshot
	seenSince time.Time // since when snap is the newest we know of, monotonic
	stale     bool      // snap must be read anew
	versions  <-chan Snapshot
	watched   time.Time          // when the watch behind versions began
	stop      context.CancelFunc // of that watch
	free      int                // slots at the last look
	head      bool               // first in the room, at the last look
	asleep    map[string]Waiter  // waiters that let others pass them

	ruling    Policy
	ruledAt   time.Time // when ruling was read
	pool      Pool
	pooledAt  time.Time
	recheck   time.Duration // until the pool is looked at again, from the room
	patience  time.Duration // before we try to pass a full room; 0: not drawn yet
	refused   bool          // we may not list Nodes
	checked   time.Time     // when the evidence was looked at
	passedAt  time.Time     // the same, against those whom we overtake
	outside   time.Duration // the last pause outside the room
	hesitated bool          // before entering the room
	lastRoom  State         // as it was before that pause
	enforced  *bool
	uncounted string
}

// step looks, decides, and does one thing: a write, or a wait. It returns true
// when the lock is held.
func (a *acquisition) step(ctx context.Context) (bool, error) {
	if a.stale {
		a.unwatch() // it may still deliver versions from before the one that we read now
	}
	if a.versions == nil {
		snap, err := a.read(ctx)
		if err != nil {
			return false, err
		}
		a.see(snap)
	}
	turn := a.ask()
	if own := a.snap.State.Holders[a.Node]; turn.Move == Hold && (own.Boot != a.Boot || own.UID != a.UID) {
		return false, ErrOther
	}
	if turn.Move == Hold {
		a.report(Report{Queue: a.queue(turn)})
		return true, nil
	}
	if turn.Move == Stuck {
		return false, fmt.Errorf("%w: %s", ErrUnreadable, turn.Detail)
	}
	for known := false; !known; {
		if err := a.learnRules(ctx, turn); err != nil {
			return false, err
		}
		if reason, detail, until := a.ruling.Closed(a.now()); reason != "" {
			return false, a.stayAway(ctx, turn, reason, detail, until)
		}
		known, turn = true, a.ask()
		if turn.Move == Take || turn.Pool {
			before := turn.Move
			if err := a.learnPool(ctx, turn); err != nil {
				return false, err
			}
			turn = a.ask()
			known = turn.Move != Take || before == Take // else the policy was not looked at for a take
		}
	}
	if burial := a.lookForGone(ctx, turn); len(burial.Remove) > 0 {
		return false, a.write(ctx, burial)
	}
	switch turn.Move {
	case Take:
		return a.take(ctx, turn)
	case Join:
		if a.many() && !a.hesitated {
			a.hesitated = true
			return false, sleep(ctx, a.Pace.part(a.Pace.Hesitate))
		}
		return false, a.write(ctx, join(a.Node, Waiter{Since: a.since, Priority: a.Priority, Zone: a.Zone, UID: a.UID}))
	}
	return false, a.wait(ctx, turn)
}

// many reports whether others may see what we see at the same time: those who
// began to ask at the same instant, or who look from outside.
func (a *acquisition) many() bool { return a.demand.Shared || a.outside > 0 }

func (a *acquisition) take(ctx context.Context, turn Turn) (bool, error) {
	h := Holder{
		Boot: a.Boot, Phase: status.Locked, Since: a.stamp(a.now()),
		Max: min(turn.Max, MaxHolders), Zone: a.Zone, Reason: a.demand.Reason, UID: a.UID,
	}
	if a.Zone != "" {
		h.Turn = turn.Turn
		if h.Turn.IsZero() {
			h.Turn = h.Since
		}
	}
	if err := a.write(ctx, take(a.Node, h)); err != nil {
		return false, err
	}
	a.learnEnforced(ctx)
	a.report(Report{Queue: a.queue(turn)})
	return true, nil
}

func (a *acquisition) ask() Turn {
	asker := Asker{
		Node: a.Node, Max: a.Max, Room: a.Room, Priority: a.Priority, Since: a.since, Zone: a.Zone,
		Policy: a.ruling, Pool: a.pool, MinReady: a.MinReady, CountUnavailable: a.CountUnavailable,
		Asleep: a.asleep, FreeFor: time.Since(a.seenSince), Stagger: a.Pace.Stagger,
	}
	if a.refused || a.Fleet == nil {
		// Nobody can say of how many: the tightest.
		asker.Max = numberOrOne(asker.Max)
		if asker.Policy.Max != nil {
			one := numberOrOne(*asker.Policy.Max)
			asker.Policy.Max = &one
		}
	}
	turn := a.snap.State.Ask(asker)
	if turn.Move == Take && turn.Queue.Place == 0 && !turn.Room {
		// Thousands may see the same room stand still, and each would list the Nodes to learn why.
		if a.patience == 0 {
			a.patience = a.Pace.part(a.Pace.OutsideMax)
		}
		asker.FreeFor = max(0, asker.FreeFor-a.patience)
		turn = a.snap.State.Ask(asker)
	}
	if turn.Move == Take && turn.Queue.Place == 0 && turn.Room && a.Fleet != nil && a.many() {
		turn.Move = Join // only from the room the Nodes are listed, which costs more than a place in it
	}
	a.head = turn.First && turn.Queue.Place > 0
	a.free = max(1, a.snap.State.limit(asker, asker.Pool.amount(asker.Max))-len(turn.Queue.Holders))
	return turn
}

func numberOrOne(v intstr.IntOrString) intstr.IntOrString {
	if v.Type == intstr.String {
		return intstr.FromInt32(1)
	}
	return v
}

// see takes a version as the newest known.
func (a *acquisition) see(snap Snapshot) {
	if snap.Revision != a.snap.Revision {
		a.seenSince = time.Now()
	}
	a.snap, a.stale = snap, false
}

// learn finds out who sleeps, from a version that follows the one we know:
// between others somebody may have come and had its turn.
func (a *acquisition) learn(next Snapshot) {
	for _, name := range overtaken(a.snap.State, next.State, a.free) {
		a.asleep[name] = next.State.Waiters[name]
	}
}

// write is not ended by the end of the demand: whether it was applied would
// not be known then.
func (a *acquisition) write(ctx context.Context, e Edit) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Pace.Call)
	defer cancel()
	snap, err := a.Lock.write(ctx, a.snap.Revision, e)
	if err != nil {
		// It may have been applied all the same: what we know is old.
		a.stale = true
		return err
	}
	a.see(snap)
	return nil
}

// stayAway leaves the waiting room while nobody may go, and looks again now
// and then.
func (a *acquisition) stayAway(ctx context.Context, turn Turn, reason status.Reason, detail string, until time.Time) error {
	if turn.Queue.Place > 0 {
		return a.write(ctx, leave(a.Node))
	}
	a.unwatch()
	after := a.Pace.about(a.Pace.Outside)
	if opens := until.Sub(a.now()); !until.IsZero() && opens > 0 && opens < after {
		after = opens + a.Pace.part(a.Pace.Opening)
	}
	a.ruledAt = time.Time{}
	return a.idle(ctx, Report{Reason: reason, Detail: detail, Queue: a.queue(turn)}, after)
}

// wait blocks until the object changes or it is time to ask again.
func (a *acquisition) wait(ctx context.Context, turn Turn) error {
	after := turn.After
	if turn.Move == Outside {
		// Those outside do not watch; they look now and then.
		a.unwatch()
		a.hesitated = false
		a.outside = a.Pace.outside(a.outside, leftRoom(a.lastRoom, a.snap.State), len(a.snap.State.Waiters))
		a.lastRoom = a.snap.State
		after = a.Pace.about(a.outside)
	} else {
		a.learnEnforced(ctx)
		if err := a.watch(ctx); err != nil {
			return err
		}
	}
	switch {
	case !turn.Pool:
		a.recheck = 0
	case turn.Move == Wait: // the first most often, but the first may be dead
		a.recheck = min(a.Pace.Evidence, max(a.Pace.Recheck, 2*a.recheck))
		after = sooner(after, a.Pace.about(a.recheck)*time.Duration(turn.Queue.Place))
	}
	if turn.Move == Wait && a.Evidence != nil && len(turn.Queue.Holders)+len(turn.Passed) > 0 {
		due := a.evidenceEvery(turn) - time.Since(a.checked)
		after = sooner(after, max(time.Second, due+a.Pace.part(a.Pace.Evidence/4)))
	}
	return a.idle(ctx, Report{Reason: turn.Reason, Detail: turn.Detail, Queue: a.queue(turn)}, after)
}

// tooShort is a watch that ended at once: not by the API server's time-out.
const tooShort = time.Second

// errCut is for such a watch. Who goes on without a pause would read and watch
// many times a second, where something on the way cuts what streams.
var errCut = errors.New("the watch of the lock object ended as soon as it began")

// idle waits for a new version of the object, where it is watched, or until
// after has passed (0: no limit).
func (a *acquisition) idle(ctx context.Context, r Report, after time.Duration) error {
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
			if time.Since(a.watched) < tooShort {
				return errCut
			}
			return sleep(ctx, a.Pace.part(a.Pace.Spread))
		}
		a.learn(snap)
		a.see(snap)
	}
	return nil
}

// queue completes what a turn knows of the queue.
func (a *acquisition) queue(turn Turn) status.Queue {
	q := turn.Queue
	q.Enforced, q.Uncounted = a.enforced, a.uncounted
	return q
}

// leftRoom counts the waiters of before that are not there any more.
func leftRoom(before, after State) int {
	left := 0
	for name := range before.Waiters {
		if _, still := after.Waiters[name]; !still {
			left++
		}
	}
	return left
}

// sooner is the lesser of two pauses of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
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
	a.versions, a.stop, a.watched = versions, stop, time.Now()
	return nil
}

func (a *acquisition) unwatch() {
	if a.stop != nil {
		a.stop()
	}
	a.versions, a.stop = nil, nil
}
