package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/lock/locktest"
)

func TestReadSimulated(t *testing.T) {
	s, err := readSimulated([]byte(`=== RUN   TestScale
    scale_test.go:10: figure: 10 nodes: lock writes per turn | ≤ 8 | 4.0 | ok
    scale_test.go:10: figure: 10 nodes: time lost | – | 1 s | –
figure: 5,000 nodes: lock writes per turn | ≤ 8 | 9.0 | OVER
--- PASS: TestScale (1.00s)
`))
	if err != nil {
		t.Fatal(err)
	}
	r := report{sections: []section{s}}
	for _, want := range []string{
		"\n### The lock in large fleets, simulated\n\n| figure",
		"| lock writes per turn | ≤ 8    | 4.0      | 9.0 **OVER** |\n| time lost            | –      | 1 s      | –            |\n",
		"| 10 nodes | 5,000 nodes  |",
	} {
		if got := r.markdown(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if len(s.over) != 1 || s.over[0] != "5,000 nodes: lock writes per turn: 9.0, budget ≤ 8" {
		t.Errorf("over: %q", s.over)
	}
	for _, wrong := range []string{"", "figure: 10 nodes: a | b | c\n", "figure: lock writes | ≤ 8 | 4 | ok\n"} {
		if _, err := readSimulated([]byte(wrong)); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestRoundsAgainstTheirBudgets(t *testing.T) {
	times := func(d time.Duration) locktest.Result {
		return locktest.Result{Idle: []time.Duration{d, d, d}, Writes: 16, Conflicts: 1}
	}
	s := handOverTable([]round{{"10 nodes", 10, 4000, times(120 * time.Millisecond)}, {"1,000 nodes", many, 5000, times(120 * time.Millisecond)}})
	want := []string{
		"release → next node holds, p99, 10 nodes: 120 ms, budget ≤ 100 ms with 8 waiting, 250 ms with 1,000",
		"of them lost (conflicts), 10 nodes: 0.25, budget ≤ 0.2",
		"of them lost (conflicts), 1,000 nodes: 0.25, budget ≤ 0.2",
		"lock object, at most, 1,000 nodes: 4.9 KiB, budget ≤ 4 KiB",
	}
	if strings.Join(s.over, "\n") != strings.Join(want, "\n") {
		t.Errorf("over:\n%s", strings.Join(s.over, "\n"))
	}
}
