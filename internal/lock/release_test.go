package lock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
)

// notices is what was left where, and how it fails.
type notices struct {
	missing   bool // there is no such Node
	leave     error
	withdraw  error
	record    error
	note      string
	events    []string
	afterNote func()
}

func (n *notices) Leave(_ context.Context, node, by, why, boot string, at time.Time) (bool, error) {
	if n.leave != nil || n.missing {
		return false, n.leave
	}
	n.note = fmt.Sprintf("%s %s %s %s %s", node, by, why, boot, at.UTC().Format(time.RFC3339))
	if n.afterNote != nil {
		n.afterNote()
	}
	return true, nil
}

func (n *notices) Withdraw(ctx context.Context, _ string) error {
	if n.withdraw == nil && ctx.Err() == nil {
		n.note = ""
	}
	return n.withdraw
}

func (n *notices) Record(_ context.Context, node, message string, _ time.Time) error {
	if n.record == nil {
		n.events = append(n.events, node+": "+message)
	}
	return n.record
}

func holderOf(phase string) string {
	return `{"v":1,"boot":"` + bootA + `","phase":"` + phase + `","since":"2026-11-22T12:00:00Z","max":1,"reason":"libc6","uid":"u"}`
}

const waiterOf = `{"v":1,"since":"2026-11-22T12:00:00Z","priority":0,"uid":"u"}`

// A story of a release: what is there, what goes wrong, and what comes of it.
func TestRelease(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "kured-lock", errors.New("the wall"))
	both := map[string]string{"holder.a": holderOf("draining"), "waiter.a": waiterOf, "holder.b": holderOf("locked")}
	for _, c := range []struct {
		name    string
		data    map[string]string
		notices notices
		store   func(*locktest.Memory, *troubled, *notices) // prepares trouble
		left    string                                      // keys in the lock afterwards
		note    bool                                        // it stays on the Node
		events  int
		told    int
		err     string
		is      error
	}{
		{name: "a holder that waits too", data: both, left: "holder.b", note: true, events: 1, told: 3},
		{name: "an entry that cannot be read", data: map[string]string{"holder.a": `{"v":2}`}, note: true, events: 1, told: 3},
		{name: "only a waiter", data: map[string]string{"waiter.a": waiterOf}, events: 1, told: 2},
		{name: "only a damaged waiter", data: map[string]string{"waiter.a": "x"}, events: 1, told: 2},
		{name: "no Node", data: both, notices: notices{missing: true}, left: "holder.b", events: 1, told: 3},
		{name: "the note is refused", data: both, notices: notices{leave: errors.New("annotate node a: forbidden")}, left: "holder.a holder.b waiter.a",
			err: "nothing was released: annotate node a: forbidden"},
		{name: "the write is refused", data: both, left: "holder.a holder.b waiter.a", told: 1,
			store: func(m *locktest.Memory, s *troubled, n *notices) { s.refuse(forbidden) },
			err:   `nothing was released: configmaps "kured-lock" is forbidden: the wall`},
		{name: "the write is refused, and the note stays", data: both, notices: notices{withdraw: errors.New("gone away")}, left: "holder.a holder.b waiter.a", note: true, told: 1,
			store: func(m *locktest.Memory, s *troubled, n *notices) { s.refuse(forbidden) },
			err:   `nothing was released: configmaps "kured-lock" is forbidden: the wall; the note on the Node is still there: gone away`},
		{name: "the event is refused", data: both, notices: notices{record: errors.New("record event on node a: forbidden")}, left: "holder.b", note: true, told: 2,
			err: "a is released, but no Event tells of it: record event on node a: forbidden"},
		{name: "others write too", data: both, left: "holder.b waiter.c", note: true, events: 1, told: 3,
			store: func(m *locktest.Memory, s *troubled, n *notices) {
				s.write = func(apply func() (lock.Snapshot, error)) (lock.Snapshot, error) {
					s.write = nil
					m.Put(lock.Edit{Set: map[string]string{"waiter.c": waiterOf}})
					return apply()
				}
			}},
		{name: "it goes on meanwhile", data: both, left: "holder.a holder.b waiter.a", told: 1, is: lock.ErrChanged,
			store: func(m *locktest.Memory, s *troubled, n *notices) {
				n.afterNote = func() { m.Put(lock.Edit{Set: map[string]string{"holder.a": holderOf("rebooting")}}) }
			},
			err: "nothing was released: the entry of a changed meanwhile: a holds: rebooting, since 2026-11-22T12:00:00Z, boot " + bootA + ", for libc6"},
		{name: "it gives it back itself", data: both, left: "holder.b", told: 1, is: lock.ErrChanged,
			store: func(m *locktest.Memory, s *troubled, n *notices) {
				n.afterNote = func() { m.Put(lock.Edit{Remove: []string{"holder.a", "waiter.a"}}) }
			},
			err: "nothing was released: the entry of a changed meanwhile: a gave it back itself"},
		{name: "the answer is lost", data: both, left: "holder.b", note: true, events: 1, told: 3,
			store: func(m *locktest.Memory, s *troubled, n *notices) { s.lose(false) }},
		{name: "the answer is lost, and every other", data: both, left: "holder.b", note: true, told: 1,
			store: func(m *locktest.Memory, s *troubled, n *notices) { s.lose(true) },
			err:   "look at the lock: whether a was released is not known: the write got no answer: connection reset"},
		{name: "no API server", data: both, left: "holder.a holder.b waiter.a", note: true, told: 1,
			store: func(m *locktest.Memory, s *troubled, n *notices) {
				s.refuse(errors.New("connection refused"))
			},
			err: "look at the lock: whether a was released is not known: the write got no answer: connection refused"},
		{name: "the lock is taken away", data: both, left: "holder.a holder.b waiter.a", told: 1,
			store: func(m *locktest.Memory, s *troubled, n *notices) {
				n.afterNote = func() { s.read = func() error { return lock.ErrMissing } }
			},
			err: "nothing was released: the lock object does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := locktest.New(maps.Clone(c.data))
				store, n := &troubled{Store: memory}, c.notices
				r := lock.Releaser{Store: store, Notices: &n, Pace: lock.DefaultPace(), Lock: "kube-system/kured-lock", By: "alice"}
				e, err := r.Find(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				if c.store != nil {
					c.store(memory, store, &n)
				}
				var told []string
				err = r.Release(t.Context(), e, "it is broken", func(line string) { told = append(told, line) })
				if text := fmt.Sprint(err); err == nil && c.err != "" || err != nil && text != c.err || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("error %q, want %q", text, c.err)
				}
				store.read, store.write = nil, nil
				if left := strings.Join(slices.Sorted(maps.Keys(memory.Data())), " "); left != c.left {
					t.Errorf("left %q, want %q", left, c.left)
				}
				if (n.note != "") != c.note || len(n.events) != c.events || len(told) != c.told {
					t.Errorf("note %q, events %q, told %q", n.note, n.events, told)
				}
				for _, event := range n.events {
					if !strings.HasPrefix(event, "a: ") || !strings.HasSuffix(event, " by alice: it is broken") {
						t.Errorf("event %q", event)
					}
				}
				if c.note && c.data["waiter.a"] != "" && !strings.HasPrefix(n.note, "a alice it is broken "+bootA+" ") {
					t.Errorf("note %q", n.note)
				}
				if c.err == "" { // a second time there is nothing
					if _, err := r.Find(t.Context(), "a"); !errors.Is(err, lock.ErrNoEntry) {
						t.Errorf("again: %v", err)
					}
				}
			})
		})
	}
}

// troubled is a Store whose requests fail as a test says; nil: they do not.
type troubled struct {
	lock.Store
	read  func() error
	write func(apply func() (lock.Snapshot, error)) (lock.Snapshot, error)
}

func (s *troubled) Read(ctx context.Context) (lock.Snapshot, error) {
	if s.read != nil {
		if err := s.read(); err != nil {
			return lock.Snapshot{}, err
		}
	}
	return s.Store.Read(ctx)
}

func (s *troubled) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	apply := func() (lock.Snapshot, error) { return s.Store.Write(ctx, revision, e) }
	if s.write != nil {
		return s.write(apply)
	}
	return apply()
}

// refuse refuses each write.
func (s *troubled) refuse(err error) {
	s.write = func(func() (lock.Snapshot, error)) (lock.Snapshot, error) { return lock.Snapshot{}, err }
}

// lose carries each write out and loses its answer; deaf loses all reads after that, too.
func (s *troubled) lose(deaf bool) {
	s.write = func(apply func() (lock.Snapshot, error)) (lock.Snapshot, error) {
		if _, err := apply(); err != nil {
			return lock.Snapshot{}, err
		}
		if deaf {
			s.read = func() error { return errors.New("connection refused") }
		}
		return lock.Snapshot{}, errors.New("connection reset")
	}
}

func TestEntriesForPeople(t *testing.T) {
	for _, c := range []struct {
		data          map[string]string
		says, meaning string
	}{
		{map[string]string{"holder.a": holderOf("locked")}, "a holds: locked, since 2026-11-22T12:00:00Z, boot " + bootA + ", for libc6", "a has its turn and is not cordoned yet. "},
		{map[string]string{"holder.a": holderOf("draining")}, "a holds: draining, ", "a is in the midst of a drain. "},
		{map[string]string{"holder.a": holderOf("rebooting")}, "a holds: rebooting, ", "a is about to reboot, or on its way back. "},
		{map[string]string{"holder.a": `{"v":2}`}, "a counts as a holder: its entry cannot be read (version 2, ", "kured cannot say whether a is down. "},
		{map[string]string{"waiter.a": waiterOf}, "a waits since 2026-11-22T12:00:00Z", "If kured runs on a, it comes back into the waiting room."},
		{map[string]string{"waiter.a": "{"}, "a takes a place in the waiting room: its entry cannot be read (", "If kured runs on a, it comes back into the waiting room."},
	} {
		e, err := lock.Releaser{Store: locktest.New(c.data), Pace: lock.DefaultPace()}.Find(t.Context(), "a")
		if err != nil || !strings.HasPrefix(e.String(), c.says) || !strings.HasPrefix(e.Meaning(), c.meaning) {
			t.Errorf("%v: %q, %q, %v", c.data, e, e.Meaning(), err)
		}
	}
}

func TestCheckWhy(t *testing.T) {
	for why, want := range map[string]string{
		"the node is broken":     "",
		" \t":                    "is empty: say why, for those who ask later",
		strings.Repeat("ä", 101): "has 202 bytes, at most 200 are kept",
		"two\nlines":             "is not one line of printable text",
		"\xff":                   "is not one line of printable text",
		"\u202eleft":             "is not one line of printable text",
	} {
		if err := lock.CheckWhy(why); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", why, err, want)
		}
	}
}

func TestList(t *testing.T) {
	ten, two := intstr.FromString("10%"), intstr.FromInt32(2)
	many := &fleet{}
	many.set(nil, make([]lock.Peer, 35)...)
	closed := &fleet{}
	closed.set(lock.ErrListRefused)
	limits := func(p lock.Policy, err error) *rules {
		r := &rules{}
		r.set(p, err)
		return r
	}
	for _, c := range []struct {
		name   string
		viewer lock.Viewer
		max    int // of the holder, 0: none; -1: another that cannot be read
		limit  int
		note   string
	}{
		{"nothing says", lock.Viewer{}, 0, 0, ""},
		{"a holder", lock.Viewer{}, 4, 4, ""},
		{"the configuration", lock.Viewer{Max: &two}, 4, 2, ""},
		{"the policy", lock.Viewer{Policy: "p", Rules: limits(lock.Policy{Max: &two}, nil)}, 4, 2, ""},
		{"no policy is configured", lock.Viewer{Rules: limits(lock.Policy{Max: &two}, nil)}, 4, 4, ""},
		{"the policy cannot be read", lock.Viewer{Policy: "p", Rules: limits(lock.Policy{}, errors.New("forbidden"))}, 4, 4, ""},
		{"a percent", lock.Viewer{Max: &ten, Fleet: many}, 4, 3, ""},
		{"a percent of nobody knows", lock.Viewer{Max: &ten}, 4, 4, "10% is not counted: the nodes of the pool are not known"},
		{"a holder that cannot be read", lock.Viewer{Max: &two}, -1, 1, ""},
		{"a percent, refused", lock.Viewer{Policy: "p", Rules: limits(lock.Policy{Max: &ten}, nil), Fleet: closed}, 0, 0, "10% is not counted: " + lock.ErrListRefused.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := map[string]string{"waiter.b": waiterOf, "waiter.c": `{"v":1,"since":"2026-11-22T13:00:00Z","priority":5}`, "waiter.d": "?"}
			unreadable := `waiter.d "d" false`
			switch {
			case c.max > 0:
				data["holder.a"] = holds(c.max)
			case c.max < 0:
				data["other"], data["holder.x"] = "?", "?"
				unreadable = `holder.x "x" true, other "" true, ` + unreadable
			}
			c.viewer.Store, c.viewer.Pace = locktest.New(data), lock.DefaultPace()
			l, err := c.viewer.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if l.Limit != c.limit || l.LimitNote != c.note || len(l.Holders) != min(max(c.max, 0), 1) {
				t.Errorf("limit %d %q, holders %+v", l.Limit, l.LimitNote, l.Holders)
			}
			if len(l.Waiters) != 2 || l.Waiters[0].Node != "c" || l.Waiters[1].Place != 2 {
				t.Errorf("waiters %+v", l.Waiters)
			}
			var told []string
			for _, u := range l.Unreadable {
				told = append(told, fmt.Sprintf("%s %q %v", u.Key, u.Node, u.Holds))
			}
			if got := strings.Join(told, ", "); got != unreadable {
				t.Errorf("unreadable: %s", got)
			}
			if (l.Policy != nil) != (c.viewer.Policy != "") || l.Policy != nil && (l.Policy.Error == "forbidden") != (c.name == "the policy cannot be read") {
				t.Errorf("policy %+v", l.Policy)
			}
		})
	}
}
