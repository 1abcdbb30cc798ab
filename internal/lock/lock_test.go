package lock

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// memory is a Store with compare-and-swap and watches, whose requests take
// time and can fail before or after they took effect.
type memory struct {
	mu       sync.Mutex
	data     map[string]string
	revision int
	changed  chan struct{} // closed at each write
	history  []map[string]string

	latency time.Duration                // of each request, up to
	fault   func() (before, after error) // nil: none
	reads   int
	writes  int
	lost    int // conflicts
}

func newMemory() *memory { return &memory{revision: 1, changed: make(chan struct{})} }

func (m *memory) delay(ctx context.Context) error {
	if m.latency == 0 {
		return ctx.Err()
	}
	return sleep(ctx, rand.N(m.latency))
}

func (m *memory) faults() (error, error) {
	if m.fault == nil {
		return nil, nil
	}
	return m.fault()
}

func (m *memory) snapshot() Snapshot {
	return Snapshot{State: Parse(m.data), Revision: strconv.Itoa(m.revision)}
}

func (m *memory) Read(ctx context.Context) (Snapshot, error) {
	if err := m.delay(ctx); err != nil {
		return Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if before, _ := m.faults(); before != nil {
		return Snapshot{}, before
	}
	return m.snapshot(), nil
}

func (m *memory) Write(ctx context.Context, revision string, e Edit) (Snapshot, error) {
	if err := m.delay(ctx); err != nil {
		return Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	before, after := m.faults()
	if before != nil {
		return Snapshot{}, before
	}
	if revision != strconv.Itoa(m.revision) {
		m.lost++
		return Snapshot{}, ErrConflict
	}
	m.put(e.Apply(m.data))
	return m.snapshot(), after
}

func (m *memory) put(data map[string]string) {
	m.data = data
	m.revision++
	m.history = append(m.history, maps.Clone(data))
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Watch(ctx context.Context, revision string) (<-chan Snapshot, error) {
	if before, _ := m.faults(); before != nil {
		return nil, before
	}
	versions := make(chan Snapshot)
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

func (m *memory) lock(node string, max int) *Lock {
	return &Lock{Store: m, Pace: DefaultPace(), Node: node, UID: "uid-" + node, Boot: bootA, Max: max, Room: 8}
}

// Many nodes want at once, each holds for a while, advances and releases; the
// API loses requests and replies. Never more holders than the limit, and all
// get their turn.
func TestManyWantAtOnce(t *testing.T) {
	for _, c := range []struct{ nodes, max int }{{3, 1}, {20, 1}, {60, 3}} {
		for _, faulty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d nodes, max %d, faulty %v", c.nodes, c.max, faulty), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemory()
					m.latency = 20 * time.Millisecond
					if faulty {
						m.fault = func() (before, after error) {
							switch rand.IntN(10) {
							case 0:
								return errors.New("request lost"), nil
							case 1:
								return nil, errors.New("reply lost")
							}
							return nil, nil
						}
					}
					var all sync.WaitGroup
					for i := range c.nodes {
						all.Go(func() { cycleOnce(t, m.lock(fmt.Sprintf("node-%02d", i), c.max)) })
					}
					all.Wait()
					if len(m.data) != 0 {
						t.Errorf("left in the lock: %v", m.data)
					}
					most := 0
					for _, data := range m.history {
						s := Parse(data)
						most = max(most, len(s.Holders))
						if len(s.Waiters) > 8 {
							t.Errorf("%d waiters in a room of 8", len(s.Waiters))
						}
						size := 0
						for k, v := range data {
							size += len(k) + len(v)
						}
						if size > 4096 {
							t.Errorf("object of %d bytes", size)
						}
					}
					if most != c.max {
						t.Errorf("at most %d held at once, want %d", most, c.max)
					}
					t.Logf("%d writes, %d conflicts, %d reads for %d turns", m.writes, m.lost, m.reads, c.nodes)
				})
			})
		}
	}
}

func cycleOnce(t *testing.T, l *Lock) {
	ctx := t.Context()
	if err := l.Acquire(ctx, Demand{Reason: "linux-image", Since: time.Now(), Shared: true}, func(Report) {}); err != nil {
		t.Errorf("%s: acquire: %v", l.Node, err)
		return
	}
	for _, step := range []func() error{
		func() error { return l.Advance(ctx, status.Draining) },
		func() error { return l.Advance(ctx, status.Rebooting) },
		func() error { return l.Release(ctx) },
	} {
		time.Sleep(rand.N(time.Minute))
		for {
			err := step()
			if err == nil {
				break
			}
			if errors.Is(err, ErrLost) {
				t.Errorf("%s: %v", l.Node, err)
				return
			}
			time.Sleep(time.Second)
		}
	}
}

// A waiter that died in the room is overtaken; one that is alive is not.
func TestDeadWaiterIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.data = map[string]string{
			"holder.a": encode(holds(1)),
			"waiter.b": encode(Waiter{Version: Version, Since: time.Now().Add(-time.Hour)}), // dead
		}
		got := make(chan string, 2)
		for _, node := range []string{"c", "d"} {
			time.Sleep(2 * time.Second) // c comes before d
			l := m.lock(node, 1)
			go func() {
				if err := l.Acquire(t.Context(), Demand{Since: time.Now()}, func(Report) {}); err != nil {
					t.Error(err)
				}
				got <- node
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		m.mu.Lock()
		m.put(leave("a").Apply(m.data))
		m.mu.Unlock()
		freed := time.Now()
		if first := <-got; first != "c" {
			t.Errorf("%s overtook c", first)
		}
		if waited, want := time.Since(freed), DefaultPace().Stagger; waited < want {
			t.Errorf("overtaken after %s, the dead has %s", waited, want)
		}
		if second := <-got; second != "d" {
			t.Errorf("second was %s", second)
		}
	})
}

type nodes map[string]string // name -> UID

func (n nodes) NodeUID(_ context.Context, name string) (string, bool, error) {
	if n[name] == "?" {
		return "", false, errors.New("forbidden")
	}
	uid, ok := n[name]
	return uid, ok, nil
}

// A holder counts until there is evidence that its Node is gone; time alone
// never frees the lock.
func TestOnlyEvidenceFrees(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes nodes
		frees bool
	}{
		{"Node exists", nodes{"a": "u"}, false},
		{"Node is gone", nodes{}, true},
		{"Node was created anew", nodes{"a": "other"}, true},
		{"Node cannot be read", nodes{"a": "?"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				m.data = map[string]string{"holder.a": encode(holds(1))}
				l := m.lock("b", 1)
				l.Evidence = c.nodes
				ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
				defer cancel()
				err := l.Acquire(ctx, Demand{Since: time.Now()}, func(Report) {})
				if (err == nil) != c.frees {
					t.Fatalf("acquire: %v, want freed: %v", err, c.frees)
				}
				if _, still := m.data["holder.a"]; still == c.frees {
					t.Errorf("entry of a still there: %v", still)
				}
			})
		})
	}
}

func TestAdvanceIsAFence(t *testing.T) {
	for _, c := range []struct {
		name string
		data map[string]string
		want error
	}{
		{"held", map[string]string{"holder.me": encode(holds(1))}, nil},
		{"released by an admin", nil, ErrLost},
		{"held for another boot", map[string]string{"holder.me": encode(Holder{Version: 1, Boot: "2", Phase: status.Locked, Max: 1})}, ErrLost},
		{"unreadable", map[string]string{"holder.me": "x"}, ErrUnreadable},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			m.data = c.data
			if err := m.lock("me", 1).Advance(t.Context(), status.Rebooting); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.want == nil && Parse(m.data).Holders["me"].Phase != status.Rebooting {
				t.Error("the phase was not written")
			}
			if c.want != nil && m.writes != 0 {
				t.Error("wrote without holding")
			}
		})
	}
}

// What this kured cannot read it never removes.
func TestReleaseKeepsTheUnreadable(t *testing.T) {
	m := newMemory()
	m.data = map[string]string{"holder.me": `{"v":99}`, "waiter.me": encode(waits(0, 0))}
	if err := m.lock("me", 1).Release(t.Context()); !errors.Is(err, ErrUnreadable) {
		t.Errorf("got %v, want ErrUnreadable", err)
	}
	if len(m.data) != 2 {
		t.Errorf("left: %v", m.data)
	}
}

// An outage while waiting is reported and survived; nothing is asked faster
// than the back-off allows.
func TestOutageWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var down atomic.Bool
		down.Store(true)
		m.fault = func() (error, error) {
			if down.Load() {
				return errors.New("connection refused"), nil
			}
			return nil, nil
		}
		l := m.lock("me", 1)
		var reports []Report
		done := make(chan error)
		go func() {
			done <- l.Acquire(t.Context(), Demand{Since: time.Now()}, func(r Report) { reports = append(reports, r) })
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		m.mu.Lock()
		n := m.reads
		m.mu.Unlock()
		if n < 15 || n > 40 {
			t.Errorf("%d requests in 10 minutes of outage", n)
		}
		down.Store(false)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(reports) == 0 || reports[0].Err == nil || reports[0].Next.IsZero() {
			t.Errorf("outage was not reported: %+v", reports)
		}
	})
}

// A node whose wait is ended leaves the room.
func TestLeaveTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.data = map[string]string{"holder.a": encode(holds(1))}
		l := m.lock("me", 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Acquire(ctx, Demand{Since: time.Now()}, func(Report) {}) }()
		synctest.Wait()
		if _, ok := m.data["waiter.me"]; !ok {
			t.Fatal("not in the waiting room")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("acquire: %v", err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(m.data) != 1 {
			t.Errorf("left: %v", m.data)
		}
	})
}
