package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// How often the idle daemon is looked at, and every how many times its connections are counted.
const (
	sampleEvery      = 100 * time.Millisecond
	connectionsEvery = 10
)

// resting is an idle daemon that is being watched.
type resting struct {
	stage   *stage
	machine *machine
	period  time.Duration
	// of the idle time
	requests, connections int
	switches, moments     float64 // a minute
	resident, anonymous   int64   // at its end
}

// idle starts a daemon that has nothing to do and watches it for the whole
// period. Nothing else may be measured meanwhile: while a thread of the daemon
// waits for a processor, the Go runtime's monitor wakes every 20 microseconds
// to look after it, and this would count.
func (s *stage) idle(ctx context.Context, period time.Duration) ([]figure, error) {
	m, err := s.newMachine(ctx, idleMachine)
	if err != nil {
		return nil, err
	}
	if err := m.start(); err != nil {
		return nil, err
	}
	if err := m.await(ctx, status.Idle); err != nil {
		return nil, err
	}
	// Whatever the start leaves behind, such as memory to be returned, shall not count.
	if err := pause(ctx, min(period, 10*time.Second)); err != nil {
		return nil, err
	}
	r := &resting{stage: s, machine: m, period: period}
	if err := r.watch(ctx); err != nil {
		return nil, err
	}
	return r.figures(ctx)
}

// watch counts for the whole period. Reading /proc does not wake the process.
func (r *resting) watch(ctx context.Context) error {
	pid, began := r.machine.daemon.child.Pid, time.Now()
	last, err := sleeps(pid)
	if err != nil {
		return err
	}
	var switches int64
	moments, active := 0, false
	for tick := 0; time.Since(began) < r.period; tick++ {
		if err := pause(ctx, sampleEvery); err != nil {
			return err
		}
		now, err := sleeps(pid)
		if err != nil {
			return err
		}
		if now != last && !active {
			moments++
		}
		active = now != last
		switches += max(0, now-last) // a thread that ended takes its number along
		last = now
		if tick%connectionsEvery == 0 {
			n, err := connections(pid)
			if err != nil {
				return err
			}
			r.connections = max(r.connections, n)
		}
	}
	minutes := time.Since(began).Minutes()
	r.switches, r.moments = float64(switches)/minutes, float64(moments)/minutes
	requests, err := r.stage.requestsOf(r.machine.name, began)
	if err != nil {
		return err
	}
	r.requests = len(requests)
	r.resident, r.anonymous, err = memory(pid)
	return err
}

const mebibyte = 1 << 20

// figures tells what was seen, and then lets the daemon take the lock, cordon,
// drain, and give all of it back, for the memory that this leaves behind.
func (r *resting) figures(ctx context.Context) ([]figure, error) {
	out := []figure{
		atMost(fmt.Sprintf("idle for %.3g minutes: API requests", r.period.Minutes()), 0, float64(r.requests), "%.0f"),
		atMost("idle: open TCP connections, at most", 0, float64(r.connections), "%.0f"),
		atMost("idle: wake-ups of its threads a minute", 6, r.switches, "%.1f"),
		{name: "idle: moments a minute in which it does anything", measured: fmt.Sprintf("%.1f", r.moments), verdict: noBudget},
		atMost("idle since the start: resident memory", 24, float64(r.resident)/mebibyte, "%.1f MiB"),
		atMost("idle since the start: anonymous memory", 6, float64(r.anonymous)/mebibyte, "%.1f MiB"),
	}
	resident, anonymous, err := r.afterCycle(ctx)
	if err != nil {
		return out, err
	}
	return append(out,
		atMost("idle after a cycle: resident memory", 24, float64(resident)/mebibyte, "%.1f MiB"),
		atMost("idle after a cycle: anonymous memory", 6, float64(anonymous)/mebibyte, "%.1f MiB"),
	), nil
}

func (r *resting) afterCycle(ctx context.Context) (resident, anonymous int64, err error) {
	m, w := r.machine, r.stage.witness
	if err := r.stage.runPods(ctx, m.name, cyclePods, slowToStop(cyclePods, 2*time.Second, 4*time.Second)); err != nil {
		return 0, 0, err
	}
	from := w.next()
	if err := m.want(); err != nil {
		return 0, 0, err
	}
	if _, err := w.await(ctx, from, "the drain to begin", func(l lock.State) bool { return l.Holders[m.name].Phase == status.Draining }); err != nil {
		return 0, 0, err
	}
	// The evictions are sent by then, and the pods still stop.
	if err := pause(ctx, time.Second); err != nil {
		return 0, 0, err
	}
	from = w.latest()
	if err := m.unwant(); err != nil {
		return 0, 0, err
	}
	if _, err := w.await(ctx, from, "the lock to be released", free); err != nil {
		return 0, 0, err
	}
	if err := m.await(ctx, status.Idle); err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return 0, 0, err
	}
	return memory(m.daemon.child.Pid)
}
