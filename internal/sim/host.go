package sim

import (
	"context"
	"slices"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// State is the sentinel.
func (p *process) State() sentinel.State {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	m := p.m
	switch {
	case m.sentinelErr != nil:
		return sentinel.State{Err: m.sentinelErr}
	case m.wanted:
		return sentinel.State{Wanted: true, Since: m.wantedAt, Path: "/run/reboot-required", Reasons: []string{"linux-image"}}
	}
	return sentinel.State{}
}

// Changed signals changes of the sentinel.
func (p *process) Changed() <-chan struct{} { return p.demand }

// gates is all gates as one.
type gates process

func (g *gates) Check(ctx context.Context, _ gate.Moment) gate.Verdict {
	w, p := g.w, (*process)(g)
	w.mu.Lock()
	slow := g.m.gateSlow
	w.mu.Unlock()
	if slow > 0 {
		w.mu.Lock()
		p.looking++
		w.mu.Unlock()
		err := p.sleep(ctx, slow)
		w.mu.Lock()
		p.looking--
		w.mu.Unlock()
		if err != nil {
			return gate.Verdict{Reason: status.LogindUnavailable, Detail: "no answer"}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return g.m.verdict()
}

// States is what they said.
func (g *gates) States(last gate.Verdict) []status.GateState {
	return []status.GateState{{Gate: status.GateInhibitors, Open: last.Open, Reason: last.Reason, Detail: last.Detail}}
}

// Watch signals when a gate changes, and from time to time.
func (g *gates) Watch(ctx context.Context, _ gate.Verdict) <-chan struct{} {
	w, p := g.w, (*process)(g)
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := make(chan struct{}, 1)
	watcher := &gateWatcher{p, changed}
	g.m.watchers = append(g.m.watchers, watcher)
	tick := time.NewTimer(p.align(p.between(forGates, time.Second, 30*time.Second)))
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.mu.Lock()
				watcher.signal()
				w.mu.Unlock()
				tick.Reset(p.align(30 * time.Second))
			case <-ctx.Done():
				w.mu.Lock()
				defer w.mu.Unlock()
				g.m.watchers = slices.DeleteFunc(g.m.watchers, func(x *gateWatcher) bool { return x == watcher })
				return
			}
		}
	}()
	return changed
}

type gateWatcher struct {
	p       *process
	changed chan struct{}
}

// signal is for the next look. One that runs needs none: it answers with what
// is true at its end. (Two channels of the Runner's loop with something in
// them would let chance choose, and not the seed.)
func (g *gateWatcher) signal() {
	if g.p.looking > 0 {
		return
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// host is logind.
type host process

func (h *host) Reboot(ctx context.Context, confirmWithin time.Duration) error {
	w, p, m := h.w, (*process)(h), h.m
	w.mu.Lock()
	if p.dead {
		w.mu.Unlock()
		return errDead
	}
	w.judgeReboot(p)
	w.count.Reboots++
	how := m.logind
	w.note(p.who, "asks logind to reboot (%s)", how)
	if how == rebootGoes || how == rebootSilent || how == rebootCancelled {
		m.goDown(p.between(forHost, time.Second, time.Minute), how == rebootCancelled)
	}
	if how == rebootSilent || how == rebootMute {
		m.busGone = true
		w.at(m.actor, p.between(forHost+1000, 10*time.Second, 5*time.Minute), func() { m.busGone = false })
	}
	w.mu.Unlock()
	switch how {
	case rebootRefused:
		return &logind.RefusedError{Name: "org.freedesktop.DBus.Error.AccessDenied", Message: "no"}
	case rebootUnconfirmed:
		if err := p.sleep(ctx, confirmWithin); err != nil {
			return err
		}
		return logind.ErrUnconfirmed
	case rebootSilent, rebootMute:
		if err := p.sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		return logind.ErrUnknown
	}
	return p.sleep(ctx, 100*time.Millisecond)
}

func (h *host) AwaitCancelled(ctx context.Context) error {
	for {
		if going, err := h.PreparingForShutdown(ctx); err != nil || !going {
			return err
		}
		if err := (*process)(h).sleep(ctx, time.Minute); err != nil {
			return err
		}
	}
}

func (h *host) PreparingForShutdown(context.Context) (bool, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.m.busGone {
		return false, logind.ErrUnknown
	}
	return h.m.going, nil
}

// memory is the file in /run.
type memory process

func (m *memory) Recall() (sentinel.Standing, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return m.m.standing, nil
}

func (m *memory) Keep(s sentinel.Standing) error {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if !m.dead && m.boot == m.m.bootID() {
		m.m.standing = s
	}
	return nil
}

func (m *memory) Forget() error { return m.Keep(sentinel.Standing{}) }

// budget counts reboots, as the file does.
type budget process

func (b *budget) Spend() error  { b.w.mu.Lock(); defer b.w.mu.Unlock(); b.m.spent++; return nil }
func (b *budget) Refund() error { b.w.mu.Lock(); defer b.w.mu.Unlock(); b.m.spent--; return nil }
