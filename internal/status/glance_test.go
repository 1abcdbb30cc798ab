package status

import (
	"reflect"
	"testing"
)

// Every phase comes to something, and the sets of phases are these.
func TestGlance(t *testing.T) {
	glances, underway, outbound := map[Glance][]Phase{}, []Phase{}, []Phase{}
	for _, p := range Phases() {
		g := Status{Phase: p}.Glance()
		glances[g] = append(glances[g], p)
		if p.Underway() {
			underway = append(underway, p)
		}
		if p.Outbound() {
			outbound = append(outbound, p)
		}
		for _, reason := range []Reason{RebootOverdue, GaveUp} {
			if g := (Status{Phase: p, Reason: reason}).Glance(); g != Failed {
				t.Errorf("%s, %s: %s", p, reason, g)
			}
		}
	}
	for what, set := range map[string][2]any{
		"glances": {glances, map[Glance][]Phase{
			Quiet: {Idle}, Waiting: {Starting, Queued, BackingOff}, Stopped: {Blocked}, Failed: {Held},
			Busy: {Locked, Draining, Rebooting, Returning, RollingBack},
		}},
		"underway": {underway, []Phase{Locked, Draining, Rebooting, Returning, RollingBack}},
		"outbound": {outbound, []Phase{Locked, Draining, Rebooting}},
	} {
		if !reflect.DeepEqual(set[0], set[1]) {
			t.Errorf("%s: got %v, want %v", what, set[0], set[1])
		}
	}
	if p := Phase("of a newer kured"); p.Underway() || (Status{Phase: p}).Glance() != Strange {
		t.Errorf("%s is known", p)
	}
}
