package main

import (
	"sync"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

// board shows each status to systemd and to those who follow.
type board struct {
	notifier telemetry.Notifier
	follow   []func(status.Status) // called with each status in turn; must not block

	mu   sync.Mutex
	line string
}

func newBoard(notifier telemetry.Notifier, follow ...func(status.Status)) *board {
	return &board{notifier: notifier, follow: follow}
}

func (b *board) publish(s status.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Version = version
	for _, f := range b.follow { // first: who reads systemd's line finds the same on the socket
		f(s)
	}
	if line := s.Line(); line != b.line {
		b.line = line
		_ = b.notifier.Status(line) // only shown to people; the next one follows
	}
}
