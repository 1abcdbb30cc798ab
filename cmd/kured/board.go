package main

import (
	"context"
	"sync"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

// board shows the newest status to systemd, and to all who ask or follow.
type board struct {
	notifier telemetry.Notifier
	follow   []func(status.Status) // called with each status in turn; must not block

	mu      sync.Mutex
	now     status.Status
	line    string
	changed chan struct{} // closed by the next status
}

func newBoard(notifier telemetry.Notifier, first status.Status, follow ...func(status.Status)) *board {
	return &board{notifier: notifier, now: first, changed: make(chan struct{}), follow: follow}
}

func (b *board) publish(s status.Status) {
	s.Version = version
	b.mu.Lock()
	b.now = s
	close(b.changed)
	b.changed = make(chan struct{})
	line := s.Line()
	if line == b.line {
		line = ""
	} else {
		b.line = line
	}
	b.mu.Unlock()
	if line != "" {
		_ = b.notifier.Status(line) // only shown to people; the next one follows
	}
	for _, f := range b.follow {
		f(s)
	}
}

func (b *board) status() status.Status {
	s, _ := b.newest()
	return s
}

// newest is the status, and what is closed when there is a newer one.
func (b *board) newest() (status.Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now, b.changed
}

// watch sends the present status and each newer one until ctx ends. Whoever is
// slow gets only the newest.
func (b *board) watch(ctx context.Context) <-chan status.Status {
	statuses := make(chan status.Status)
	go func() {
		defer close(statuses)
		for {
			s, changed := b.newest()
			select {
			case statuses <- s:
			case <-ctx.Done():
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return statuses
}
