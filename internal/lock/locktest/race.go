package locktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// Race is many nodes that want the same lock at the same instant.
type Race struct {
	Witness lock.Store    // sees every version
	Locks   []*lock.Lock  // of the nodes; their Store is replaced by one that counts
	Hold    time.Duration // how long each holds, beside its requests
	// Crowd makes the first ones hold until so many do at one time, however
	// slow the machine is; 0: nobody waits for others.
	Crowd int
	// Again makes a node that has released ask again, after a random part of
	// Rest, until there were so many turns; 0: each node has one turn.
	Again int
	Rest  time.Duration
	// After is how long the begin, when all come at once, does not count:
	// neither as turns nor in the costs.
	After time.Duration
}

// Result is what a race cost and what was seen of it.
type Result struct {
	Took     time.Duration
	Turns    map[string]int // by node: how often it became a holder, as the witness saw it
	Most     int            // holders in one version, at most
	Inside   int            // nodes between their Acquire and their Release at one time, at most
	Versions int
	Missed   []string // revisions that were written and that the witness did not see, or saw and nobody wrote

	Reads, Writes, Conflicts int
	// HandOffs are the times from the call of Release until the witness sees
	// the next one hold, where somebody was in the waiting room.
	HandOffs []time.Duration
	// Idle is the same in all, also where nobody was in the room and the next
	// one had to look from outside.
	Idle []time.Duration
	// Overtaken is how many nodes, at most, took the lock past one that was
	// ahead of them in the waiting room.
	Overtaken int
	// Watchful is how often, in a minute, those looked at the lock object who
	// never came into the waiting room; 0 if there were none.
	Watchful   float64
	WriteTimes []time.Duration // of the writes that succeeded
	Trouble    []error         // what nodes were told beside "not yet"
}

// Unseen is how a Missed revision begins that was written and not seen.
const Unseen = "written, not seen: "

// run is a race under way.
type run struct {
	Race
	mu       sync.Mutex
	result   Result
	stores   []*counted
	turns    int  // begun
	finished bool // what comes now does not count
	enough   func()
	inside   int                  // nodes that hold now, as they know it
	crowded  chan struct{}        // closed when Crowd nodes held
	gathered bool                 // it is
	released map[string]time.Time // by node: when it began to release
	written  map[string]bool      // revisions
	began    time.Time
}

// Run lets them race until all had their turns. An error is one of the
// machinery; whether the rules were kept is in the Result.
func (r Race) Run(ctx context.Context) (Result, error) {
	start, err := r.Witness.Read(ctx)
	if err != nil {
		return Result{}, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	versions, err := r.Witness.Watch(watching, start.Revision)
	if err != nil {
		return Result{}, err
	}
	race := &run{Race: r, result: Result{Turns: map[string]int{}}, released: map[string]time.Time{}, written: map[string]bool{}, began: time.Now(), crowded: make(chan struct{})}
	if r.Crowd == 0 {
		race.crowd()
	}
	last := make(chan string, 1)
	seen := make(chan error, 1)
	go func() { seen <- race.watch(start, versions, last) }()

	var all sync.WaitGroup
	failed := make(chan error, len(r.Locks))
	racing, enough := context.WithCancel(ctx)
	defer enough()
	race.enough = enough
	for _, l := range r.Locks {
		store := &counted{Store: l.Store, run: race}
		race.stores = append(race.stores, store)
		l.Store = store
		defer func() { l.Store = store.Store }()
	}
	for _, l := range r.Locks {
		all.Go(func() {
			if err := race.node(ctx, racing, l); err != nil {
				failed <- fmt.Errorf("%s: %w", l.Node, err)
			}
		})
	}
	all.Wait()
	race.finish()
	end, err := r.Witness.Read(ctx)
	if err != nil {
		return race.result, err
	}
	last <- end.Revision
	if end.Revision == start.Revision {
		stop() // no version will come
	}
	err = <-seen
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return race.result, err
}

// node takes and releases the lock, as one node does, until racing ends.
func (r *run) node(ctx, racing context.Context, l *lock.Lock) error {
	for first := true; first || r.Again > 0; first = false {
		err := l.Acquire(racing, lock.Demand{Reason: "linux-image-6.12.48+deb13-amd64", Since: time.Now(), Shared: first}, func(rep lock.Report) {
			r.trouble(l.Node, rep.Err)
		})
		switch {
		case err != nil && racing.Err() != nil && ctx.Err() == nil:
			return l.Release(ctx, l.Boot) // leaves the waiting room
		case err != nil:
			return err
		}
		r.enter(+1)
		if err := pause(ctx, r.Hold/2); err != nil {
			return err
		}
		if err := l.Advance(ctx, status.Rebooting); err != nil {
			return err
		}
		if err := pause(ctx, r.Hold/2); err != nil {
			return err
		}
		select {
		case <-r.crowded:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d nodes that hold: %w", r.Crowd, ctx.Err())
		}
		r.enter(-1)
		r.mu.Lock()
		r.released[l.Node] = time.Now()
		r.mu.Unlock()
		if err := l.Release(ctx, l.Boot); err != nil {
			return err
		}
		if r.Again > 0 && r.Rest > 0 && pause(racing, rand.N(r.Rest)) != nil {
			return ctx.Err()
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter counts those who hold, and ends the race after the last turn.
func (r *run) enter(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside += n
	r.result.Inside = max(r.result.Inside, r.inside)
	if r.inside == r.Crowd {
		r.crowd()
	}
	if n > 0 && !r.opening() {
		r.turns++
	} else if r.Again > 0 && r.turns >= r.Again {
		r.finishLocked()
		r.enough()
	}
}

// crowd lets those go who hold. mu is held, or nobody runs yet.
func (r *run) crowd() {
	if !r.gathered {
		r.gathered = true
		close(r.crowded)
	}
}

// finish ends the counting, if it has not ended: what follows is the leaving.
func (r *run) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finishLocked()
}

func (r *run) finishLocked() {
	if r.finished {
		return
	}
	r.finished = true
	r.result.Took = time.Since(r.began)
	r.result.Watchful = watchful(r.stores)
}

func (r *run) opening() bool { return time.Since(r.began) < r.After }

func (r *run) trouble(node string, err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Trouble = append(r.result.Trouble, fmt.Errorf("%s: %w", node, err))
}

// watch judges each version until the last one.
func (r *run) watch(before lock.Snapshot, versions <-chan lock.Snapshot, last <-chan string) error {
	var (
		seen      = map[string]bool{}
		overtaken = map[string]int{}
		freed     []freedom // slots that were released and not taken yet
		end       string
	)
	for before.Revision != end || end == "" {
		var now lock.Snapshot
		var open bool
		select {
		case now, open = <-versions:
		case end = <-last:
			continue
		}
		if !open {
			select {
			case end = <-last:
			default:
			}
			if before.Revision == end {
				break
			}
			return fmt.Errorf("the witness's watch ended at revision %s", before.Revision)
		}
		at := time.Now()
		r.mu.Lock()
		seen[now.Revision] = true
		r.result.Versions++
		r.result.Most = max(r.result.Most, len(now.State.Holders)+len(now.State.Blocking()))
		for _, name := range before.State.HolderNames() {
			if _, still := now.State.Holders[name]; !still {
				freed = append(freed, freedom{r.released[name], len(before.State.Waiters) > 0})
			}
		}
		for _, name := range now.State.HolderNames() {
			if _, held := before.State.Holders[name]; held {
				continue
			}
			r.result.Turns[name]++
			for _, passed := range passedBy(before.State, name) {
				overtaken[passed]++
				r.result.Overtaken = max(r.result.Overtaken, overtaken[passed])
			}
			delete(overtaken, name)
			if len(freed) > 0 && !r.finished && freed[0].at.Sub(r.began) >= r.After {
				took := at.Sub(freed[0].at)
				r.result.Idle = append(r.result.Idle, took)
				if freed[0].awaited {
					r.result.HandOffs = append(r.result.HandOffs, took)
				}
			}
			freed = freed[min(1, len(freed)):]
		}
		r.mu.Unlock()
		before = now
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for revision := range r.written {
		if !seen[revision] {
			r.result.Missed = append(r.result.Missed, Unseen+revision)
		}
	}
	for revision := range seen {
		if !r.written[revision] {
			r.result.Missed = append(r.result.Missed, "seen, not written: "+revision)
		}
	}
	slices.SortFunc(r.result.Missed, strings.Compare)
	return nil
}

// freedom is a slot that was released.
type freedom struct {
	at      time.Time // when its holder began to release it
	awaited bool      // somebody was in the waiting room
}

// passedBy lists those who were ahead of name in the waiting room.
func passedBy(before lock.State, name string) []string {
	order := before.Order()
	if place := slices.Index(order, name); place >= 0 {
		return order[:place]
	}
	return order // it came from outside
}

// counted counts what one node does to the lock object.
type counted struct {
	lock.Store
	run           *run
	reads, writes int
	from          time.Time // of the first read
}

// watchful is for Result.
func watchful(stores []*counted) float64 {
	reads, minutes := 0, 0.0
	for _, c := range stores {
		if c.writes == 0 && c.reads > 0 {
			reads += c.reads - 1
			minutes += time.Since(c.from).Minutes()
		}
	}
	if minutes == 0 {
		return 0
	}
	return float64(reads) / minutes
}

func (c *counted) Read(ctx context.Context) (lock.Snapshot, error) {
	snap, err := c.Store.Read(ctx)
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	if c.run.finished || c.run.opening() {
		return snap, err
	}
	c.run.result.Reads++
	if c.reads++; c.reads == 1 {
		c.from = time.Now()
	}
	return snap, err
}

func (c *counted) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	began := time.Now()
	snap, err := c.Store.Write(ctx, revision, e)
	took := time.Since(began)
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	if err == nil {
		c.run.written[snap.Revision] = true
	}
	if c.run.finished || c.run.opening() {
		return snap, err
	}
	c.run.result.Writes++
	c.writes++
	switch {
	case err == nil:
		c.run.result.WriteTimes = append(c.run.result.WriteTimes, took)
	case errors.Is(err, lock.ErrConflict):
		c.run.result.Conflicts++
	case ctx.Err() == nil:
		c.run.result.Trouble = append(c.run.result.Trouble, err)
	}
	return snap, err
}
