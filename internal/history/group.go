package history

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

// maxSetbacks bounds what is kept of a cycle that is tried for days.
const maxSetbacks = 10

// grouper puts entries together to cycles.
type grouper struct {
	keep     int               // cycles at most
	cycles   []*Cycle          // by their begin
	machines map[string]string // the boot of the last entry of each
}

// add takes the next entry.
func (g *grouper) add(e entry) {
	if _, known := g.machines[e.machine]; known || len(g.machines) < g.keep {
		g.machines[e.machine] = e.boot
	}
	required := e.id == telemetry.MessageID(string(status.MessageRebootRequired))
	notRequired := e.id == telemetry.MessageID(string(status.MessageNotRequired))
	if e.cycle == "" && (required || notRequired) {
		e.cycle = e.boot // the first and the last entry may be written while no cycle runs
	}
	if e.cycle == "" {
		return
	}
	c := g.find(e)
	switch {
	case c == nil && notRequired:
		return // of what began before this journal
	case c == nil, c.over() && required: // within a boot a reboot can be wanted, not wanted, and wanted again
		c = g.begin(e)
	case c.over() && c.Result != Abandoned:
		return // what others say after its end
	}
	c.take(e, required)
}

// find returns the last cycle of that name.
func (g *grouper) find(e entry) *Cycle {
	for _, c := range slices.Backward(g.cycles) {
		if c.ID == e.cycle && c.machine == e.machine {
			return c
		}
	}
	return nil
}

func (g *grouper) begin(e entry) *Cycle {
	for _, c := range slices.Backward(g.cycles) {
		if c.machine == e.machine {
			c.newer = true
			break
		}
	}
	if len(g.cycles) == g.keep {
		g.cycles = slices.Delete(g.cycles, 0, 1)
	}
	c := &Cycle{ID: e.cycle, machine: e.machine, Began: e.at, spent: map[status.Phase]time.Duration{}}
	g.cycles = append(g.cycles, c)
	return c
}

func (c *Cycle) over() bool { return c.Result != "" }

// take adds an entry to its cycle.
func (c *Cycle) take(e entry, required bool) {
	c.boot, c.Last = e.boot, e.at
	if e.node != "" {
		c.Node = e.node
	}
	if len(e.packages) > 0 {
		c.Packages = e.packages
	}
	if c.Wanted == nil && !e.wanted.IsZero() {
		c.Wanted = &e.wanted
	}
	again := e.phase == c.Phase
	switch {
	case e.phase != "":
		c.enter(e.phase, e.at)
	case required && c.Phase == "":
		c.enter(status.Queued, e.at) // nothing is in the way that anybody knew of
	default:
		c.enter(c.Phase, e.at)
	}
	if e.phase == status.RollingBack || e.phase == status.Held || e.reason == status.GaveUp {
		c.setBack(e, again)
	}
	switch {
	case c.over():
	case e.id == telemetry.MessageID(string(status.MessageVerified)),
		e.phase == status.Returning && e.reason == status.LockLost: // well, though an admin has released its lock
		c.Result = Verified
	case e.reason == status.GaveUp:
		c.Result = GaveUp
	case e.reason == status.Abandoned, e.id == telemetry.MessageID(string(status.MessageNotRequired)):
		c.Result = Abandoned
	}
}

// enter counts the time since the last entry, and is in that phase now.
func (c *Cycle) enter(phase status.Phase, at time.Time) {
	before := c.Phase
	if before == status.RollingBack && phase != before {
		before = status.BackingOff // it begins with the last word of the roll-back, and has none of its own
	}
	if before != "" && at.After(c.seen) { // the clock may have been set
		c.spent[before] += at.Sub(c.seen)
	}
	if phase == status.Locked && phase != c.Phase {
		c.Tries++
	}
	c.Phase, c.seen = phase, at
}

// setBack keeps the first word of a roll-back, which tells the cause; again is
// one that follows.
func (c *Cycle) setBack(e entry, again bool) {
	if n := len(c.Setbacks); again && n > 0 && c.Setbacks[n-1].Reason == e.reason {
		return
	}
	if len(c.Setbacks) == maxSetbacks {
		c.Setbacks = slices.Delete(c.Setbacks, 0, 1)
	}
	detail := strings.TrimPrefix(e.message, string(e.phase)+": ")
	detail = strings.TrimSuffix(detail, fmt.Sprintf(" (reason=%s)", e.reason))
	c.Setbacks = append(c.Setbacks, Setback{e.at, e.reason, detail})
}

// finish is the last cycles that have an entry at or after since.
func (g *grouper) finish(since time.Time, last int) []Cycle {
	cycles := []Cycle{}
	for _, c := range g.cycles {
		if c.Last.Before(since) {
			continue
		}
		if !c.over() {
			c.Result = Running
			boot, known := g.machines[c.machine]
			if c.newer || known && boot != c.boot && !c.Phase.Underway() {
				c.Result = Unfinished
			}
		}
		for _, p := range status.Phases() {
			if d := c.spent[p]; d > 0 || p == c.Phase {
				c.Spans = append(c.Spans, Span{p, d})
			}
		}
		cycles = append(cycles, *c)
	}
	return cycles[max(0, len(cycles)-last):]
}
