package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
)

// many is how many nodes want the lock at the same instant.
const many = 1000

// scale measures the lock with many nodes on the real API server.
func scale(ctx context.Context, rounds int, say func(string)) ([]section, error) {
	c, err := newCrowd(ctx, many)
	if err != nil {
		return nil, err
	}
	defer c.close()

	var handOvers []round
	measure := func(name string, n int) error {
		say("  hand-over among " + name)
		h := round{name: name, nodes: n}
		// The fewer they are, the more often each looks: as many looks a second as a thousand nodes make, for
		// the lock goes round here in a fraction of a second and not in minutes.
		pace := lock.DefaultPace()
		pace.Outside = pace.Outside * time.Duration(n) / many
		pace.OutsideMax = pace.OutsideMax * time.Duration(n) / many
		var err error
		h.Result, h.size, err = c.race(ctx, n, 1, pace, locktest.Race{Again: rounds, Hold: 200 * time.Millisecond, Rest: pace.Outside, After: pace.Opening + 2*time.Second})
		if err == nil {
			handOvers = append(handOvers, h)
		}
		return err
	}
	var alone []oneWrite
	write := func(name string) error {
		say("  writes of one node alone: " + name)
		// Holds for as long as keeps it below the client's own limit of requests.
		r, _, err := c.race(ctx, 1, 1, lock.DefaultPace(), locktest.Race{Again: rounds / 2, Hold: 150 * time.Millisecond})
		if err == nil {
			alone = append(alone, oneWrite{name, r.WriteTimes})
		}
		return err
	}
	var rolls []roll
	race := func(limit int) error {
		say(fmt.Sprintf("  race for one turn each, limit %d", limit))
		pace := lock.DefaultPace()
		pace.Opening, pace.Outside, pace.OutsideMax = 5*time.Second, 5*time.Second, 10*time.Second
		r, size, err := c.race(ctx, many, limit, pace, locktest.Race{Hold: time.Duration(limit) * 50 * time.Millisecond})
		if err == nil {
			rolls = append(rolls, roll{limit, size, r})
		}
		return err
	}
	for _, step := range []func() error{
		func() error { return c.setPolicy(ctx, true) },
		func() error { return write("no wall") },
		func() error { return measure("10 nodes", 10) },
		func() error { return measure("100 nodes", 100) },
		func() error { return measure("1,000 nodes", many) },
		func() error { return c.buildWall(ctx) },
		func() error { return write("wall") },
		func() error { return c.setPolicy(ctx, false) },
		func() error { return write("wall, and no ConfigMap " + policyName) },
		func() error { return c.setPolicy(ctx, true) },
		func() error { return measure("1,000 nodes, wall", many) },
		func() error { return race(1) },
		func() error { return race(3) },
		func() error { return race(10) },
	} {
		if err = step(); err != nil {
			break
		}
	}
	return []section{handOverTable(handOvers), rollTable(rolls), wallTable(alone)}, err
}

// round is the lock going from one to the next while many wait.
type round struct {
	name  string
	nodes int
	size  int // of the lock object as JSON, at most
	locktest.Result
}

func handOverTable(all []round) section {
	turns := func(h round) float64 { return float64(max(1, len(h.Idle)+1)) }
	return compare("The lock goes round among many, on the real API server", all, func(h round) string { return h.name }, []line[round]{
		{"release → next node holds, p50, while somebody is in the room", "–", func(h round) (string, verdict) { return millis(percentile(h.HandOffs, 50)), noBudget }},
		{"release → next node holds, p99, while somebody is in the room", "≤ 100 ms with 8 waiting, 250 ms with 1,000", func(h round) (string, verdict) {
			p99, limit := percentile(h.HandOffs, 99), 100*time.Millisecond
			if h.nodes >= many {
				limit = 250 * time.Millisecond
			}
			return millis(p99), keeps(p99 <= limit)
		}},
		{"lock writes per turn", "≤ 8", func(h round) (string, verdict) {
			n := float64(h.Writes) / turns(h)
			return fmt.Sprintf("%.1f", n), keeps(n <= 8)
		}},
		{"of them lost (conflicts)", "≤ 0.2", func(h round) (string, verdict) {
			n := float64(h.Conflicts) / turns(h)
			return fmt.Sprintf("%.2f", n), keeps(n <= 0.2)
		}},
		{"lock object, at most", "≤ 4 KiB", func(h round) (string, verdict) { return kibi(float64(h.size)), keeps(h.size <= 4096) }},
		{"looks of one outside, a minute", "–", func(h round) (string, verdict) {
			if h.nodes < many {
				return "", noBudget // looks more often here than in life
			}
			return fmt.Sprintf("%.1f", h.Watchful), noBudget
		}},
		{"largest overtaking in the waiting room", "–", func(h round) (string, verdict) { return fmt.Sprint(h.Overtaken), noBudget }},
		{"turns", "–", func(h round) (string, verdict) { return fmt.Sprint(len(h.Idle) + 1), noBudget }},
		{"requests that failed", "–", func(h round) (string, verdict) { return fmt.Sprint(len(h.Trouble)), noBudget }},
	})
}

// roll is each of many nodes having one turn.
type roll struct {
	limit, size int
	locktest.Result
}

func rollTable(all []roll) section {
	per := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/many) }
	return compare("A race of 1,000 nodes for one turn each, behind the wall", all, func(r roll) string { return fmt.Sprintf("limit %d", r.limit) }, []line[roll]{
		{"holders in any version, at most", "the limit", func(r roll) (string, verdict) { return fmt.Sprint(r.Most), keeps(r.Most <= r.limit) }},
		{"versions, all of them seen", "–", func(r roll) (string, verdict) { return fmt.Sprint(r.Versions), noBudget }},
		{"nodes that had their turn", fmt.Sprint(many), func(r roll) (string, verdict) { return fmt.Sprint(len(r.Turns)), keeps(len(r.Turns) == many) }},
		{"requests that failed", "–", func(r roll) (string, verdict) { return fmt.Sprint(len(r.Trouble)), noBudget }},
		{"all of it took", "–", func(r roll) (string, verdict) { return fmt.Sprintf("%.0f s", r.Took.Seconds()), noBudget }},
		{"lock writes per turn", "–", func(r roll) (string, verdict) { return per(r.Writes), noBudget }},
		{"of them lost (conflicts)", "–", func(r roll) (string, verdict) { return per(r.Conflicts), noBudget }},
		{"lock object, at most", "≤ 4 KiB with one holder", func(r roll) (string, verdict) {
			return kibi(float64(r.size)), keeps(r.size <= 4096 || r.limit > 1)
		}},
	})
}

// oneWrite is writes of one node that nobody disturbs.
type oneWrite struct {
	name  string
	times []time.Duration
}

func wallTable(all []oneWrite) section {
	return compare("A write of the lock by a node that is alone", all, func(w oneWrite) string { return w.name }, []line[oneWrite]{
		{"p50", "–", func(w oneWrite) (string, verdict) { return tenths(percentile(w.times, 50)), noBudget }},
		{"p99", "–", func(w oneWrite) (string, verdict) { return tenths(percentile(w.times, 99)), noBudget }},
		{"writes", "–", func(w oneWrite) (string, verdict) { return fmt.Sprint(len(w.times)), noBudget }},
	})
}

func tenths(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// line is one figure of several cases.
type line[T any] struct {
	name, budget string
	measure      func(T) (string, verdict)
}

// compare is a table with a column for each case.
func compare[T any](title string, cases []T, name func(T) string, lines []line[T]) section {
	s := section{title: title, header: []string{"figure", "budget"}}
	for _, c := range cases {
		s.header = append(s.header, name(c))
	}
	for _, l := range lines {
		row := []string{l.name, l.budget}
		for _, c := range cases {
			measured, v := l.measure(c)
			row = append(row, cell(measured, v))
			if v == over {
				s.over = append(s.over, fmt.Sprintf("%s, %s: %s, budget %s", l.name, name(c), measured, l.budget))
			}
		}
		s.rows = append(s.rows, row)
	}
	return s
}

// cell is a figure in a table of several.
func cell(measured string, v verdict) string {
	switch {
	case measured == "":
		return "–"
	case v == over:
		return measured + " " + string(over)
	}
	return measured
}

func keeps(ok bool) verdict {
	if ok {
		return within
	}
	return over
}
