package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/status"
)

// rules is what the cluster says, as a value that a test changes.
type rules struct {
	mu       sync.Mutex
	policy   lock.Policy
	err      error
	enforced bool
	read     int
}

func (r *rules) Policy(context.Context) (lock.Policy, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read++
	return r.policy, r.err
}

func (r *rules) Enforced(context.Context, string) (bool, error) { return r.enforced, nil }

func (r *rules) set(p lock.Policy, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy, r.err = p, err
}

// fleet is the Nodes of the pool, as a value that a test changes.
type fleet struct {
	mu    sync.Mutex
	peers []lock.Peer
	err   error
	lists int
}

func (f *fleet) Nodes(context.Context) ([]lock.Peer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	return f.peers, f.err
}

func (f *fleet) set(err error, peers ...lock.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers, f.err = peers, err
}

func (f *fleet) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists
}

// acquire starts to ask; the channels have the end and the last report.
func acquire(ctx context.Context, l *lock.Lock) (done chan error, last func() lock.Report) {
	var mu sync.Mutex
	var report lock.Report
	done = make(chan error, 1)
	go func() {
		done <- l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(r lock.Report) {
			mu.Lock()
			defer mu.Unlock()
			report = r
		})
	}()
	return done, func() lock.Report {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return report
	}
}

// While the policy says that nobody may go, nobody waits in the room, and a
// holder does not get past the fence.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := locktest.New(nil), &rules{enforced: true}
		l := newLock(m, "me", 1)
		l.Rules = r
		r.set(lock.Policy{Paused: "release day"}, nil)
		done, last := acquire(t.Context(), l)
		if got := last(); got.Reason != status.Paused || !strings.Contains(got.Detail, "release day") || got.Next.IsZero() {
			t.Errorf("paused: %+v", got)
		}
		time.Sleep(time.Hour)
		if len(m.Data()) != 0 {
			t.Errorf("paused, in the lock: %v", m.Data())
		}
		r.set(lock.Policy{}, errors.New("forbidden"))
		time.Sleep(5 * time.Minute)
		if got := last(); got.Err == nil || len(m.Data()) != 0 {
			t.Errorf("the policy cannot be read: %+v, %v", got, m.Data())
		}
		r.set(lock.Policy{}, nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := last(); got.Queue.Enforced == nil || !*got.Queue.Enforced {
			t.Errorf("not told that the rules are enforced: %+v", got)
		}
		r.set(lock.ParsePolicy(map[string]string{"paused": "stop"}, "l"), nil)
		if err := l.Advance(t.Context(), status.Rebooting); !errors.Is(err, lock.ErrPaused) {
			t.Errorf("advance while paused: %v", err)
		}
		if err := l.Release(t.Context(), l.Boot); err != nil {
			t.Errorf("release while paused: %v", err)
		}
	})
}

// In the room when the pause begins: the node leaves it.
func TestPauseEmptiesTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := locktest.New(map[string]string{"holder.a": holds(1)}), &rules{}
		l := newLock(m, "me", 1)
		l.Rules = r
		ctx, stop := context.WithCancel(t.Context())
		done, last := acquire(ctx, l)
		last()
		r.set(lock.Policy{Paused: "release day"}, nil)
		time.Sleep(time.Minute)
		m.Put(lock.Edit{Remove: []string{"holder.a"}})
		time.Sleep(time.Second) // its watch may just have ended, as watches do
		last()
		if len(m.Data()) != 0 {
			t.Errorf("in the lock: %v", m.Data())
		}
		stop()
		<-done
	})
}

// A node that is down already uses up the limit; it is looked at only when
// there is a slot, soon again at first, then about once a minute.
func TestPeersThatAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := locktest.New(map[string]string{"holder.x": holds(1)}), &fleet{}
		l := newLock(m, "me", 1)
		l.Fleet, l.CountUnavailable = f, true
		me, peer := lock.Peer{Name: "me", Ready: true}, lock.Peer{Name: "peer"}
		f.set(nil, me, peer)
		done, last := acquire(t.Context(), l)
		last()
		if n := f.asked(); n != 0 {
			t.Errorf("%d lists while the lock is held", n)
		}
		m.Put(lock.Edit{Remove: []string{"holder.x"}})
		if got := last(); got.Reason != status.PeersUnavailable || len(got.Queue.Unavailable) != 1 {
			t.Errorf("peer is down: %+v", got)
		}
		time.Sleep(time.Hour)
		if n := f.asked(); n < 55 || n > 90 {
			t.Errorf("%d lists in an hour", n)
		}
		peer.Ready = true
		f.set(nil, me, peer)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// Nodes that may not be listed are not counted, which is told; but what is
// asked for explicitly and cannot be checked blocks.
func TestListRefused(t *testing.T) {
	refused := fmt.Errorf("list nodes: %w", lock.ErrListRefused)
	for _, c := range []struct {
		name     string
		max      intstr.IntOrString
		minReady int
		err      error
		takes    bool
		writes   int // the max in the entry
	}{
		{"refused", intstr.FromInt32(2), 0, refused, true, 2},
		{"refused, a percent is one", intstr.FromString("50%"), 0, refused, true, 1},
		{"refused, min_ready blocks", intstr.FromInt32(2), 1, refused, false, 0},
		{"unreachable blocks", intstr.FromInt32(2), 0, errors.New("connection refused"), false, 0},
		{"a percent", intstr.FromString("50%"), 0, nil, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{}
				f.set(c.err, lock.Peer{Name: "me", Ready: true}, lock.Peer{Name: "a", Ready: true}, lock.Peer{Name: "b", Ready: true}, lock.Peer{Name: "c", Ready: true})
				m := locktest.New(nil)
				l := newLock(m, "me", 1)
				l.Fleet, l.CountUnavailable, l.Max, l.MinReady = f, true, c.max, intstr.FromInt(c.minReady)
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				done, last := acquire(ctx, l)
				err := <-done
				if (err == nil) != c.takes {
					t.Fatalf("acquire: %v", err)
				}
				got := last()
				if c.takes && lock.Parse(m.Data()).Holders["me"].Max != c.writes {
					t.Errorf("wrote %v, want max %d", m.Data(), c.writes)
				}
				if c.takes && (got.Queue.Uncounted != "") != (c.err != nil) {
					t.Errorf("told %q", got.Queue.Uncounted)
				}
				if !c.takes && got.Err == nil {
					t.Errorf("told %+v", got)
				}
			})
		})
	}
}

// Every zone has its turn, and no two at the same time.
func TestZonesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := locktest.New(nil)
		m.Latency = 20 * time.Millisecond
		var all sync.WaitGroup
		for i := range 30 {
			l := newLock(m, fmt.Sprintf("node-%02d", i), 3)
			l.Zone = []string{"a", "b", "c"}[i%3]
			all.Go(func() { cycleOnce(t, l) })
		}
		all.Wait()
		most := 0
		var order []string
		for _, data := range m.History() {
			zones := map[string]bool{}
			s := lock.Parse(data)
			for _, h := range s.Holders {
				zones[h.Zone] = true
				if len(order) == 0 || order[len(order)-1] != h.Zone {
					order = append(order, h.Zone)
				}
			}
			if len(zones) > 1 {
				t.Fatalf("two zones at once: %v", data)
			}
			most = max(most, len(s.Holders))
		}
		if most != 3 {
			t.Errorf("at most %d held at once, want 3", most)
		}
		t.Logf("turns of zones: %v", order)
	})
}

// A waiter whose Node is gone does not keep a place in the room.
func TestGoneWaitersAreBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := entry(lock.Waiter{Version: lock.Version, Since: time.Now().Add(-time.Hour), UID: "u"})
		m := locktest.New(map[string]string{"waiter.x": gone, "waiter.y": gone, "waiter.z": gone})
		l := newLock(m, "me", 1)
		l.Evidence = nodes{"y": "other", "z": "u"} // x is gone, y was made anew, z is there and sleeps
		if err := l.Acquire(t.Context(), lock.Demand{Since: time.Now()}, func(lock.Report) {}); err != nil {
			t.Fatal(err)
		}
		s := lock.Parse(m.Data())
		if _, still := s.Waiters["z"]; !still || len(s.Waiters) != 1 || len(s.Holders) != 1 {
			t.Errorf("left: %v", m.Data())
		}
	})
}

// The room is full of one who sleeps, and a peer that was down when we first
// looked comes back: whoever is outside learns of it, without listing the Nodes
// at each look.
func TestOutsideADeadRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := locktest.New(map[string]string{"waiter.dead": entry(lock.Waiter{Version: lock.Version, UID: "u"})}), &fleet{}
		l := newLock(m, "me", 1)
		l.Fleet, l.CountUnavailable, l.Room = f, true, 1
		me, peer := lock.Peer{Name: "me", Ready: true}, lock.Peer{Name: "peer"}
		f.set(nil, me, peer)
		done, _ := acquire(t.Context(), l)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := f.asked(); n < 20 || n > 40 {
			t.Errorf("%d lists in a day", n)
		}
		peer.Ready = true
		f.set(nil, me, peer)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// One peer is down and nobody may go, so the full room stands still. Of the many outside only a few at a time list the
// Nodes to learn why.
func TestManyOutsideARoomThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, room = 200, 8
		m, f := locktest.New(nil), &fleet{}
		peers := []lock.Peer{{Name: "down"}}
		for i := range many {
			peers = append(peers, lock.Peer{Name: fmt.Sprintf("node-%03d", i), Ready: true})
		}
		f.set(nil, peers...)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, peer := range peers[1:] {
			l := newLock(m, peer.Name, 1)
			l.Fleet, l.CountUnavailable, l.Room = f, true, room
			all.Go(func() { _ = l.Acquire(ctx, lock.Demand{Since: time.Now(), Shared: true}, func(lock.Report) {}) })
		}
		for minute := range 20 {
			before := f.asked()
			time.Sleep(time.Minute)
			if n := f.asked() - before; n > many/3 {
				t.Errorf("minute %d: %d lists", minute+1, n)
			}
		}
		stop()
		all.Wait()
	})
}

// A node outside a full room, in which nobody lives, learns that the peer which was down is back. What it takes then it
// takes under the policy of now, and not of when it last had a reason to read it.
func TestPauseWhileOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := locktest.New(map[string]string{"waiter.b": entry(lock.Waiter{Version: lock.Version, Since: time.Now().Add(-time.Hour)})})
		r, f := &rules{}, &fleet{}
		f.set(nil, lock.Peer{Name: "me", Ready: true}, lock.Peer{Name: "b"})
		l := newLock(m, "me", 1)
		l.Room, l.Rules, l.Fleet, l.CountUnavailable = 1, r, f, true
		ctx, stop := context.WithCancel(t.Context())
		done, _ := acquire(ctx, l)
		time.Sleep(10 * time.Minute)
		r.set(lock.Policy{Paused: "release day"}, nil)
		f.set(nil, lock.Peer{Name: "me", Ready: true}, lock.Peer{Name: "b", Ready: true})
		time.Sleep(time.Hour)
		if m.Data()["holder.me"] != "" {
			t.Error("took the lock while paused")
		}
		stop()
		<-done
	})
}

// The first in the room is dead while a peer is down: the second one still
// notices when the peer is back.
func TestDeadHeadWhileAPeerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := locktest.New(map[string]string{"waiter.dead": entry(lock.Waiter{Version: lock.Version, UID: "u"})}), &fleet{}
		l := newLock(m, "me", 1)
		l.Fleet, l.CountUnavailable = f, true
		me, peer := lock.Peer{Name: "me", Ready: true}, lock.Peer{Name: "peer"}
		f.set(nil, me, peer)
		done, _ := acquire(t.Context(), l)
		time.Sleep(time.Hour)
		peer.Ready = true
		f.set(nil, me, peer)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// The holder's Node is gone and so is the life of the first in the room: the
// second looks for evidence, too, and so does who is outside a room of the dead.
func TestEvidenceBehindADeadHead(t *testing.T) {
	for _, room := range []int{8, 1} {
		synctest.Test(t, func(t *testing.T) {
			m := locktest.New(map[string]string{"holder.gone": holds(1), "waiter.dead": entry(lock.Waiter{Version: lock.Version, UID: "u"})})
			l := newLock(m, "me", 1)
			l.Evidence, l.Room = nodes{"dead": "u"}, room
			ctx, stop := context.WithTimeout(t.Context(), 3*time.Hour)
			defer stop()
			if err := l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(lock.Report) {}); err != nil {
				t.Errorf("room of %d: %v", room, err)
			}
		})
	}
}
