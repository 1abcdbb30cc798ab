package cycle

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/status"
)

// A whole good cycle in which everything is configured and everything has to be
// waited for: what the journal tells of it is not more than a person reads, and
// each line names the cycle.
func TestLinesOfACycle(t *testing.T) {
	run(t, func(t *testing.T, m *machine) {
		m.settings = Settings{Lock: "kube-system/kured-lock", DelayDrain: time.Minute, Volumes: time.Minute, DelayReboot: time.Minute,
			Announce: time.Minute, ReleaseDelay: time.Minute}
		m.hooks = func(context.Context, string) error { return nil }
		m.attachedFor = 30 * time.Second
		m.gates = gate.Verdict{Reason: status.OutsideWindow, Detail: "outside the windows"}
		m.store.Put(othersHold)
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.want(true)
		m.awaitPhase(status.Blocked)
		m.set(func() { m.gates = gate.Verdict{Open: true} })
		m.await("the lock is full", func() bool { return m.status().Reason == status.LockFull })
		m.store.Put(othersRelease)
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.start(Run)
		m.awaitPhase(status.Returning)
		m.kill()
		if err := m.afterBoot(); err != nil {
			t.Fatal(err)
		}
		const most = 15 - 2 // the daemon itself says that it stops and starts
		if n := strings.Count(m.log(), "\n"); n > most {
			t.Errorf("%d lines, at most %d:\n%s", n, most, m.log())
		}
		for line := range strings.Lines(m.log()) {
			// The line that begins it is known by its id and the boot.
			if !strings.Contains(line, " cycle=00000000000000000000000000000001") && !strings.Contains(line, " message_id=required") {
				t.Errorf("does not name the cycle: %s", line)
			}
		}
	})
}
