package sim

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// TestMutants breaks one rule at a time, and sees that a law notices: a check
// that cannot fail proves nothing.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.what, " ", "-"), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 400; seed++ {
				s := Weather(seed)
				s.Wall = s.Wall && !m.noWall // the wall is to be no help
				s.Mutate = m.mutation
				for _, broken := range tell(t, s).Broken() {
					if strings.Contains(broken, m.law) {
						t.Logf("caught by seed %d: %s", seed, broken)
						return
					}
				}
			}
			t.Errorf("nobody noticed that kured %s", m.what)
		})
	}
}

type mutant struct {
	what     string // kured does wrong
	law      string // that notices
	noWall   bool
	mutation Mutation
}

var mutants = []mutant{
	{what: "writes without comparing the revision", law: "LAW 1", noWall: true, mutation: store(func(m *mutantStore) { m.blind = true })},
	{what: "believes that whoever holds is gone", law: "LAW 6", noWall: true, mutation: onLock(func(_ *process, l *lock.Lock) { l.Evidence = liar{} })},
	{what: "does not look at the others' limits", law: "LAW 1", noWall: true, mutation: store(func(m *mutantStore) { m.wide = true })},
	{what: "does not see what it cannot read", law: "LAW 1", noWall: true, mutation: store(func(m *mutantStore) { m.tidy = true })},
	{what: "mixes zones", law: "zones mix", noWall: true, mutation: store(func(m *mutantStore) { m.oneZone = true })},
	{what: "does not read the policy", law: "LAW 5: took the lock although", noWall: true, mutation: onLock(func(_ *process, l *lock.Lock) { l.Rules = nil })},
	{what: "does not look at the other Nodes", law: "LAW 1", noWall: true, mutation: onLock(func(_ *process, l *lock.Lock) { l.Fleet = allWell{l.Fleet} })},
	{what: "keeps no node Ready", law: "min_ready", mutation: onLock(func(_ *process, l *lock.Lock) { l.MinReady.Type, l.MinReady.IntVal = 0, 0; l.Fleet = noQuorum{l.Fleet} })},
	{what: "ignores the size of the waiting room", law: "waiting room", mutation: onLock(func(_ *process, l *lock.Lock) { l.Room = 99 })},
	{what: "writes the entry of another Node", law: "LAW 6", noWall: true, mutation: onLock(func(_ *process, l *lock.Lock) { l.UID = "uid-1" })},

	{what: "skips the fence", law: "LAW 1: reboots", mutation: onTurn(func(_ *process, t *mutantTurn) { t.noFence = true })},
	{what: "takes a lost lock for its own", law: "LAW 1", mutation: onTurn(func(_ *process, t *mutantTurn) { t.neverLost = true })},
	{what: "thinks that it holds without asking", law: "asks without a pause", mutation: onTurn(func(_ *process, t *mutantTurn) { t.noAcquire = true })},
	{what: "forgets to release", law: "asks without a pause", mutation: onTurn(func(_ *process, t *mutantTurn) { t.noRelease = true })},
	{what: "releases before it uncordons", law: "LAW 4: released the lock while its cordon is in place",
		mutation: onCluster(func(p *process, c *cycle.Cluster) { c.Self = hasty{c.Self, c.Turn.(*lock.Lock)} })},
	{what: "never uncordons", law: "LAW 4", mutation: onCluster(func(_ *process, c *cycle.Cluster) { c.Self = stubborn{c.Self} })},
	{what: "uncordons what a person cordoned", law: "LAW 3", mutation: onCluster(func(p *process, c *cycle.Cluster) { c.Self = meddler{c.Self, p} })},
	{what: "comes back without having been Ready", law: "LAW 2", mutation: onCluster(func(_ *process, c *cycle.Cluster) { c.Ready = nil })},

	{what: "takes a restart for a reboot", law: "LAW 2", mutation: onRunner(func(p *process, r *cycle.Runner) {
		if r.Mode == cycle.Return {
			r.Boot = "00000000000000000000000000000099"
		}
	})},
	{what: "takes every gate for open", law: "LAW 5", mutation: onRunner(func(_ *process, r *cycle.Runner) {
		if r.Mode == cycle.Run {
			r.Gates = openGates{r.Gates}
		}
	})},
	{what: "looks at the cluster while it idles", law: "LAW 7", mutation: onRunner(func(p *process, r *cycle.Runner) {
		if r.Mode == cycle.Run {
			r.Rest = func() { p.w.all.Go(func() { p.peek() }) }
		}
	})},
}

// The places where a rule can be broken.
func onLock(do func(*process, *lock.Lock)) Mutation        { return Mutation{Lock: do} }
func onCluster(do func(*process, *cycle.Cluster)) Mutation { return Mutation{Cluster: do} }
func onRunner(do func(*process, *cycle.Runner)) Mutation   { return Mutation{Runner: do} }

func onTurn(do func(*process, *mutantTurn)) Mutation {
	return onCluster(func(p *process, c *cycle.Cluster) {
		t := &mutantTurn{Turn: c.Turn}
		do(p, t)
		c.Turn = t
	})
}

func store(do func(*mutantStore)) Mutation {
	return onLock(func(p *process, l *lock.Lock) {
		m := &mutantStore{Store: l.Store, p: p}
		do(m)
		l.Store = m
	})
}

// mutantStore shows another lock object than there is.
type mutantStore struct {
	lock.Store
	p                          *process
	blind, wide, tidy, oneZone bool
}

func (m *mutantStore) Read(ctx context.Context) (lock.Snapshot, error) {
	snap, err := m.Store.Read(ctx)
	return m.twist(snap), err
}

func (m *mutantStore) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	if m.blind {
		m.p.w.mu.Lock()
		revision = m.p.w.object.newest().snap.Revision
		m.p.w.mu.Unlock()
	}
	snap, err := m.Store.Write(ctx, revision, e)
	return m.twist(snap), err
}

func (m *mutantStore) Watch(ctx context.Context, revision string) (<-chan lock.Snapshot, error) {
	from, err := m.Store.Watch(ctx, revision)
	if err != nil {
		return nil, err
	}
	to := make(chan lock.Snapshot, cap(from))
	go func() {
		defer close(to)
		for snap := range from {
			to <- m.twist(snap)
		}
	}()
	return to, nil
}

func (m *mutantStore) twist(snap lock.Snapshot) lock.Snapshot {
	s := lock.State{Holders: map[string]lock.Holder{}, Waiters: snap.State.Waiters, Damaged: snap.State.Damaged}
	for name, h := range snap.State.Holders {
		if m.wide && name != m.p.m.name {
			h.Max = lock.MaxHolders
		}
		if m.oneZone && name != m.p.m.name {
			h.Zone = m.p.cfg.Zone
		}
		s.Holders[name] = h
	}
	if m.tidy {
		s.Damaged = nil
	}
	snap.State = s
	return snap
}

// liar says that no Node exists.
type liar struct{}

func (liar) NodeUID(context.Context, string) (string, bool, error) { return "", false, nil }

// allWell sees no Node that is down.
type allWell struct{ lock.Fleet }

func (a allWell) Nodes(ctx context.Context) ([]lock.Peer, error) {
	peers, err := a.Fleet.Nodes(ctx)
	var well []lock.Peer
	for _, p := range peers {
		p.Ready, p.Cordoned = true, false
		well = append(well, p)
	}
	return well, err
}

// noQuorum sees no control plane.
type noQuorum struct{ lock.Fleet }

func (a noQuorum) Nodes(ctx context.Context) ([]lock.Peer, error) {
	peers, err := a.Fleet.Nodes(ctx)
	var plain []lock.Peer
	for _, p := range peers {
		p.ControlPlane = false
		plain = append(plain, p)
	}
	return plain, err
}

// mutantTurn is a lock that does not do all of its work.
type mutantTurn struct {
	cycle.Turn
	noFence, neverLost, noAcquire, noRelease bool
}

func (t *mutantTurn) Acquire(ctx context.Context, d lock.Demand, report func(lock.Report)) error {
	if t.noAcquire {
		return nil
	}
	return t.Turn.Acquire(ctx, d, report)
}

func (t *mutantTurn) Advance(ctx context.Context, phase status.Phase) error {
	if t.noFence && phase == status.Rebooting {
		return nil
	}
	err := t.Turn.Advance(ctx, phase)
	if t.neverLost && err != nil {
		return nil
	}
	return err
}

func (t *mutantTurn) Release(ctx context.Context, boot string) error {
	if t.noRelease {
		return nil
	}
	return t.Turn.Release(ctx, boot)
}

type hasty struct {
	cycle.Node
	lock *lock.Lock
}

func (h hasty) Uncordon(ctx context.Context, mark string) (bool, error) {
	own, err := h.lock.Read(ctx)
	if err != nil {
		return false, err
	}
	if own.Holder != nil {
		if err := h.lock.Release(ctx, own.Holder.Boot); err != nil {
			return false, err
		}
	}
	return h.Node.Uncordon(ctx, mark)
}

type stubborn struct{ cycle.Node }

func (stubborn) Uncordon(context.Context, string) (bool, error) { return true, nil }

type meddler struct {
	cycle.Node
	p *process
}

func (m meddler) Get(ctx context.Context) (node.State, error) {
	s, err := m.Node.Get(ctx)
	if err == nil && s.Unschedulable && s.Mark == "" {
		_, err = (*self)(m.p).change(ctx, "uncordon", func(n *nodeObject) bool {
			n.unschedulable = false
			return true
		})
	}
	return s, err
}

type openGates struct{ cycle.Gates }

func (openGates) Check(context.Context, gate.Moment) gate.Verdict { return gate.Verdict{Open: true} }

// peek asks now and then although nobody wants anything.
func (p *process) peek() {
	for p.sleep(p.ctx, time.Hour) == nil {
		_, _ = request(p.ctx, p, "get lock, out of curiosity", func() (struct{}, error) { return struct{}{}, nil })
	}
}
