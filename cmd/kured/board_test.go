package main

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/kured-host/kured/internal/status"
)

// Whoever follows gets the newest status, whatever it missed, and nothing stays
// behind when it goes.
func TestBoardIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		var followed []status.Phase
		b := newBoard(func(_ bool, line string) (bool, error) { lines = append(lines, line); return true, nil },
			status.Status{Phase: status.Starting}, func(s status.Status) { followed = append(followed, s.Phase) })
		ctx, cancel := context.WithCancel(t.Context())
		statuses := b.watch(ctx)
		if s := <-statuses; s.Phase != status.Starting {
			t.Errorf("first %s", s.Phase)
		}
		synctest.Wait()
		b.publish(status.Status{Phase: status.Blocked})
		synctest.Wait() // the sender holds it ready
		b.publish(status.Status{Phase: status.Queued})
		b.publish(status.Status{Phase: status.Locked, Detail: "our turn"})
		b.publish(status.Status{Phase: status.Locked, Detail: "our turn"})
		if s := <-statuses; s.Phase != status.Blocked {
			t.Errorf("then %s", s.Phase)
		}
		if s := <-statuses; s.Phase != status.Locked || s.Version != version {
			t.Errorf("at last %+v", s)
		}
		if b.status().Phase != status.Locked || len(followed) != 4 || len(lines) != 3 {
			t.Errorf("followed %v, told %q", followed, lines)
		}
		cancel()
		if _, more := <-statuses; more {
			t.Error("something comes after the end")
		}
	})
}
