package sim

import (
	"context"
	"errors"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

var (
	errDead    = errors.New("killed")
	errLost    = errors.New("connection refused")
	errNoReply = errors.New("connection reset before the answer")
)

func forbidden(why string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "kured-lock", errors.New(why))
}

// process is one run of kured on a machine: the daemon, or kured-uncordon.
type process struct {
	actor
	w    *World
	m    *machine
	who  string // in the history
	mode cycle.Mode
	boot string // the boot that it was started in
	cfg  Config // what it read when it started

	ctx      context.Context
	cancel   context.CancelFunc
	gone     chan struct{} // closed when it is killed
	dead     bool
	ended    bool
	err      error
	uid      string // of the Node, as it was when it connected
	requests int
	minute   time.Time // begin of a minute in which burst requests were sent
	burst    int
	looking  int // at gates that are slow
	status   status.Status
	demand   chan struct{}
	ready    bool      // the node proved that it is well
	fencedAt time.Time // when it last wrote into the lock that it reboots
	pending  lock.Pending
}

// begin starts a process on the machine as it is now. mu is held.
func (w *World) begin(m *machine, a actor, mode cycle.Mode, limit time.Duration, ended func(error)) *process {
	p := &process{actor: a, w: w, m: m, who: m.name, mode: mode, boot: m.bootID(), cfg: m.cfg, gone: make(chan struct{}), demand: make(chan struct{}, 1)}
	if mode == cycle.Return {
		p.who += "'"
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if limit > 0 {
		p.ctx, p.cancel = context.WithTimeout(context.Background(), limit)
	}
	r := &cycle.Runner{
		Mode: mode, Boot: p.boot, Publish: p.publish, Jitter: p.jitter(forCycle),
		Parts: cycle.Parts{
			Dial: p.dial, Host: (*host)(p), Demand: p, Memory: (*memory)(p), Gates: (*gates)(p), Budget: (*budget)(p),
			Settings: cycle.Settings{
				ConfirmWithin: 30 * time.Second, Patience: 5 * time.Minute, BackOff: 5 * time.Minute, BackOffMax: time.Hour,
				Overdue: 15 * time.Minute, Drain: drain.Options{Timeout: 30 * time.Minute, GracePeriod: -1},
			},
			Log: slog.New(journal{p}),
		},
	}
	if mode != cycle.Run {
		r.Demand, r.Gates, r.Budget = nil, nil, nil
	}
	if w.Mutate.Runner != nil {
		w.Mutate.Runner(p, r)
	}
	w.all.Go(func() {
		err := r.Do(p.ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		p.cancel()
		p.ended, p.err = true, err
		if !p.dead && ended != nil {
			ended(err)
		}
	})
	return p
}

// kill ends a process at once: what it has not sent never arrives. mu is held.
func (p *process) kill(why string) {
	if p == nil || p.dead || p.ended {
		return
	}
	p.dead = true
	p.w.note(p.who, "killed %s", why)
	close(p.gone)
	p.cancel()
}

func (p *process) publish(s status.Status) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.dead {
		p.status = s
		if w.Watcher != nil {
			w.Watcher(p, s)
		}
	}
}

// sleep waits for d, until ctx ends or until the process is killed.
func (p *process) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(p.align(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gone:
		return errDead
	}
}

// request sends a request: it takes effect at the API server at a later
// instant, and its answer comes later still, if nothing comes between.
func request[T any](ctx context.Context, p *process, what string, effect func() (T, error)) (T, error) {
	var none T
	w := p.w
	w.mu.Lock()
	if err := ctx.Err(); err != nil || p.dead {
		w.mu.Unlock()
		return none, errors.Join(err, errDead)
	}
	p.requests++
	w.count.Requests++
	if w.judgeRequest(p, what); p.dead {
		w.mu.Unlock()
		return none, errDead
	}
	f := w.fate(p)
	if w.Strike != nil {
		p.m.sent++
		w.Strike(p, p.m.sent, what, &f)
	}
	if f.before != nil {
		f.before()
		if p.dead {
			w.mu.Unlock()
			return none, errDead
		}
	}
	late := func(d time.Duration) { // it is on its way, whatever becomes of its sender
		w.at(p.actor, d, func() {
			w.count.Late++
			w.note(p.who, "arrives late: %s", what)
			_, _ = effect()
		})
	}
	if f.crashBefore {
		if f.late {
			late(f.there)
		}
		w.crash(p, "before "+what)
		w.mu.Unlock()
		return none, errDead
	}
	w.mu.Unlock()
	if f.refused { // nothing listens
		if err := p.sleep(ctx, f.there); err != nil {
			return none, err
		}
		return none, errLost
	}
	if err := p.sleep(ctx, f.there); err != nil {
		if f.late {
			late(f.there)
		}
		return none, err
	}
	if f.lost {
		if f.late {
			late(p.between(forLate+1000, time.Second, 40*time.Second))
		}
		w.told(p, &w.count.Lost, "request lost: "+what)
		return none, p.swallowed(ctx)
	}
	w.mu.Lock()
	answer, err := none, f.refusal
	if err == nil {
		answer, err = effect()
	}
	if f.after != nil {
		f.after()
	}
	if f.crashAfter {
		w.crash(p, "after "+what)
	}
	w.mu.Unlock()
	if err := p.sleep(ctx, f.back); err != nil {
		return none, err
	}
	if f.replyLost {
		w.told(p, &w.count.LostReplies, "answer lost: "+what)
		if f.hangs {
			return none, p.swallowed(ctx)
		}
		return none, errNoReply
	}
	if err != nil {
		return none, err
	}
	return answer, nil
}

func (w *World) told(p *process, count *int, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*count++
	w.note(p.who, "%s", what)
}

// swallowed is a request that nothing ever answers.
func (p *process) swallowed(ctx context.Context) error {
	if err := p.sleep(ctx, 25*time.Second); err != nil {
		return err
	}
	return errNoReply
}

// dial connects.
func (p *process) dial(ctx context.Context) (*cycle.Cluster, error) {
	n, err := request(ctx, p, "get Node (connect)", func() (nodeObject, error) { return p.w.node(p.m.name) })
	if err != nil {
		return nil, err
	}
	p.w.mu.Lock()
	p.uid = n.uid
	p.w.mu.Unlock()
	l := p.lock(n.uid)
	own := (*self)(p)
	c := &cycle.Cluster{Node: p.m.name, UID: n.uid, Turn: l, Entries: l, Self: own, Pods: own, Ready: []cycle.Proof{{Reason: status.NotReady, Await: own.AwaitReadyReport}}, Close: func() {}}
	if p.w.Mutate.Cluster != nil {
		p.w.Mutate.Cluster(p, c)
	}
	return c, nil
}

// lock is the real lock, on the way that this process has to the API server.
func (p *process) lock(uid string) *lock.Lock {
	c := p.cfg
	l := &lock.Lock{
		Store: line{p}, Evidence: evidence{p}, Fleet: peers{p}, Rules: rules{p}, Pace: lock.DefaultPace(), Now: p.now,
		Node: p.m.name, UID: uid, Boot: p.boot, Zone: c.Zone,
		Max: c.Max, MinReady: c.MinReady, CountUnavailable: c.CountUnavailable, Room: c.Room, Priority: c.Priority,
		Pending: &p.pending,
	}
	l.Pace.Jitter = p.jitter(forLock)
	if p.w.Mutate.Lock != nil {
		p.w.Mutate.Lock(p, l)
	}
	return l
}

// line is the way to the lock object.
type line struct{ p *process }

func (l line) Read(ctx context.Context) (lock.Snapshot, error) {
	return request(ctx, l.p, "get lock", func() (lock.Snapshot, error) {
		if l.p.w.object.missing {
			return lock.Snapshot{}, lock.ErrMissing
		}
		return l.p.w.object.newest().snap, nil
	})
}

func (l line) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	sent := time.Now()
	return request(ctx, l.p, "patch lock: "+edit(e).String(), func() (lock.Snapshot, error) {
		return l.p.w.object.write(l.p, sent, revision, e)
	})
}

func (l line) Watch(ctx context.Context, revision string) (<-chan lock.Snapshot, error) {
	return request(ctx, l.p, "watch lock", func() (<-chan lock.Snapshot, error) {
		return l.p.w.object.watch(ctx, l.p, revision)
	})
}

// now is the wall clock.
func (p *process) now() time.Time { return time.Now().Add(p.m.skew) }

// rules asks for the policy.
type rules struct{ p *process }

func (r rules) Policy(ctx context.Context) (lock.Policy, error) {
	return request(ctx, r.p, "get policy", func() (lock.Policy, error) {
		return r.p.w.policies[len(r.p.w.policies)-1].policy, nil
	})
}

func (r rules) Enforced(ctx context.Context, _ string) (bool, error) {
	return request(ctx, r.p, "try the wall out", func() (bool, error) { return r.p.w.Wall, nil })
}

// peers lists the Nodes, as they were a while ago.
type peers struct{ p *process }

func (f peers) Nodes(ctx context.Context) ([]lock.Peer, error) {
	return request(ctx, f.p, "list Nodes", func() ([]lock.Peer, error) {
		w := f.p.w
		if w.Faults.NoList {
			return nil, lock.ErrListRefused
		}
		return w.fleetAt(time.Now().Add(-f.p.between(forStale, 0, w.Faults.Stale))), nil
	})
}

// evidence asks for other Nodes.
type evidence struct{ p *process }

func (e evidence) NodeUID(ctx context.Context, name string) (uid string, found bool, err error) {
	uid, err = request(ctx, e.p, "get Node "+name, func() (string, error) {
		if n := e.p.w.nodes[name]; n != nil {
			return n.uid, nil
		}
		return "", nil
	})
	return uid, uid != "", err
}
