package cycle

import (
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// release does what kured lock release does.
func (m *machine) release(note *node.Release) {
	m.mu.Lock()
	m.self.Released = note
	m.mu.Unlock()
	m.store.Put(lock.Edit{Remove: []string{"holder." + m.name, "waiter." + m.name}})
}

// before calls do once, right before the lock's entry gets the phase.
func (m *machine) before(phase status.Phase, do func()) {
	done := false
	m.writing = func(e lock.Edit) {
		if !done && strings.Contains(e.Set["holder."+m.name], `"phase":"`+string(phase)+`"`) {
			done = true
			do()
		}
	}
}

// An admin releases the lock at one point or another: the node does not
// reboot, tells once who it was, gives all back, and counts one failed try.
func TestReleasedByAnAdmin(t *testing.T) {
	alice := func(m *machine) *node.Release {
		return &node.Release{By: "alice", Why: "node is broken", Boot: m.bootID()}
	}
	unreadable := func(*machine) *node.Release { return &node.Release{} }
	nothing := func(*machine) *node.Release { return nil }
	beforePhase := func(phase status.Phase) func(*machine, func()) {
		return func(m *machine, do func()) { m.before(phase, do) }
	}
	midDrain := func(m *machine, do func()) {
		m.await("draining", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.drains > 0 })
		do()
	}
	for _, c := range []struct {
		name     string
		when     func(*machine, func())
		note     func(*machine) *node.Release
		cordoned bool // by a person
		says     string
	}{
		{"before the drain", beforePhase(status.Draining), alice, false, "lock released by alice: node is broken"},
		{"before the drain, no note", beforePhase(status.Draining), nothing, false, "the lock of this node was released by somebody else"},
		{"before the drain, a person's cordon", beforePhase(status.Draining), alice, true, "lock released by alice: node is broken"},
		{"before the drain, a person's cordon, no note", beforePhase(status.Draining), nothing, true, "the lock of this node was released by somebody else"},
		{"in the drain", midDrain, alice, false, "lock released by alice: node is broken"},
		{"in the drain, no note", midDrain, nothing, false, "the lock of this node was released by somebody else"},
		{"in the drain, a person's cordon", midDrain, alice, true, "lock released by alice: node is broken"},
		{"before the reboot", beforePhase(status.Rebooting), alice, false, "lock released by alice: node is broken"},
		{"before the reboot, damaged note", beforePhase(status.Rebooting), unreadable, false, "lock released by somebody whose note"},
	} {
		t.Run(c.name, func(t *testing.T) {
			story(t, func(m *machine) {
				m.wanted, m.self.Unschedulable = true, c.cordoned
				release := func() { m.release(c.note(m)) }
				if strings.HasPrefix(c.name, "in ") {
					m.start(Run)
					c.when(m, release)
				} else {
					c.when(m, release)
					m.start(Run)
				}
				m.awaitPhase(status.BackingOff)
				if m.rebooted() != 0 || len(m.store.Data()) != 0 || m.node().Mark != "" || m.node().Released != nil || m.node().Unschedulable != c.cordoned {
					t.Errorf("%d reboots, lock %v, Node %+v", m.reboots, m.store.Data(), m.node())
				}
				if s := m.status(); !strings.HasPrefix(s.Detail, c.says) || !strings.Contains(s.Detail, "; next try at ") {
					t.Errorf("status detail %q", s.Detail)
				}
				log := m.log()
				if strings.Count(log, c.says) != 1 || strings.Count(log, "next try in 5m0s") != 1 || strings.Count(log, "next try in") != 1 {
					t.Errorf("want %q once, and one back-off:\n%s", c.says, log)
				}
				begun := time.Now()
				m.awaitReboot()
				if waited := time.Since(begun); waited > 7*time.Minute {
					t.Errorf("the next try came after %s", waited)
				}
			})
		})
	}
}

// The lock is released after the reboot was ordered: the node comes back all
// the same, and the way back tells who it was.
func TestReleasedWhileItReboots(t *testing.T) {
	for _, c := range []struct {
		note *node.Release
		says string
	}{
		{&node.Release{By: "alice", Why: "it takes too long"}, "back in service: lock released by alice: it takes too long"},
		{nil, "back in service: the lock of this node was released by somebody else"},
	} {
		story(t, func(m *machine) {
			m.wanted = true
			m.start(Run)
			m.awaitReboot()
			m.kill()
			m.release(c.note)
			m.bootUp(false)
			m.start(Run) // it leaves the telling to the oneshot
			m.awaitPhase(status.Returning)
			m.kill()
			if err := m.afterBoot(); err != nil {
				t.Fatal(err)
			}
			m.back()
			if m.node().Released != nil || strings.Count(m.log(), c.says) != 1 || !m.heard(status.EventBack) {
				t.Errorf("note %+v, told %v, want %q once:\n%s", m.node().Released, m.events, c.says, m.log())
			}
			m.start(Run)
			m.awaitPhase(status.Idle)
		})
	}
}

// A release that left its note and then failed is none: the cycle goes on, and
// the note does not outlive it.
func TestReleaseThatDidNotComeAbout(t *testing.T) {
	for _, cordoned := range []bool{false, true} {
		story(t, func(m *machine) {
			m.wanted, m.self.Unschedulable = true, cordoned
			m.start(Run)
			m.await("draining", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.drains > 0 })
			m.set(func() { m.self.Released = &node.Release{By: "alice", Why: "x", Boot: m.bootID()} })
			m.roll()
			if m.node().Released != nil || strings.Contains(m.log(), "alice") {
				t.Errorf("note %+v:\n%s", m.node().Released, m.log())
			}
		})
	}
}

// A note that nobody told of is from before a reboot: it is told, and costs no time.
func TestOldNote(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.self.Released = true, &node.Release{By: "alice", Why: "x", Boot: "0123456789abcdef0123456789abcdef"}
		m.start(Run)
		begun := time.Now()
		m.awaitReboot()
		if m.node().Released != nil || strings.Count(m.log(), "lock released by alice: x") != 1 || time.Since(begun) > 2*time.Minute {
			t.Errorf("after %s, note %+v:\n%s", time.Since(begun), m.node().Released, m.log())
		}
	})
}

// A node whose drain takes for ever stops it soon after its lock was released.
func TestReleaseEndsTheDrain(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.drainFor = true, 24*time.Hour
		m.start(Run)
		m.await("draining", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.drains > 0 })
		time.Sleep(10 * time.Minute)
		released := time.Now()
		m.release(nil)
		m.awaitPhase(status.BackingOff)
		if took := time.Since(released); took > time.Minute {
			t.Errorf("went on for %s", took)
		}
		if m.node().Unschedulable {
			t.Error("still cordoned")
		}
	})
}
