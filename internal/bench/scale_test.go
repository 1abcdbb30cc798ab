package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/lock/locktest"
)

func TestSimulated(t *testing.T) {
	const rest = "writes_per_reboot=4.00 conflicts_at_opening=12 outside_reads_per_minute=0.25 object_bytes=1900 object_bytes_with_managed_fields=%d" +
		" hand_off_p50=18ms hand_off_p99=%s hand_off_max=1s lost_per_hand_off=20ms overtaken_in_room=0 overtaken_outside=70"
	s, err := simulated([]byte("=== RUN   TestScale\n" +
		"figure: nodes=10 limit=1 turns=10 conflicts_per_reboot_later=0.000 " + fmt.Sprintf(rest, 3000, "27ms") + "\n" +
		"figure: nodes=5000 limit=10 turns=2000 conflicts_per_reboot_later=0.300 " + fmt.Sprintf(rest, 5000, "1.2s") + "\n--- PASS: TestScale (1.00s)\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := report{sections: []section{s}}
	for _, want := range []string{
		"\n### The lock in large fleets, simulated\n\n| figure",
		"| 10 nodes, limit 1 | 5000 nodes, limit 10 |\n",
		"| ≤ 250 ms               | 27ms              | 1.2s **OVER**        |\n",
		"| ≤ 4096 with one holder | 3000              | 5000                 |\n",
	} {
		if got := r.markdown(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if len(s.over) != 2 || s.over[0] != "lost writes (conflicts) per reboot, 5000 nodes, limit 10: 0.300, budget ≤ 0.2" {
		t.Errorf("over: %q", s.over)
	}
	for _, wrong := range []string{"", "figure: nodes=10\n", "figure: 10 nodes\n"} {
		if _, err := simulated([]byte(wrong)); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestRoundsAgainstTheirBudgets(t *testing.T) {
	times := func(d time.Duration) locktest.Result {
		return locktest.Result{Idle: []time.Duration{d, d, d}, HandOffs: []time.Duration{d, d, d}, Writes: 16, Conflicts: 1}
	}
	s := handOverTable([]round{{"10 nodes", 10, 4000, times(120 * time.Millisecond)}, {"1,000 nodes", many, 5000, times(120 * time.Millisecond)}})
	want := []string{
		"release → next node holds, p99, while somebody is in the room, 10 nodes: 120 ms, budget ≤ 100 ms with 8 waiting, 250 ms with 1,000",
		"of them lost (conflicts), 10 nodes: 0.25, budget ≤ 0.2",
		"of them lost (conflicts), 1,000 nodes: 0.25, budget ≤ 0.2",
		"lock object, at most, 1,000 nodes: 4.9 KiB, budget ≤ 4 KiB",
	}
	if strings.Join(s.over, "\n") != strings.Join(want, "\n") {
		t.Errorf("over:\n%s", strings.Join(s.over, "\n"))
	}
}
