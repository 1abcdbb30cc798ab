package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/status"
)

// late is a store behind a line that swallows a write and delivers it later.
type late struct {
	*locktest.Memory
	swallow func(lock.Edit) bool
	deliver func() error // the swallowed write, if it still may
}

func (l *late) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	if l.deliver == nil && l.swallow(e) {
		l.deliver = func() error {
			_, err := l.Memory.Write(context.WithoutCancel(ctx), revision, e)
			return err
		}
		return lock.Snapshot{}, errors.New("no answer")
	}
	return l.Memory.Write(ctx, revision, e)
}

// A take without an answer, and then nobody wants it any more: once the node
// has left, the write cannot land behind its back.
func TestLateTakeOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &late{Memory: locktest.New(nil), swallow: func(e lock.Edit) bool { return e.Set["holder.me"] != "" }}
		l := newLock(store.Memory, "me", 1)
		l.Store, l.Pending = store, new(lock.Pending)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(lock.Report) {}); err == nil {
			t.Fatal("took the lock")
		}
		// Another connection of the same process knows that there is something to leave.
		anew := newLock(store.Memory, "me", 1)
		anew.Pending = l.Pending
		if own, err := anew.Read(t.Context()); err != nil || !own.Waiting {
			t.Errorf("connected anew: %+v, %v", own, err)
		}
		if err := anew.Release(t.Context(), anew.Boot); err != nil {
			t.Fatal(err)
		}
		if err := store.deliver(); !errors.Is(err, lock.ErrConflict) {
			t.Errorf("the late write: %v", err)
		}
		if len(store.Data()) != 0 {
			t.Errorf("left in the lock: %v", store.Data())
		}
	})
}

// A release without an answer, and then the node goes on: it cannot land after
// the fence, although the fence finds the phase already written.
func TestLateReleaseAfterTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entry := strings.Replace(holds(1), `"u"`, `"uid-me"`, 1)
		entry = strings.Replace(entry, string(status.Draining), string(status.Rebooting), 1)
		store := &late{Memory: locktest.New(map[string]string{"holder.me": entry}), swallow: func(e lock.Edit) bool { return len(e.Set) == 0 }}
		l := newLock(store.Memory, "me", 1)
		l.Store = store
		if err := l.Release(t.Context(), l.Boot); err == nil {
			t.Fatal("the release was answered")
		}
		if err := l.Advance(t.Context(), status.Rebooting); err != nil {
			t.Fatal(err)
		}
		if store.Data()["holder.me"] == entry {
			t.Error("the fence changed nothing, and the API server keeps the version of what does not change")
		}
		if err := store.deliver(); !errors.Is(err, lock.ErrConflict) {
			t.Errorf("the late release: %v", err)
		}
	})
}

// A late take of the boot before is none of this boot.
func TestTakeOfTheBootBefore(t *testing.T) {
	m := locktest.New(map[string]string{"holder.me": strings.Replace(holds(1), bootA, "2"+bootA[1:], 1)})
	err := newLock(m, "me", 1).Acquire(t.Context(), lock.Demand{Since: time.Now()}, func(lock.Report) {})
	if !errors.Is(err, lock.ErrOther) {
		t.Errorf("acquire: %v", err)
	}
}

// cut is a store whose watches end as soon as they begin, as behind a proxy that cuts streams.
type cut struct{ *locktest.Memory }

func (cut) Watch(context.Context, string) (<-chan lock.Snapshot, error) {
	versions := make(chan lock.Snapshot)
	close(versions)
	return versions, nil
}

// Where no watch lasts, a waiter looks now and then, says why, and has its turn all the same.
func TestWatchesThatEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := locktest.New(map[string]string{"holder.x": holds(1)})
		l := newLock(m, "me", 1)
		l.Store = cut{m}
		done, last := acquire(t.Context(), l)
		time.Sleep(10 * time.Minute)
		if got := last(); got.Err == nil || got.Next.IsZero() {
			t.Errorf("told %+v", got)
		}
		if n := m.Counts().Reads; n > 40 {
			t.Errorf("%d reads in 10 minutes", n)
		}
		m.Put(lock.Edit{Remove: []string{"holder.x"}})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
