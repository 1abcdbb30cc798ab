package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch the sentinel and reboot in turn (the daemon, started by systemd)",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := openHouse(cmd)
			if err != nil {
				return err
			}
			return h.run(cmd.Context())
		},
	}
	configFlag(cmd)
	return cmd
}

// run is the daemon, until ctx ends or something fails that only a restart can mend.
func (h *house) run(ctx context.Context) error {
	watcher, err := sentinel.New(h.cfg.Sentinel.Paths, h.settle())
	if err != nil {
		return err
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	notifier := telemetry.Notifier(daemon.SdNotify)
	board := &board{notifier: notifier, now: status.Status{Version: version, Boot: h.boot, Phase: status.Starting}}
	runner := h.runner(cycle.Run, watcher, board.publish)
	server, err := control.Listen(h.socket(), board.status)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	part := func(name string, do func(context.Context) error) {
		all.Go(func() {
			if err := do(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("sentinel", watcher.Run)
	part("control socket", server.Serve)
	part("watchdog", func(ctx context.Context) error {
		notifier.Watchdog(ctx, interval, runner.Alive)
		return nil
	})
	part("cycle", func(ctx context.Context) error {
		err := runner.Do(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("ended without being told to")
		}
		return err
	})
	h.log.Info("kured started", "version", version, "boot", h.boot)
	if err := notifier.Ready(); err != nil {
		h.log.Warn("systemd was not told that the service is ready: " + err.Error())
	}
	<-ctx.Done()
	if err := notifier.Stopping(); err != nil {
		h.log.Warn("systemd was not told that the service stops: " + err.Error())
	}
	all.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		var permanent interface{ Permanent() bool }
		if errors.As(cause, &permanent) && permanent.Permanent() {
			return &exitError{exitConfig, cause}
		}
		return cause
	}
	h.log.Info("kured stopped")
	return nil
}

// board shows the newest status to systemd and to the control socket.
type board struct {
	notifier telemetry.Notifier

	mu   sync.Mutex
	now  status.Status
	line string
}

func (b *board) publish(s status.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Version = version
	b.now = s
	if line := s.Line(); line != b.line {
		b.line = line
		_ = b.notifier.Status(line) // only shown to people; the next one follows
	}
}

func (b *board) status() status.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}
