package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
)

// World is a cluster in memory. Everything in it is guarded by mu; what happens
// in it happens at one instant each.
type World struct {
	Setup

	actor // of the world itself: people and outages
	start time.Time

	mu       sync.Mutex
	calm     bool // no more faults
	over     bool // nothing starts any more
	object   object
	nodes    map[string]*nodeObject
	uids     int
	fleets   []fleet  // the last one is true now
	policies []ruling // the last one is in force
	outage   bool
	machines []*machine
	all      sync.WaitGroup // goroutines of processes

	events []event
	broken []string // violated laws, in words
	count  Counts
}

// Counts is what happened in a history, to see that it was worth its while.
type Counts struct {
	Requests, Writes, Conflicts, Crashes, PowerCuts, Reboots, Boots, Takes int
	Burials, Refused, Lost, LostReplies, Late, RacedReleases, RacedNodes   int
}

func (c *Counts) add(d Counts) {
	c.Requests += d.Requests
	c.Writes += d.Writes
	c.Conflicts += d.Conflicts
	c.Crashes += d.Crashes
	c.PowerCuts += d.PowerCuts
	c.Reboots += d.Reboots
	c.Boots += d.Boots
	c.Takes += d.Takes
	c.Burials += d.Burials
	c.Refused += d.Refused
	c.Lost += d.Lost
	c.LostReplies += d.LostReplies
	c.Late += d.Late
	c.RacedReleases += d.RacedReleases
	c.RacedNodes += d.RacedNodes
}

// nodeObject is a Node as the API server has it.
type nodeObject struct {
	uid           string
	rv            int
	unschedulable bool
	mark          string
	foreign       bool // the cordon is a person's: it was set while there was no mark
	ready         bool
	controlPlane  bool
	released      *node.Release // the note of an admin
	bootID        string
}

// event is one line of the history. It is formatted only when it is shown.
type event struct {
	at     time.Duration
	who    string
	format string
	args   []any
}

func (e event) String() string {
	return fmt.Sprintf("%-16s %-8s %s", clock(e.at), e.who, fmt.Sprintf(e.format, e.args...))
}

// clock writes a time since the beginning as 1:02:03.004005.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d:%02d.%06d", d/time.Hour, d/time.Minute%60, d/time.Second%60, d/time.Microsecond%1e6)
}

// note adds a line to the history. The arguments must not change afterwards.
func (w *World) note(who, format string, args ...any) {
	w.events = append(w.events, event{time.Since(w.start), who, format, args})
}

// breach notes that a law was broken.
func (w *World) breach(who, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.note(who, "!!! %s", what)
	if len(w.broken) < 5 {
		w.broken = append(w.broken, fmt.Sprintf("%s %s: %s", clock(time.Since(w.start)), who, what))
	}
}

// History is what happened, a line each.
func (w *World) History() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.events {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Broken lists the laws that were broken, in words.
func (w *World) Broken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.broken)
}

// newWorld is a cluster whose machines run and want nothing.
func newWorld(s Setup) *World {
	w := &World{Setup: s, actor: actor{seed: s.Seed}, start: time.Now(), nodes: map[string]*nodeObject{}}
	if s.Short {
		w.turns = &turns{n: map[[2]uint64]uint64{}}
	}
	w.object.init(w)
	w.setPolicy(s.Policy)
	for i, c := range s.Configs {
		m := newMachine(w, i, c)
		w.machines = append(w.machines, m)
		w.register(m)
	}
	return w
}

// as is the actor of a class.
func (w *World) as(class int64) actor { return actor{w.Seed, class, w.turns} }

// register is what a kubelet does when it starts: it creates the Node if there is none.
func (w *World) register(m *machine) {
	n := w.nodes[m.name]
	if n == nil {
		w.uids++
		n = &nodeObject{uid: fmt.Sprintf("uid-%d", w.uids), controlPlane: m.cfg.ControlPlane}
		w.nodes[m.name] = n
		w.note(m.name, "Node registered as %s", n.uid)
	}
	n.ready, n.bootID = true, m.bootID()
	n.rv++
	w.nodesChanged()
}

// at does something to the world after d, at an instant of the given actor.
func (w *World) at(a actor, d time.Duration, do func()) {
	time.AfterFunc(a.align(d), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	})
}

// live reports whether the entry of a holder counts: the Node that wrote it exists.
func (w *World) live(name string, h lock.Holder) bool {
	n := w.nodes[name]
	return n != nil && (h.UID == "" || n.uid == h.UID)
}

// Counts returns what happened.
func (w *World) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}
