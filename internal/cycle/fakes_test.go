package cycle

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// line is the way to the lock object; it is cut when the API is down.
type line struct{ m *machine }

func (l *line) Read(ctx context.Context) (lock.Snapshot, error) {
	if err := l.m.request(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	return l.m.store.Read(ctx)
}

func (l *line) Write(ctx context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	if err := l.m.request(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	if l.m.writing != nil {
		l.m.writing(e)
	}
	return l.m.store.Write(ctx, revision, e)
}

func (l *line) Watch(ctx context.Context, revision string) (<-chan lock.Snapshot, error) {
	if err := l.m.request(ctx); err != nil {
		return nil, err
	}
	return l.m.store.Watch(ctx, revision)
}

type hooks machine

func (h *hooks) Run(ctx context.Context, phase string, _ map[string]string) error {
	h.mu.Lock()
	h.hooked = append(h.hooked, phase)
	run := h.hooks
	h.mu.Unlock()
	return run(ctx, phase)
}

type announcer machine

func (a *announcer) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.announced = append(a.announced, what)
}

func (a *announcer) Announce(context.Context, time.Time) error {
	a.note("away")
	return nil
}

func (a *announcer) AwaitAnnounced(ctx context.Context, at time.Time) error {
	for time.Now().Before(at) {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		a.mu.Lock()
		cancelled := a.cancelled
		a.mu.Unlock()
		if cancelled {
			return logind.ErrAnnouncementCancelled
		}
	}
	return nil
}

func (a *announcer) Withdraw(context.Context) error {
	a.note("withdrawn")
	return nil
}

type silencer machine

func (s *silencer) Keep(ctx context.Context, _ string, _ func(error)) {
	s.mu.Lock()
	s.silences = append(s.silences, "keep")
	s.quiet++
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.quiet--
	s.mu.Unlock()
}

func (s *silencer) Expire(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silences = append(s.silences, "expire")
	return nil
}

// self is the Node object and the pods, as the API server has them.
type self machine

func (s *self) Get(ctx context.Context) (node.State, error) {
	if err := (*machine)(s).request(ctx); err != nil {
		return node.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.self, nil
}

func (s *self) Cordon(ctx context.Context) (bool, error) {
	if err := (*machine)(s).request(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dress {
		s.self.Dressed = (*machine)(s).bootID()
	}
	if s.self.Unschedulable && s.self.Mark == "" {
		return false, nil
	}
	s.self.Unschedulable, s.self.Mark = true, (*machine)(s).bootID()
	return true, nil
}

func (s *self) Uncordon(ctx context.Context, mark string) (bool, error) {
	if err := (*machine)(s).request(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.self.Released = nil
	if mark != "" && s.self.Dressed == mark {
		s.self.Dressed = ""
	}
	if s.self.Mark == "" || s.self.Mark != mark {
		return false, nil
	}
	s.self.Unschedulable, s.self.Mark = false, ""
	return true, nil
}

func (s *self) Drain(ctx context.Context, _ drain.Options, report func(drain.Progress)) drain.Result {
	s.mu.Lock()
	s.drains++
	d, end := s.drainFor, s.drainEnd
	s.mu.Unlock()
	report(drain.Progress{Total: 2, Gone: 1})
	if err := sleep(ctx, d); err != nil {
		return drain.Result{Err: err}
	}
	if end != nil {
		return end()
	}
	return drain.Result{Drained: true, Progress: drain.Progress{Total: 2, Gone: 2}, Took: d}
}

func (s *self) Preflight(ctx context.Context, _ drain.Options) (drain.Report, error) {
	if err := (*machine)(s).request(ctx); err != nil {
		return drain.Report{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.preflight, nil
}

func (s *self) AwaitDetached(ctx context.Context, limit time.Duration, report func(drain.Volumes)) (drain.Volumes, error) {
	s.mu.Lock()
	attached := s.attachedFor
	s.mu.Unlock()
	left := drain.Volumes{Attached: []string{"pv-1"}}
	if attached > 0 {
		report(left)
	}
	if err := sleep(ctx, min(limit, attached)); err != nil {
		return left, err
	}
	if attached > limit {
		return left, nil
	}
	return drain.Volumes{}, nil
}

// signBoard is what others see of us on the Node.
type signBoard machine

func (b *signBoard) SetWaiting(ctx context.Context, key string, on bool) error {
	if err := (*machine)(b).request(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.self.SoftTaints = slices.DeleteFunc(slices.Clone(b.self.SoftTaints), func(has string) bool { return has == key })
	if on {
		b.self.SoftTaints = append(b.self.SoftTaints, key)
	}
	return nil
}

func (b *signBoard) Rehearse(ctx context.Context) error {
	if err := (*machine)(b).request(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unfit
}

func (b *signBoard) SetConditions(ctx context.Context, want []node.Condition) error {
	if err := (*machine)(b).request(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.self.Conditions = nil
	for _, c := range want {
		b.self.Conditions = append(b.self.Conditions, string(c.Type))
	}
	b.conditions = append(b.conditions, strings.Join(b.self.Conditions, "+"))
	return nil
}

func (s *self) AwaitReadyReport(ctx context.Context, report func(string)) error {
	if err := (*machine)(s).request(ctx); err != nil {
		return err
	}
	report("kubelet has not reported yet")
	for {
		if err := sleep(ctx, 10*time.Second); err != nil {
			return err
		}
		s.mu.Lock()
		wait := s.notReady
		s.mu.Unlock()
		if !wait {
			return nil
		}
	}
}

func (m *machine) State() sentinel.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wanted {
		return sentinel.State{}
	}
	return sentinel.State{Wanted: true, Since: time.Now(), Path: "/run/reboot-required", Reasons: []string{"linux-image"}}
}

func (m *machine) Changed() <-chan struct{} { return m.changed }

type gates machine

func (g *gates) Check(context.Context, gate.Moment) gate.Verdict {
	if g.asking != nil {
		g.asking()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gates
}

func (g *gates) States(last gate.Verdict) []status.GateState {
	return []status.GateState{{Gate: status.GateInhibitors, Open: last.Open, Reason: last.Reason, Detail: last.Detail}}
}

func (g *gates) Watch(ctx context.Context, _ gate.Verdict) <-chan struct{} {
	changed := make(chan struct{}, 1)
	go func() {
		for sleep(ctx, 5*time.Second) == nil {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed
}

type host machine

func (h *host) Reboot(ctx context.Context, _ time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return h.refuse
	}
	// The invariants of LAW 1 and 3, at the one place where they matter.
	holder, held := lock.Parse(h.store.Data()).Holders[h.name]
	if !held || holder.Boot != (*machine)(h).bootID() || holder.Phase != status.Rebooting {
		h.t.Errorf("%s reboots with the entry %+v (held: %v)", h.name, holder, held)
	}
	if !h.self.Unschedulable || !h.wanted || !h.gates.Open {
		h.t.Errorf("%s reboots: cordoned %v, wanted %v, gates %+v", h.name, h.self.Unschedulable, h.wanted, h.gates)
	}
	h.reboots++
	return nil
}

func (h *host) AwaitCancelled(ctx context.Context) error {
	if going, err := h.PreparingForShutdown(ctx); err != nil || !going {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *host) PreparingForShutdown(context.Context) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.noBus {
		return false, logind.ErrUnknown
	}
	return h.reboots >= h.boot, nil
}

type budget machine

func (b *budget) Spend() error  { b.mu.Lock(); defer b.mu.Unlock(); b.spent++; return nil }
func (b *budget) Refund() error { b.mu.Lock(); defer b.mu.Unlock(); b.spent--; return nil }

// memory is a file in /run.
type memory machine

func (m *memory) Recall() (sentinel.Standing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.standing, m.forgetful
}

func (m *memory) Keep(s sentinel.Standing) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.standing = s
	return m.forgetful
}

func (m *memory) Forget() error { return m.Keep(sentinel.Standing{}) }

type journal machine

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(line))
	return len(line), nil
}
