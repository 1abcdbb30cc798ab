package cycle

import (
	"slices"
	"testing"

	"github.com/kured-host/kured/internal/status"
)

// The status names the cycle in the same way before and after the reboot, and
// none before and after it; it tells since when the lock is held, and what the
// gates said.
func TestStatusOfACycle(t *testing.T) {
	story(t, func(m *machine) {
		m.start(Run)
		m.awaitPhase(status.Idle)
		began := m.bootID()
		m.want(true)
		m.roll()
		if m.bootID() == began {
			t.Fatal("no reboot")
		}
		seen := map[status.Phase]int{}
		for _, s := range m.statuses {
			seen[s.Phase]++
			switch s.Phase {
			case status.Idle: // for a moment also when the demand has just come
				if s.Demand == nil && (s.Cycle != "" || s.Held != nil || s.Gates != nil) {
					t.Errorf("idle: %+v", s)
				}
			case status.Draining, status.Rebooting, status.Returning:
				if s.Cycle != began || s.Held == nil {
					t.Errorf("%s: cycle %q, held since %v", s.Phase, s.Cycle, s.Held)
				}
				if before := s.Phase != status.Returning; before != slices.Contains(s.Gates, status.GateState{Gate: status.GateInhibitors, Open: true}) {
					t.Errorf("%s: gates %+v", s.Phase, s.Gates)
				}
			}
		}
		for _, p := range []status.Phase{status.Idle, status.Draining, status.Rebooting, status.Returning} {
			if seen[p] == 0 {
				t.Errorf("%s was never shown", p)
			}
		}
	})
}
