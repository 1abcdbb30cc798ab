package lock_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/status"
)

func newLock(m *locktest.Memory, node string, max int) *lock.Lock {
	return &lock.Lock{Store: m, Pace: lock.DefaultPace(), Node: node, UID: "uid-" + node, Boot: bootA, Max: intstr.FromInt(max), Room: 8}
}

const bootA = "11111111111111111111111111111111"

func holds(max int) string {
	return entry(lock.Holder{Version: lock.Version, Boot: bootA, Phase: status.Draining, Max: max, UID: "u"})
}

func entry(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Many nodes want at once, each holds for a while, advances and releases; the
// API loses requests and replies. Never more holders than the limit, and all
// get their turn.
func TestManyWantAtOnce(t *testing.T) {
	for _, c := range []struct{ nodes, max int }{{3, 1}, {20, 1}, {60, 3}} {
		for _, faulty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d nodes, max %d, faulty %v", c.nodes, c.max, faulty), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := locktest.New(nil)
					m.Latency = 20 * time.Millisecond
					if faulty {
						m.Faults = func() (before, after error) {
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
						all.Go(func() { cycleOnce(t, newLock(m, fmt.Sprintf("node-%02d", i), c.max)) })
					}
					all.Wait()
					if len(m.Data()) != 0 {
						t.Errorf("left in the lock: %v", m.Data())
					}
					most := 0
					for _, data := range m.History() {
						s := lock.Parse(data)
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
					t.Logf("%d writes, %d conflicts, %d reads for %d turns", m.Counts().Writes, m.Counts().Conflicts, m.Counts().Reads, c.nodes)
				})
			})
		}
	}
}

func cycleOnce(t *testing.T, l *lock.Lock) {
	ctx := t.Context()
	if err := l.Acquire(ctx, lock.Demand{Reason: "linux-image", Since: time.Now(), Shared: true}, func(lock.Report) {}); err != nil {
		t.Errorf("%s: acquire: %v", l.Node, err)
		return
	}
	for _, step := range []func() error{
		func() error { return l.Advance(ctx, status.Draining) },
		func() error { return l.Advance(ctx, status.Rebooting) },
		func() error { return l.Release(ctx, l.Boot) },
	} {
		time.Sleep(rand.N(time.Minute))
		for {
			err := step()
			if err == nil {
				break
			}
			if errors.Is(err, lock.ErrLost) {
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
		m := locktest.New(map[string]string{
			"holder.a": holds(1),
			"waiter.b": entry(lock.Waiter{Version: lock.Version, Since: time.Now().Add(-time.Hour)}), // dead
		})
		got := make(chan string, 2)
		var all sync.WaitGroup
		defer all.Wait()
		for _, node := range []string{"c", "d"} {
			time.Sleep(2 * time.Second) // c comes before d
			l := newLock(m, node, 1)
			all.Go(func() {
				if err := l.Acquire(t.Context(), lock.Demand{Since: time.Now()}, func(lock.Report) {}); err != nil {
					t.Error(err)
				}
				got <- node
				if err := l.Release(t.Context(), l.Boot); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		m.Put(lock.Edit{Remove: []string{"holder.a"}})
		freed := time.Now()
		if first := <-got; first != "c" {
			t.Errorf("%s overtook c", first)
		}
		if waited, want := time.Since(freed), lock.DefaultPace().Stagger; waited < want {
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
				m := locktest.New(map[string]string{"holder.a": holds(1)})
				l := newLock(m, "b", 1)
				l.Evidence = c.nodes
				ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
				defer cancel()
				err := l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(lock.Report) {})
				if (err == nil) != c.frees {
					t.Fatalf("acquire: %v, want freed: %v", err, c.frees)
				}
				if _, still := m.Data()["holder.a"]; still == c.frees {
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
		{"held", map[string]string{"holder.me": strings.Replace(holds(1), `"u"`, `"uid-me"`, 1)}, nil},
		{"held by a Node that was before us", map[string]string{"holder.me": holds(1)}, lock.ErrLost},
		{"released by an admin", nil, lock.ErrLost},
		{"held for another boot", map[string]string{"holder.me": entry(lock.Holder{Version: 1, Boot: "2", Phase: status.Locked, Max: 1, UID: "uid-me"})}, lock.ErrLost},
		{"unreadable", map[string]string{"holder.me": "x"}, lock.ErrUnreadable},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := locktest.New(c.data)
			if err := newLock(m, "me", 1).Advance(t.Context(), status.Rebooting); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.want == nil && lock.Parse(m.Data()).Holders["me"].Phase != status.Rebooting {
				t.Error("the phase was not written")
			}
			if c.want != nil && m.Counts().Writes != 0 {
				t.Error("wrote without holding")
			}
		})
	}
}

// An entry of another boot is another process's.
func TestReleaseOfAnotherBoot(t *testing.T) {
	for boot, want := range map[string]int{bootA: 0, "another": 2} {
		m := locktest.New(map[string]string{"holder.me": holds(1), "waiter.me": entry(lock.Waiter{Version: lock.Version})})
		if err := newLock(m, "me", 1).Release(t.Context(), boot); err != nil || len(m.Data()) != want {
			t.Errorf("boot %s: error %v, left %v", boot, err, m.Data())
		}
	}
}

// What this kured cannot read it never removes.
func TestReleaseKeepsTheUnreadable(t *testing.T) {
	m := locktest.New(map[string]string{"holder.me": `{"v":99}`, "waiter.me": entry(lock.Waiter{Version: lock.Version})})
	if err := newLock(m, "me", 1).Release(t.Context(), bootA); !errors.Is(err, lock.ErrUnreadable) {
		t.Errorf("got %v, want ErrUnreadable", err)
	}
	if len(m.Data()) != 2 {
		t.Errorf("left: %v", m.Data())
	}
}

// An outage while waiting is reported and survived; nothing is asked faster
// than the back-off allows.
func TestOutageWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := locktest.New(nil)
		var down atomic.Bool
		down.Store(true)
		m.Faults = func() (error, error) {
			if down.Load() {
				return errors.New("connection refused"), nil
			}
			return nil, nil
		}
		l := newLock(m, "me", 1)
		var reports []lock.Report
		done := make(chan error)
		go func() {
			done <- l.Acquire(t.Context(), lock.Demand{Since: time.Now()}, func(r lock.Report) { reports = append(reports, r) })
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		n := m.Counts().Reads
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
		m := locktest.New(map[string]string{"holder.a": holds(1)})
		l := newLock(m, "me", 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(lock.Report) {}) }()
		synctest.Wait()
		if _, ok := m.Data()["waiter.me"]; !ok {
			t.Fatal("not in the waiting room")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("acquire: %v", err)
		}
		if err := l.Release(t.Context(), l.Boot); err != nil {
			t.Fatal(err)
		}
		if len(m.Data()) != 1 {
			t.Errorf("left: %v", m.Data())
		}
	})
}
