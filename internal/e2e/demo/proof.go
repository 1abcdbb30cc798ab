package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv"
)

// machine is one node as its firmware saw it.
type machine struct {
	name, system  string
	before, after string // boot ids
	boots         []nodes.Boot
}

// evidence is all that was recorded, by others than kured.
type evidence struct {
	wanted   time.Time // when the sentinels appeared
	machines []machine
	history  cluster.History   // every version of Nodes and lock since then
	requests []testenv.Request // of kured, from the API server's audit log
	idle     []testenv.Request // of kured, while nothing was wanted after that
	idleFor  time.Duration
	moved    int // evictions that were granted
	fewest   int // ready pods of the Deployment with a budget, at any moment
	budget   int // what the budget demands
}

// outage is one node's way through the reboot.
type outage struct {
	machine
	cordoned   time.Time // out of service from here …
	down, up   time.Time // the machine, from the end of one boot to the begin of the next
	ready      time.Time // by the kubelet of the new boot
	uncordoned time.Time // … to here
}

// proof is what the evidence shows.
type proof struct {
	outages    []outage      // in the order of the reboots
	holders    int           // most that held the lock at once
	out        int           // most that were cordoned or not Ready at once
	down       int           // most machines that were off at once
	gaps       []string      // from one release to the next holder
	lasted     time.Duration // from the sentinels to the last release
	lockWrites int
	failures   []string // why it is none
}

// prove judges the evidence.
func prove(e evidence) proof {
	p := proof{holders: e.history.MaxHolders(), lockWrites: e.history.LockWrites()}
	fail := func(format string, args ...any) { p.failures = append(p.failures, fmt.Sprintf(format, args...)) }
	e.history.States(func(_ time.Time, s cluster.State) bool {
		out := 0
		for name := range s.Nodes {
			if s.IsCordoned(name) || !s.IsReady(name) {
				out++
			}
		}
		p.out = max(p.out, out)
		return true
	})
	for _, m := range e.machines {
		o, wrong := outageOf(m, e.history)
		p.outages = append(p.outages, o)
		for _, w := range wrong {
			fail("%s %s", m.name, w)
		}
	}
	slices.SortFunc(p.outages, func(a, b outage) int { return a.cordoned.Compare(b.cordoned) })
	p.down = mostDown(p.outages)
	spans := e.history.HolderSpans()
	for i, s := range spans {
		if s.To.IsZero() {
			fail("%s still holds the lock", s.Node)
			continue
		}
		p.lasted = s.To.Sub(e.wanted)
		if i+1 < len(spans) {
			p.gaps = append(p.gaps, fmt.Sprintf("%s (%s → %s)", millis(spans[i+1].From.Sub(s.To)), s.Node, spans[i+1].Node))
		}
	}
	if len(spans) != len(e.machines) {
		fail("the lock was taken %d times, want once by each of %d nodes", len(spans), len(e.machines))
	}
	for _, limit := range []struct {
		what      string
		got, want int
	}{
		{"held the lock", p.holders, 1}, {"were out of service", p.out, 1}, {"machines were off", p.down, 1},
	} {
		if limit.got != limit.want {
			fail("at most %d %s at once, want exactly %d", limit.got, limit.what, limit.want)
		}
	}
	if e.history.Relisted() {
		fail("the record has a hole: the watch was broken")
	}
	if e.fewest < e.budget {
		fail("only %d pods of the Deployment were ready at one moment, its budget demands %d", e.fewest, e.budget)
	}
	if len(e.idle) > 0 {
		fail("kured made %d API requests while nothing was wanted", len(e.idle))
	}
	return p
}

func outageOf(m machine, h cluster.History) (o outage, wrong []string) {
	o = outage{machine: m}
	if ids := h.BootIDs(m.name); len(ids) != 2 || ids[0] != m.before || ids[1] != m.after || m.before == m.after {
		wrong = append(wrong, fmt.Sprintf("reported the boot ids %q, want one change from %s to %s", ids, m.before, m.after))
	}
	if n := len(m.boots); n != 2 || m.boots[0].Ending != nodes.Rebooted {
		wrong = append(wrong, fmt.Sprintf("was switched on %s, want two boots with one reboot between them", plural(n, "time")))
	} else {
		o.down, o.up = m.boots[0].End, m.boots[1].Start
	}
	var spans []cluster.Span
	for _, s := range h.CordonSpans() {
		if s.Node == m.name {
			spans = append(spans, s)
		}
	}
	if len(spans) != 1 || spans[0].To.IsZero() {
		wrong = append(wrong, fmt.Sprintf("was cordoned %s, want once and not any more", plural(len(spans), "time")))
		return o, wrong
	}
	o.cordoned, o.uncordoned = spans[0].From, spans[0].To
	h.States(func(at time.Time, s cluster.State) bool {
		if o.ready.IsZero() && s.BootID(m.name) == m.after && s.IsReady(m.name) {
			o.ready = at
		}
		return true
	})
	if o.uncordoned.Before(o.ready) {
		wrong = append(wrong, "was uncordoned before it was Ready in its new boot")
	}
	return o, wrong
}

// mostDown is the largest number of machines that were down, or up and not Ready yet, at once.
func mostDown(all []outage) int {
	most := 0
	for _, a := range all {
		n := 0
		for _, b := range all {
			if !b.down.IsZero() && !a.down.IsZero() && !b.down.After(a.down) && b.ready.After(a.down) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// lines tells the proof for people.
func (p proof) lines(e evidence, style style) []string {
	ids := [][]string{{"NODE", "SYSTEM", "BOOT ID BEFORE", "BOOT ID AFTER"}}
	times := [][]string{{"NODE", "OUT OF SERVICE", "= DRAIN AND SHUTDOWN", "+ BOOT UNTIL READY", "+ UNTIL UNCORDONED"}}
	for _, o := range p.outages {
		ids = append(ids, []string{o.name, o.system, o.before, o.after})
		times = append(times, []string{o.name, seconds(o.uncordoned.Sub(o.cordoned)),
			seconds(o.down.Sub(o.cordoned)), seconds(o.ready.Sub(o.down)), millis(o.uncordoned.Sub(o.ready))})
	}
	var out []string
	for _, cells := range [][][]string{ids, times} {
		text := columns(cells, 0)
		text[0] = style.bold(text[0])
		out = append(append(out, text...), "")
	}
	each := func(n int) string {
		return fmt.Sprintf("%d, %.1f for each reboot", n, float64(n)/float64(max(len(p.outages), 1)))
	}
	facts := [][]string{
		{"most that held the lock at once", fmt.Sprint(p.holders)},
		{"most nodes out of service at once", fmt.Sprintf("%d cordoned or not Ready; machines down: %d", p.out, p.down)},
		{"all reboots together", seconds(p.lasted) + " from the sentinels to the last release"},
		{"lost between two nodes", strings.Join(p.gaps, ", ")},
		{"pods moved", plural(e.moved, "eviction")},
		{"ready pods of web", fmt.Sprintf("never fewer than %d; its budget demands %d", e.fewest, e.budget)},
		{"writes to the lock", each(p.lockWrites)},
		{"API requests of kured", each(len(e.requests))},
	}
	for kinds := range slices.Chunk(summary(e.requests), 3) {
		facts = append(facts, []string{"", "  " + strings.Join(kinds, ", ")})
	}
	facts = append(facts, []string{"API requests in " + seconds(e.idleFor) + " at rest", fmt.Sprint(len(e.idle))})
	return append(out, columns(facts, 0)...)
}

// summary counts requests by what they were, the most frequent first.
func summary(requests []testenv.Request) []string {
	count := make(map[string]int)
	for _, r := range requests {
		what := r.Verb + " " + r.Resource
		if r.Subresource != "" {
			what += "/" + r.Subresource
		}
		count[what]++
	}
	kinds := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %d", kind, count[kind])
	}
	return kinds
}
