package sim

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

var figures = flag.Bool("figures", false, "measure the lock with up to 5,000 nodes, and not only up to 100")

// TestScale measures the lock alone, with many nodes that want at one instant,
// and prints a line for each size. It asserts nothing but that all goes on.
//
// The virtual API server answers in 2 to 10 ms. Each turn holds for 90 to 150 s.
// The list of Nodes is left out: it is measured on a real API server.
func TestScale(t *testing.T) {
	for _, c := range []struct{ nodes, limit, turns int }{
		{10, 1, 10}, {10, 10, 10}, {100, 1, 100}, {100, 10, 100},
		{1000, 1, 1000}, {1000, 10, 1000}, {5000, 1, 500}, {5000, 10, 2000},
	} {
		if c.nodes > 100 && !*figures {
			continue
		}
		synctest.Test(t, func(t *testing.T) { fmt.Println(newCrowd(c.nodes, c.limit, c.turns).run(t)) })
	}
}

// crowd is many nodes that want the same lock at one instant.
type crowd struct {
	nodes, limit, turns int

	mu      sync.Mutex
	data    map[string]string
	snap    lock.Snapshot
	watches map[chan lock.Snapshot]time.Time // when the last version that was sent arrives
	enough  context.CancelFunc
	began   time.Time

	reads, policies, writes, conflicts int
	done                               int // turns
	asked                              map[string]time.Time
	taken                              []string // in this order
	frees                              []free
	handOffs                           []time.Duration // from a slot that is free while somebody is in the room, to the next holder
	size, managed                      int             // of the object, at most
	overtaken                          map[string]int  // in the room
	herd                               int             // conflicts in the first minute
	idle                               time.Duration   // of slots until they were taken again
	refilled                           int
	outside                            map[string]*outsider
}

// free is a slot that nobody holds.
type free struct {
	since  time.Time
	wanted bool // somebody was in the room
}

// outsider is what a node did before it first wrote.
type outsider struct {
	reads int
	until time.Time
}

func newCrowd(nodes, limit, turns int) *crowd {
	c := &crowd{nodes: nodes, limit: limit, turns: turns, watches: map[chan lock.Snapshot]time.Time{}, began: time.Now(),
		asked: map[string]time.Time{}, overtaken: map[string]int{}, outside: map[string]*outsider{}}
	c.set(map[string]string{})
	return c
}

func latency() time.Duration { return 2*time.Millisecond + rand.N(8*time.Millisecond) }

func (c *crowd) run(t *testing.T) string {
	ctx, cancel := context.WithCancel(t.Context())
	c.enough = cancel
	var all sync.WaitGroup
	var starts []func()
	for i := range c.nodes {
		name := fmt.Sprintf("worker-%04d.example.com", i)
		l := &lock.Lock{
			Store: &member{c, name}, Rules: &member{c, name}, Pace: lock.DefaultPace(), Node: name, UID: fmt.Sprintf("0b1e4f0c-3d5a-4c3e-9f57-%012d", i),
			Boot: fmt.Sprintf("%032x", i+1), Max: intstr.FromInt32(int32(c.limit)), Room: 8,
		}
		since := time.Now().Add(-rand.N(12 * time.Hour)) // the window opens for all now
		c.asked[name], c.outside[name] = since, &outsider{}
		starts = append(starts, func() { c.turn(ctx, l, since) })
	}
	for _, start := range starts {
		all.Go(start)
	}
	all.Wait()
	cancel()
	synctest.Wait()
	return c.figure()
}

// turn is one reboot of a node, as far as the lock sees it.
func (c *crowd) turn(ctx context.Context, l *lock.Lock, since time.Time) {
	if l.Acquire(ctx, lock.Demand{Reason: "linux-image-6.1.0-40-amd64", Since: since, Shared: true}, func(lock.Report) {}) != nil {
		return
	}
	hold := 90*time.Second + rand.N(time.Minute)
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return l.Advance(ctx, status.Draining) },
		func(ctx context.Context) error { return l.Advance(ctx, status.Rebooting) },
		func(ctx context.Context) error { return l.Release(ctx, l.Boot) },
	} {
		if step(ctx) != nil {
			return
		}
		select {
		case <-time.After(hold / 2):
		case <-ctx.Done():
			return
		}
	}
}

// set makes a version. mu is held, or nobody else is there yet.
func (c *crowd) set(data map[string]string) {
	was := c.snap.State
	revision, _ := strconv.Atoi(c.snap.Revision)
	c.data, c.snap = data, lock.Snapshot{State: lock.Parse(data), Revision: strconv.Itoa(revision + 1)}
	size, managed := objectSize(data)
	c.size, c.managed = max(c.size, size), max(c.managed, managed)
	for name := range was.Holders {
		if _, still := c.snap.State.Holders[name]; !still {
			c.frees = append(c.frees, free{time.Now(), len(c.snap.State.Waiters) > 0})
			if c.done++; c.done == c.turns {
				c.enough()
			}
		}
	}
	for name := range c.snap.State.Holders {
		if _, old := was.Holders[name]; old {
			continue
		}
		c.taken = append(c.taken, name)
		if len(c.frees) > 0 {
			took := time.Since(c.frees[0].since)
			c.idle += took
			if c.frees[0].wanted {
				c.handOffs = append(c.handOffs, took)
			}
			c.frees, c.refilled = c.frees[1:], c.refilled+1
		}
		for _, other := range was.Order() {
			if other == name {
				break
			}
			if len(was.Holders) < c.limit && slices.Index(was.Order(), other) < c.limit-len(was.Holders) {
				continue // there is a slot for both
			}
			c.overtaken[other]++
		}
	}
	for ch, last := range c.watches {
		at := time.Now().Add(latency())
		if at.Before(last) {
			at = last.Add(1)
		}
		c.watches[ch] = at
		snap := c.snap
		time.AfterFunc(time.Until(at), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if _, open := c.watches[ch]; open {
				ch <- snap
			}
		})
	}
}

// objectSize is the ConfigMap as JSON, without and with an estimate of the
// record that the API server keeps for the one field manager.
func objectSize(data map[string]string) (plain, managed int) {
	object := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data,
		"metadata": map[string]any{
			"name": "kured-lock", "namespace": "kube-system", "uid": "0b1e4f0c-3d5a-4c3e-9f57-000000000000", "resourceVersion": "123456789",
			"creationTimestamp": "2026-11-22T12:00:00Z", "labels": map[string]string{"app.kubernetes.io/name": "kured", "app.kubernetes.io/component": "lock"},
		},
	}
	b, _ := json.Marshal(object)
	fields := map[string]any{".": struct{}{}}
	for key := range data {
		fields["f:"+key] = struct{}{}
	}
	record, _ := json.Marshal([]any{map[string]any{"manager": "kured", "operation": "Update", "apiVersion": "v1", "time": "2026-11-22T12:00:00Z",
		"fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:data": fields}}})
	return len(b), len(b) + len(`,"managedFields":`) + len(record)
}

func (c *crowd) figure() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.handOffs)
	at := func(q float64) time.Duration {
		if len(c.handOffs) == 0 {
			return 0
		}
		return c.handOffs[min(len(c.handOffs)-1, int(q*float64(len(c.handOffs))))].Round(time.Millisecond)
	}
	reads, minutes := 0, 0.0
	for _, o := range c.outside {
		end := o.until
		if end.IsZero() {
			end = time.Now()
		}
		if d := end.Sub(c.began); d > 10*time.Minute {
			reads, minutes = reads+o.reads, minutes+d.Minutes()
		}
	}
	// How many that asked later held earlier, for the one who suffered most.
	most := 0
	for i, name := range c.taken {
		n := 0
		for _, other := range c.taken[:i] {
			if c.asked[other].After(c.asked[name]) {
				n++
			}
		}
		most = max(most, n)
	}
	turns := float64(len(c.taken))
	inRoom := 0
	for _, n := range c.overtaken {
		inRoom = max(inRoom, n)
	}
	parts := []string{
		fmt.Sprintf("figure: nodes=%d limit=%d turns=%d", c.nodes, c.limit, len(c.taken)),
		fmt.Sprintf("writes_per_reboot=%.2f", float64(c.writes-c.conflicts)/turns),
		fmt.Sprintf("conflicts_at_opening=%d conflicts_per_reboot_later=%.3f", c.herd, float64(c.conflicts-c.herd)/turns),
		fmt.Sprintf("outside_reads_per_minute=%.3f", float64(reads)/max(minutes, 1)),
		fmt.Sprintf("object_bytes=%d object_bytes_with_managed_fields=%d", c.size, c.managed),
		fmt.Sprintf("hand_off_p50=%s hand_off_p99=%s hand_off_max=%s", at(0.5), at(0.99), at(1)),
		fmt.Sprintf("lost_per_hand_off=%s", (c.idle / time.Duration(max(1, c.refilled))).Round(time.Millisecond)),
		fmt.Sprintf("overtaken_in_room=%d overtaken_outside=%d", inRoom, most),
	}
	return strings.Join(parts, " ")
}

// member is one node's way to the lock and the policy.
type member struct {
	c    *crowd
	name string
}

func (m *member) Read(ctx context.Context) (lock.Snapshot, error) {
	return ask(ctx, func() (lock.Snapshot, error) {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		m.c.reads++
		if o := m.c.outside[m.name]; o.until.IsZero() {
			o.reads++
		}
		return m.c.snap, nil
	})
}

func (m *member) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	return ask(ctx, func() (lock.Snapshot, error) {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		m.c.writes++
		if o := m.c.outside[m.name]; o.until.IsZero() {
			o.until = time.Now()
		}
		if revision != m.c.snap.Revision {
			m.c.conflicts++
			if time.Since(m.c.began) < time.Minute {
				m.c.herd++
			}
			return lock.Snapshot{}, lock.ErrConflict
		}
		m.c.set(e.Apply(maps.Clone(m.c.data)))
		return m.c.snap, nil
	})
}

func (m *member) Watch(ctx context.Context, revision string) (<-chan lock.Snapshot, error) {
	return ask(ctx, func() (<-chan lock.Snapshot, error) {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		ch := make(chan lock.Snapshot, 1024)
		m.c.watches[ch] = time.Now()
		if revision != m.c.snap.Revision {
			ch <- m.c.snap
		}
		end := func() {
			m.c.mu.Lock()
			defer m.c.mu.Unlock()
			if _, open := m.c.watches[ch]; open {
				delete(m.c.watches, ch)
				close(ch)
			}
		}
		context.AfterFunc(ctx, end)
		time.AfterFunc(5*time.Minute+rand.N(5*time.Minute), end) // as the API server does
		return ch, nil
	})
}

func (m *member) Policy(ctx context.Context) (lock.Policy, error) {
	return ask(ctx, func() (lock.Policy, error) {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		m.c.policies++
		return lock.Policy{}, nil
	})
}

func (m *member) Enforced(context.Context, string) (bool, error) { return true, nil }

// ask is a request of 2 to 10 ms, half of them there and half back.
func ask[T any](ctx context.Context, do func() (T, error)) (T, error) {
	d := latency()
	var none T
	if err := pause(ctx, d/2); err != nil {
		return none, err
	}
	answer, err := do()
	if wait := pause(ctx, d/2); wait != nil {
		return none, wait
	}
	return answer, err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
