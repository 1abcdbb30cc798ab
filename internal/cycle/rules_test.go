package cycle

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/status"
)

// Whether the API server keeps the rules of the lock itself is told once, as is
// why nodes that are down do not count.
func TestTellsWhoKeepsTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "a", locktest.New(nil))
		m.rules = enforced(false)
		m.start(Run)
		m.want(true)
		m.roll()
		m.want(true)
		m.roll()
		if n := strings.Count(m.log(), "apply wall.yaml"); n != 2 { // once in each life of the daemon
			t.Errorf("told %d times\n%s", n, m.log())
		}
		if strings.Contains(m.log(), `"waiting for the lock: "`) {
			t.Errorf("waits for nothing\n%s", m.log())
		}
		m.kill()
	})
}

// A pause of the whole cluster takes the lock from nobody, but who holds it
// goes no further.
func TestPauseRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "a", locktest.New(nil))
		policy := &pausable{}
		m.rules = policy
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Draining)
		policy.pause("release day")
		m.awaitPhase(status.BackingOff)
		if m.node().Unschedulable || len(m.store.Data()) != 0 || m.rebooted() != 0 {
			t.Errorf("node %+v, lock %v, %d reboots", m.node(), m.store.Data(), m.rebooted())
		}
		if !strings.Contains(m.log(), "reason=paused") {
			t.Errorf("not told\n%s", m.log())
		}
		m.await("blocked by the pause", func() bool { return m.status().Reason == status.Paused && m.status().Phase == status.Blocked })
		policy.pause("")
		m.awaitReboot()
		m.kill()
	})
}

type enforced bool

func (enforced) Policy(context.Context) (lock.Policy, error)      { return lock.Policy{}, nil }
func (e enforced) Enforced(context.Context, string) (bool, error) { return bool(e), nil }

type pausable struct {
	enforced
	mu     sync.Mutex
	policy lock.Policy
}

func (p *pausable) Policy(context.Context) (lock.Policy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policy, nil
}

func (p *pausable) pause(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy.Paused = why
}
