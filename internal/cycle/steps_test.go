package cycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/status"
)

// run tells a story of one machine in virtual time.
func run(t *testing.T, story func(t *testing.T, m *machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "a", locktest.New(nil))
		story(t, m)
		m.kill()
	})
}

// Another node holds, and releases.
var (
	othersHold    = lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}}
	othersRelease = lock.Edit{Remove: []string{"holder.other"}}
)

func (m *machine) heard(event status.Event) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.events, event)
}

func (m *machine) logged(text string) bool { return strings.Contains(m.log(), text) }

// All steps of a cycle, in their order.
func TestSteps(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings = Settings{Lock: "kube-system/kured-lock", DelayDrain: time.Minute, Volumes: time.Minute, DelayReboot: 2 * time.Minute,
			Announce: 3 * time.Minute, ReleaseDelay: 10 * time.Minute, Conditions: true}
		m.hooks = func(context.Context, string) error { return nil }
		m.attachedFor = 30 * time.Second
		m.start(Run)
		m.awaitPhase(status.Idle)
		begun := time.Now()
		m.want(true)
		m.awaitReboot()
		if took := time.Since(begun); took < 7*time.Minute || took > 9*time.Minute {
			t.Errorf("took %s, the steps are 7.5 minutes long", took)
		}
		m.kill()
		m.bootUp(false)
		begun = time.Now()
		if err := m.afterBoot(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 10*time.Minute || len(m.store.Data()) > 0 || m.node().Unschedulable {
			t.Errorf("back after %s: lock %v, node %+v", took, m.store.Data(), m.node())
		}
		if want := []string{hook.PreDrain, hook.PreReboot, hook.PostBoot, hook.PostUncordon}; !slices.Equal(m.hooked, want) {
			t.Errorf("hooks %v, want %v", m.hooked, want)
		}
		if !slices.Equal(m.announced, []string{"away"}) {
			t.Errorf("announced: %v", m.announced)
		}
		if want := []string{"keep", "keep", "expire"}; !slices.Equal(m.silences, want) {
			t.Errorf("silences %v, want %v", m.silences, want)
		}
		if want := []status.Event{status.EventDrain, status.EventReboot, status.EventBack}; !slices.Equal(m.events, want) {
			t.Errorf("told %v, want %v", m.events, want)
		}
		if last := m.conditions[len(m.conditions)-1]; last != "" || !slices.Contains(m.conditions, "MaintenancePlanned+DrainInProgress") {
			t.Errorf("conditions: %q", m.conditions)
		}
		m.start(Run)
		m.awaitPhase(status.Idle)
	})
}

func TestHooksDecide(t *testing.T) {
	for _, c := range []struct {
		phase  string
		err    error
		reason status.Reason
	}{
		{hook.PreDrain, hook.ErrNotNow, status.HookDeferred},
		{hook.PreDrain, &hook.FailedError{Phase: hook.PreDrain, Code: 3}, status.HookFailed},
		{hook.PreReboot, hook.ErrNotNow, status.HookDeferred},
		{hook.PreReboot, errors.New("no bus"), status.HookFailed},
	} {
		run(t, func(t *testing.T, m *machine) {
			failing := true
			m.hooks = func(_ context.Context, phase string) error {
				if phase == c.phase && failing {
					return c.err
				}
				return nil
			}
			m.start(Run)
			m.want(true)
			m.awaitPhase(status.BackingOff)
			if m.node().Unschedulable || len(m.store.Data()) > 0 || !m.heard(status.EventFailed) || !m.logged("reason="+string(c.reason)) {
				t.Errorf("%s %v: node %+v, lock %v, told %v\n%s", c.phase, c.err, m.node(), m.store.Data(), m.events, m.log())
			}
			if s := m.status(); s.Reason != c.reason || s.Next == nil {
				t.Errorf("%s %v: while it backs off: %+v", c.phase, c.err, s)
			}
			if drained := m.drains > 0; drained != (c.phase == hook.PreReboot) {
				t.Errorf("%s: drained %v", c.phase, drained)
			}
			m.set(func() { failing = false })
			m.roll()
		})
	}
}

// A person has cordoned the node: what else comes with our cordon is put on all the same, and taken off again.
func TestForeignCordonIsDressed(t *testing.T) {
	for _, fails := range []bool{true, false} {
		run(t, func(t *testing.T, m *machine) {
			worn := false
			m.dress, m.self.Unschedulable = true, true
			m.hooks = func(_ context.Context, phase string) error {
				worn = worn || m.node().Dressed != ""
				if fails && phase == hook.PreDrain {
					return errors.New("no bus")
				}
				return nil
			}
			m.start(Run)
			m.want(true)
			if fails {
				m.awaitPhase(status.BackingOff)
			} else {
				m.roll()
			}
			if n := m.node(); !worn || n.Dressed != "" || !n.Unschedulable || n.Mark != "" || len(m.store.Data()) > 0 || m.logged("reason="+string(status.LockLost)) {
				t.Errorf("fails %t: worn %t, Node %+v, lock %v\n%s", fails, worn, n, m.store.Data(), m.log())
			}
		})
	}
}

// The hooks of the way back keep the lock until they are well, and the status says why.
func TestHooksOfTheWayBack(t *testing.T) {
	for _, phase := range []string{hook.PostBoot, hook.PostUncordon} {
		for reason, trouble := range map[status.Reason]error{status.HookDeferred: hook.ErrNotNow, status.HookFailed: errors.New("no bus")} {
			run(t, func(t *testing.T, m *machine) {
				tries := 0
				m.hooks = func(_ context.Context, runs string) error {
					if runs != phase {
						return nil
					}
					if tries++; tries < 3 {
						return trouble
					}
					return nil
				}
				m.start(Run)
				m.want(true)
				m.awaitReboot()
				m.kill()
				m.bootUp(false)
				m.start(Return)
				m.await("told", func() bool { return m.status().Phase == status.Returning && m.status().Reason == reason })
				if len(m.store.Data()) != 1 || m.node().Unschedulable != (phase == hook.PostBoot) {
					t.Errorf("%s: lock %v, Node %+v", phase, m.store.Data(), m.node())
				}
				<-m.done
				if m.err != nil || tries != 3 || len(m.store.Data()) > 0 || !m.heard(status.EventBack) || !m.logged("back in service: lock released") {
					t.Errorf("%s: %v, %d tries, lock %v, told %v", phase, m.err, tries, m.store.Data(), m.events)
				}
				m.start(Run)
			})
		}
	}
}

func TestAnnouncementIsCancelled(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.Announce = 10 * time.Minute
		m.start(Run)
		m.want(true)
		m.await("announcement", func() bool { return m.status().Reason == status.RebootDelayed })
		m.set(func() { m.cancelled = true })
		m.awaitPhase(status.BackingOff)
		if m.rebooted() > 0 || m.node().Unschedulable || m.announced[len(m.announced)-1] != "withdrawn" {
			t.Errorf("%d reboots, node %+v, announced %v", m.rebooted(), m.node(), m.announced)
		}
	})
}

// A window that closes while the node waits for the announced moment.
func TestGateClosesWhileAnnounced(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.Announce = 10 * time.Minute
		m.start(Run)
		m.want(true)
		m.await("announcement", func() bool { return m.status().Reason == status.RebootDelayed })
		m.set(func() { m.gates = gate.Verdict{Reason: status.OutsideWindow, Detail: "closed"} })
		m.await("rolled back", func() bool { return !m.node().Unschedulable })
		if m.rebooted() > 0 || len(m.store.Data()) > 0 || !slices.Contains(m.announced, "withdrawn") {
			t.Errorf("%d reboots, lock %v, announced %v", m.rebooted(), m.store.Data(), m.announced)
		}
	})
}

// A gate closes at the last moment, behind the fence: what it says is decided
// upon, and the fence is not written again and again.
func TestGateClosesBehindTheFence(t *testing.T) {
	for _, c := range []struct {
		says   gate.Verdict
		reason status.Reason // and then
		phase  status.Phase
	}{
		{gate.Verdict{Reason: status.OutsideWindow, Detail: "closed"}, status.OutsideWindow, status.BackingOff},
		{gate.Verdict{Reason: status.Inhibited, Detail: "apt", Passing: true}, status.Inhibited, status.Draining},
	} {
		run(t, func(t *testing.T, m *machine) {
			var fences atomic.Int32
			m.writing = func(e lock.Edit) {
				if !strings.Contains(e.Set["holder.a"], `"phase":"rebooting"`) {
					return
				}
				switch fences.Add(1) {
				case 1:
					m.set(func() { m.gates = c.says })
				case 20: // in virtual time a loop without a pause would never end
					m.set(func() { m.gates = gate.Verdict{Open: true} })
				}
			}
			m.start(Run)
			m.want(true)
			m.await("decided", func() bool { return fences.Load() > 0 && m.status().Reason == c.reason || m.rebooted() > 0 })
			if m.status().Phase != c.phase || m.rebooted() > 0 || fences.Load() != 1 {
				t.Errorf("%s: %+v, %d reboots, %d fences", c.reason, m.status(), m.rebooted(), fences.Load())
			}
			m.set(func() { m.gates = gate.Verdict{Open: true} })
			m.roll()
			m.back()
		})
	}
}

// restless is a gate that is closed and says so in other words each time, as a
// query does whose result has another value at each look.
type restless struct{ looks atomic.Int32 }

func (g *restless) Name() status.Gate { return status.GatePrometheus }

func (g *restless) Check(context.Context, gate.Moment) gate.Verdict {
	n := g.looks.Add(1)
	if n >= 1000 { // in virtual time a loop without a pause would never end
		return gate.Verdict{Open: true}
	}
	return gate.Verdict{Reason: status.QueryBlocks, Detail: fmt.Sprintf("the query gives %d", n)}
}

// quiet is a gate beside it that notices changes by itself, of which there are none.
type quiet struct{}

func (quiet) Name() status.Gate                               { return status.GateInhibitors }
func (quiet) Check(context.Context, gate.Moment) gate.Verdict { return gate.Verdict{Open: true} }
func (quiet) Watch(ctx context.Context) (<-chan struct{}, error) {
	never := make(chan struct{})
	context.AfterFunc(ctx, func() { close(never) })
	return never, nil
}

// Other words alone are shown, and are no reason to begin anew.
func TestGateInOtherWords(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		g := &restless{}
		m.start(Run)
		m.awaitPhase(status.Idle)
		next := m.parts()
		next.Gates = gate.Set{Gates: []gate.Gate{quiet{}, g}, Recheck: time.Minute}
		m.reload <- next
		m.want(true)
		m.awaitPhase(status.Blocked)
		first := m.status().Detail
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if looks := g.looks.Load(); looks < 5 || looks > 30 {
			t.Errorf("%d looks in 10 minutes", looks)
		}
		if s := m.status(); s.Reason != status.QueryBlocks || s.Detail == first || s.Gates[1].Detail != s.Detail {
			t.Errorf("at first %q, then %+v", first, s)
		}
	})
}

// wire is a connection that may lead nowhere any more, as where the kubeconfig names another server by now, and a gate that
// asks by it.
type wire struct {
	Entries
	cut, closed *atomic.Bool
}

func (w wire) Read(ctx context.Context) (lock.Own, error) {
	if w.cut.Load() {
		return lock.Own{}, errors.New("the kubeconfig leads to another server")
	}
	return w.Entries.Read(ctx)
}

func (wire) Name() status.Gate { return status.GatePrometheus }

func (w wire) Check(context.Context, gate.Moment) gate.Verdict {
	switch {
	case w.cut.Load():
		return gate.Verdict{Reason: status.PauseUnreadable, Detail: "the kubeconfig leads to another server"}
	case w.closed.Load():
		return gate.Verdict{Reason: status.AlertsFiring, Detail: "one"}
	}
	return gate.Verdict{Open: true}
}

// While the node waits for a gate that needs the network its connection becomes useless: it makes another one.
func TestConnectionThatLeadsNowhere(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		var first, closed atomic.Bool
		cut := &first
		closed.Store(true)
		next := m.parts()
		next.Dial = func(ctx context.Context) (*Cluster, error) {
			c, err := m.dial(ctx)
			if err == nil {
				w := wire{c.Entries, cut, &closed}
				c.Entries, c.Gates = w, gate.Set{Gates: []gate.Gate{w}, Recheck: time.Minute}
				cut = new(atomic.Bool)
			}
			return c, err
		}
		m.reload <- next
		m.start(Run)
		m.want(true)
		m.await("alerts", func() bool { return m.status().Reason == status.AlertsFiring })
		first.Store(true)
		closed.Store(false)
		m.awaitReboot()
	})
}

// The sentinel goes while the gates are asked for the last time, which takes
// seconds where a server hangs. The fake logind says when that is overlooked.
func TestDemandEndsBehindTheFence(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		var fenced atomic.Bool
		m.writing = func(e lock.Edit) {
			if strings.Contains(e.Set["holder.a"], `"phase":"rebooting"`) {
				fenced.Store(true)
			}
		}
		m.asking = func() {
			if fenced.Load() {
				m.want(false)
			}
		}
		m.start(Run)
		m.want(true)
		m.await("rolled back", func() bool { return m.logged("rolled back: uncordoned") || m.rebooted() > 0 })
		if m.rebooted() > 0 {
			t.Error("rebooted though nobody wants it")
		}
		m.back()
	})
}

// Another configuration comes while the gates are asked for the last time: it counts.
func TestReloadBehindTheFence(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		var fenced atomic.Bool
		var once sync.Once
		m.writing = func(e lock.Edit) {
			if strings.Contains(e.Set["holder.a"], `"phase":"rebooting"`) {
				fenced.Store(true)
			}
		}
		m.settings.DryRun = true
		next := m.parts()
		m.settings.DryRun = false
		m.asking = func() {
			if fenced.Load() {
				once.Do(func() {
					m.reload <- next
					time.Sleep(time.Second)
				})
			}
		}
		m.start(Run)
		m.want(true)
		m.await("rolled back", func() bool { return m.logged("rolled back: uncordoned") || m.rebooted() > 0 })
		if m.rebooted() > 0 {
			t.Error("rebooted by a configuration that is not in force any more")
		}
		m.back()
	})
}

// A gate closes and nothing can be given back. When it opens before that, the
// cycle goes on where it was.
func TestRollBackThatDoesNotBegin(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.drainFor = 10 * time.Minute
		m.hooks = func(context.Context, string) error { return nil }
		m.start(Run)
		m.want(true)
		m.await("drain", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.drains == 1 })
		m.set(func() { m.apiDown, m.gates = true, gate.Verdict{Reason: status.PauseUnreadable, Detail: "no answer"} })
		m.await("the try", func() bool {
			return m.status().Phase == status.RollingBack && m.status().Reason == status.APIUnreachable
		})
		m.set(func() { m.apiDown, m.gates = false, gate.Verdict{Open: true} })
		m.awaitReboot()
		if want := []string{hook.PreDrain, hook.PreReboot}; !slices.Equal(m.hooked, want) || m.drains != 2 {
			t.Errorf("%d drains, hooks %v, want 2 and %v", m.drains, m.hooked, want)
		}
	})
}

func TestPreflight(t *testing.T) {
	blocked := drain.Report{Held: []drain.HeldPod{{Namespace: "shop", Name: "db-0", Why: drain.WhyBudget}}}
	run(t, func(t *testing.T, m *machine) {
		m.settings.Preflight, m.preflight = PreflightBlock, blocked
		m.start(Run)
		m.want(true)
		m.await("blocked", func() bool { return m.status().Reason == status.DrainBlocked })
		if s := m.status(); s.Phase != status.Blocked || !strings.Contains(s.Detail, "shop/db-0") || s.Next == nil || len(m.store.Data()) > 0 {
			t.Errorf("%+v, lock %v", s, m.store.Data())
		}
		m.mu.Lock()
		m.preflight = drain.Report{}
		m.mu.Unlock()
		m.awaitReboot()
	})
	run(t, func(t *testing.T, m *machine) {
		m.settings.Preflight, m.preflight = PreflightWarn, blocked
		m.start(Run)
		m.want(true)
		m.awaitReboot()
		if !m.logged("would be held up") || !m.logged("shop/db-0") {
			t.Errorf("no warning:\n%s", m.log())
		}
	})
}

// What the API server would refuse at the cordon is known before the lock is held.
func TestRehearseSigns(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.Rehearse = true
		m.unfit = status.Because(status.APIRefused, errors.New("label x is not allowed"))
		m.start(Run)
		m.want(true)
		m.await("refused", func() bool { return m.status().Reason == status.APIRefused })
		if len(m.store.Data()) > 0 || !strings.Contains(m.status().Detail, "label x") {
			t.Errorf("%+v, lock %v", m.status(), m.store.Data())
		}
		m.set(func() { m.unfit = nil })
		m.awaitReboot()
	})
}

func TestDryRun(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.DryRun = true
		m.preflight = drain.Report{Tiers: []drain.Tier{{Pods: []string{"shop/web-1"}}}}
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.BackingOff)
		if m.node().Unschedulable || m.drains+m.rebooted() > 0 || len(m.store.Data()) > 0 || !m.logged("shop/web-1") || m.heard(status.EventFailed) {
			t.Errorf("node %+v, lock %v, told %v\n%s", m.node(), m.store.Data(), m.events, m.log())
		}
		m.settings.DryRun = false
		next, begun := m.parts(), time.Now()
		m.reload <- next
		m.awaitReboot()
		if took := time.Since(begun) - m.drainFor; took > time.Minute {
			t.Errorf("after the last dry run it still rests for %s", took)
		}
	})
}

func TestHoldOnTimeout(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.HoldOnTimeout = true
		m.drainEnd = func() drain.Result { return drain.Result{Err: drain.ErrTimeout} }
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Held)
		time.Sleep(time.Hour)
		synctest.Wait()
		if m.status().Reason != status.DrainTimeout || !m.node().Unschedulable || len(m.store.Data()) != 1 || !m.heard(status.EventHeld) {
			t.Errorf("%+v, node %+v, lock %v", m.status(), m.node(), m.store.Data())
		}
		m.set(func() { m.apiDown = true })
		m.await("outage", func() bool { return m.status().Reason == status.APIUnreachable })
		m.set(func() { m.apiDown = false })
		m.await("the end of it", func() bool { return m.status().Reason == status.DrainTimeout })
		m.mu.Lock()
		if want := []status.Event{status.EventDrain, status.EventHeld}; !slices.Equal(m.events, want) {
			t.Errorf("told %v, want %v", m.events, want)
		}
		m.mu.Unlock()
		m.want(false)
		m.awaitPhase(status.Idle)
		if m.node().Unschedulable || len(m.store.Data()) > 0 {
			t.Errorf("node %+v, lock %v", m.node(), m.store.Data())
		}
	})
}

// Somebody uncordons the node in the midst of the drain: it is cordoned and
// drained anew, but not for ever.
func TestCordonIsUndone(t *testing.T) {
	undo := func(m *machine) {
		m.mu.Lock()
		m.self.Unschedulable = false
		m.mu.Unlock()
	}
	run(t, func(t *testing.T, m *machine) {
		m.drainFor = 10 * time.Minute
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Draining)
		undo(m)
		m.await("second drain", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.drains == 2 })
		if !m.node().Unschedulable || !m.logged("somebody uncordoned") {
			t.Errorf("node %+v\n%s", m.node(), m.log())
		}
		m.awaitReboot()
	})
	run(t, func(t *testing.T, m *machine) {
		m.drainFor = 10 * time.Minute
		m.start(Run)
		m.want(true)
		for range 200 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if m.status().Phase == status.BackingOff {
				break
			}
			undo(m)
		}
		if m.rebooted() > 0 || m.status().Phase != status.BackingOff || len(m.store.Data()) > 0 {
			t.Errorf("%d reboots, %+v, lock %v", m.rebooted(), m.status(), m.store.Data())
		}
	})
	// Drains that end before anybody looks.
	run(t, func(t *testing.T, m *machine) {
		m.drainFor = 10 * time.Second
		m.start(Run)
		m.want(true)
		for range 40 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if m.status().Phase == status.BackingOff {
				break
			}
			undo(m)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.reboots > 0 || m.drains != maxUndone+1 || m.self.Mark != "" || strings.Count(strings.Join(m.lines, ""), "somebody uncordoned") != maxUndone {
			t.Errorf("%d reboots, %d drains, Node %+v\n%s", m.reboots, m.drains, m.self, strings.Join(m.lines, ""))
		}
	})
}

func TestWaitsTooLong(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.TooLong = 24 * time.Hour
		m.gates = gate.Verdict{Reason: status.OutsideWindow, Detail: "opens on Sunday"}
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Blocked)
		asked := m.asked()
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if m.heard(status.EventWaiting) || m.asked() != asked {
			t.Errorf("told %v, %d requests while the window is closed", m.events, m.asked()-asked)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if !m.heard(status.EventWaiting) || !m.logged("opens on Sunday") {
			t.Errorf("told %v\n%s", m.events, m.log())
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if n := len(m.events); n != 1 {
			t.Errorf("told %d times: %v", n, m.events)
		}
	})
}

func TestGiveUpAfterReboot(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.start(Run)
		m.want(true)
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.settings.GiveUpAt = time.Now().Add(30 * time.Minute)
		m.notReady = true
		busy := true
		m.hooks = func(_ context.Context, phase string) error {
			if phase == hook.PostUncordon && busy {
				busy = false
				return hook.ErrNotNow
			}
			return nil
		}
		m.start(Return)
		time.Sleep(29 * time.Minute)
		synctest.Wait()
		if len(m.store.Data()) != 1 {
			t.Fatalf("lock after 29 minutes: %v", m.store.Data())
		}
		m.set(func() { m.apiDown = true })
		time.Sleep(2 * time.Minute)
		if m.logged("the lock is released") || m.heard(status.EventHeld) {
			t.Errorf("told what is not so: %v\n%s", m.events, m.log())
		}
		m.set(func() { m.apiDown = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		if m.silences[len(m.silences)-1] != "expire" {
			t.Errorf("alerts of a node that is given up are silenced: %v", m.silences)
		}
		if len(m.store.Data()) > 0 || !m.node().Unschedulable || !m.heard(status.EventHeld) || m.heard(status.EventBack) {
			t.Errorf("lock %v, node %+v, told %v", m.store.Data(), m.node(), m.events)
		}
		m.kill()
		m.start(Return) // by systemd
		time.Sleep(time.Minute)
		if s := m.status(); s.Phase != status.Returning || s.Reason != status.GaveUp || s.Detail != "kubelet has not reported yet" {
			t.Errorf("given up: %+v", s)
		}
		m.set(func() { m.notReady = false }) // well at last
		<-m.done
		if m.err != nil || m.node().Unschedulable || !m.logged("the lock was released before") || m.logged("somebody else") || !m.heard(status.EventBack) ||
			m.hooked[len(m.hooked)-2] != hook.PostUncordon {
			t.Errorf("%v, node %+v, told %v, hooks %v\n%s", m.err, m.node(), m.events, m.hooked, m.log())
		}
		m.start(Run)
	})
}

// Alerts of a node that is not on its way any more, or that waits for a person, are worth hearing.
func TestSilenceEnds(t *testing.T) {
	timeout := func() drain.Result { return drain.Result{Err: drain.ErrTimeout} }
	for name, c := range map[string]struct {
		cordoned bool // by a person
		drainFor time.Duration
		drainEnd func() drain.Result
		spoil    func(m *machine)
		phase    status.Phase
		expired  bool // at once; else it is only not renewed
	}{
		"lock released":               {false, time.Minute, nil, func(m *machine) { m.release(nil) }, status.BackingOff, true},
		"that of a node cordoned":     {true, time.Minute, nil, func(m *machine) { m.release(nil) }, status.BackingOff, true},
		"that, and nobody looks then": {true, time.Second, nil, func(m *machine) { m.store.Put(othersHold); m.release(nil) }, status.Queued, false},
		"held":                        {false, time.Minute, timeout, func(*machine) {}, status.Held, false},
		"overdue":                     {false, time.Minute, nil, func(*machine) {}, status.Rebooting, false},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, m *machine) {
				m.self.Unschedulable, m.settings.HoldOnTimeout = c.cordoned, true
				m.drainFor, m.drainEnd = c.drainFor, c.drainEnd
				m.start(Run)
				m.want(true)
				m.await("silence", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.quiet == 1 })
				c.spoil(m)
				m.awaitPhase(c.phase)
				m.await("the silence is left", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.quiet == 0 })
				m.mu.Lock()
				defer m.mu.Unlock()
				if slices.Contains(m.silences, "expire") != c.expired {
					t.Errorf("silences %v", m.silences)
				}
			})
		})
	}
}

func TestWaitingTaint(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings.WaitingTaint = "kured.dev/waiting"
		m.store.Put(othersHold)
		m.start(Run)
		m.awaitPhase(status.Idle)
		if len(m.node().SoftTaints) > 0 {
			t.Error("tainted while idle")
		}
		m.want(true)
		m.await("taint", func() bool { return len(m.node().SoftTaints) == 1 })
		m.store.Put(othersRelease)
		m.awaitPhase(status.Draining)
		if len(m.node().SoftTaints) > 0 {
			t.Error("tainted while it drains")
		}
		m.awaitReboot()
	})
}

// What the new configuration asks for before the lock is done, also by a node that stands in the queue.
func TestReloadRehearses(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.preflight = drain.Report{Held: []drain.HeldPod{{Namespace: "shop", Name: "db-0", Why: drain.WhyBudget}}}
		m.store.Put(othersHold)
		m.start(Run)
		m.want(true)
		m.await("place in the room", func() bool { return m.store.Data()["waiter.a"] != "" })
		m.mu.Lock()
		m.settings.Preflight = PreflightBlock
		next := m.parts()
		m.mu.Unlock()
		m.reload <- next
		m.await("blocked", func() bool { return m.status().Reason == status.DrainBlocked && m.store.Data()["waiter.a"] == "" })
	})
}

// The taint has another name in the new configuration, or none: the old one does not stay.
func TestReloadWithAnotherTaint(t *testing.T) {
	for name, want := range map[string][]string{"kured.dev/queued": {"kured.dev/queued"}, "": {}} {
		run(t, func(t *testing.T, m *machine) {
			m.settings.WaitingTaint = "kured.dev/waiting"
			m.store.Put(othersHold)
			m.start(Run)
			m.want(true)
			m.await("taint", func() bool { return slices.Equal(m.node().SoftTaints, []string{"kured.dev/waiting"}) })
			m.mu.Lock()
			m.settings.WaitingTaint = name
			next := m.parts()
			m.mu.Unlock()
			m.reload <- next
			m.await("the other taint", func() bool { return slices.Equal(m.node().SoftTaints, want) })
			if m.status().Phase != status.Queued || m.store.Data()["waiter.a"] == "" {
				t.Errorf("%+v, lock %v", m.status(), m.store.Data())
			}
		})
	}
}

// Another configuration comes while the node waits in the queue: it keeps its
// place, and goes by the new one.
func TestReload(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.store.Put(othersHold)
		m.start(Run)
		m.want(true)
		m.await("place in the room", func() bool { return m.store.Data()["waiter.a"] != "" })
		entry := m.store.Data()["waiter.a"]
		time.Sleep(time.Hour)
		synctest.Wait()

		next := m.parts()
		next.Settings.DelayDrain = 10 * time.Minute
		m.reload <- next
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := m.store.Data()["waiter.a"]; got != entry || m.status().Phase != status.Queued {
			t.Errorf("%+v, entry %q, was %q", m.status(), got, entry)
		}
		m.store.Put(othersRelease)
		m.awaitPhase(status.Draining)
		begun := time.Now()
		m.awaitReboot()
		if took := time.Since(begun); took < 10*time.Minute {
			t.Errorf("rebooted after %s: the old configuration", took)
		}
	})
}

// A drain is not cut short by another configuration.
func TestReloadWhileDraining(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.drainFor = 10 * time.Minute
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Draining)
		next := m.parts()
		next.Settings.Announce = time.Minute
		m.reload <- next
		m.awaitReboot()
		if m.drains != 1 || len(m.announced) == 0 {
			t.Errorf("%d drains, announced %v", m.drains, m.announced)
		}
	})
}

// Of several configurations that come while a step runs the last one counts,
// and the others are let go.
func TestReloadsWhileDraining(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.drainFor = 10 * time.Minute
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Draining)
		var dismissed []int
		for i := range 3 {
			next := m.parts()
			next.Dismissed = func() { dismissed = append(dismissed, i) }
			m.reload <- next
			synctest.Wait()
		}
		m.awaitReboot()
		if !slices.Equal(dismissed, []int{0, 1}) {
			t.Errorf("dismissed %v of 0, 1, 2", dismissed)
		}
	})
}

// Another lock is configured: what the node has in the one before is given back, and it goes on with the other.
func TestReloadWithAnotherLock(t *testing.T) {
	for name, c := range map[string]struct {
		full  bool
		phase status.Phase
	}{
		"waiting": {true, status.Queued},
		"holding": {false, status.Draining},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, m *machine) {
				m.settings.Lock = "kube-system/before"
				if c.full {
					m.store.Put(othersHold)
				}
				others := len(m.store.Data())
				m.start(Run)
				m.want(true)
				m.awaitPhase(c.phase)
				m.await("entry", func() bool { return len(m.store.Data()) == others+1 })
				another := locktest.New(nil)
				m.mu.Lock()
				m.settings.Lock = "kube-system/after"
				m.mu.Unlock()
				next := m.parts()
				next.Dial = func(ctx context.Context) (*Cluster, error) {
					c, err := m.dial(ctx)
					if err == nil {
						c.Turn.(*lock.Lock).Store = another
					}
					return c, err
				}
				m.reload <- next
				m.await("in the other lock", func() bool { return len(another.Data()) > 0 })
				if len(m.store.Data()) != others {
					t.Errorf("left: %v\n%s", m.store.Data(), m.log())
				}
			})
		})
	}
}
