// Package explain says in sentences what kured does on a node, what is in its
// way, and what a person can do about it. It is pure: the status and what the
// gates say go in, the sentences come out.
//
// What a reason means and which command helps stands in one place for all that
// is shown to people: status.Reason.Help. This package puts the facts of the
// moment to it: names, numbers, and times as the reader's clock shows them.
package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Kind says what a Point is about. The set is closed.
type Kind string

// The kinds, in the order in which Explain gives them.
const (
	Now    Kind = "now"    // what kured does, and since when
	Blocks Kind = "blocks" // what is in the way now
	Also   Kind = "also"   // what would be in the way next
	Then   Kind = "then"   // what happens by itself
)

// Point is one sentence.
type Point struct {
	Kind   Kind          `json:"kind"`
	Gate   status.Gate   `json:"gate,omitempty"`   // that says so, if it is one
	Reason status.Reason `json:"reason,omitempty"` // its word in the vocabulary, if there is one
	Text   string        `json:"text"`             // one line
	Do     string        `json:"do,omitempty"`     // what a person can do about it, with the command
	Until  *time.Time    `json:"until,omitempty"`  // when it changes by itself, if known
}

// maxHeld bounds the pods that are named one by one.
const maxHeld = 10

// Explain says what is going on: what kured does now and since when, what is in
// the way in the order in which it has to go, and what happens by itself. gates
// is what every gate says now; nil: only what the status knows of them. Times
// of day are told in zone.
func Explain(s status.Status, gates []status.GateState, now time.Time, zone *time.Location) []Point {
	if gates == nil {
		gates = s.Gates
	}
	e := explainer{s: s, now: now, zone: zone}
	e.present()
	e.obstacles(gates)
	e.rest(gates)
	e.future()
	return e.points
}

type explainer struct {
	s      status.Status
	now    time.Time
	zone   *time.Location
	points []Point
}

func (e *explainer) add(p Point) {
	p.Text = plain(p.Text)
	e.points = append(e.points, p)
}

// present says what kured does, and what for.
func (e *explainer) present() {
	name := e.s.Node
	if name == "" {
		name = "this node"
	}
	text := fmt.Sprintf("%s is %s", name, e.s.Phase)
	if !e.s.Since.IsZero() {
		text += ", " + e.since(e.s.Since)
	}
	if means := e.s.Phase.Help().Means; means != "" {
		text += ". " + means
	}
	e.add(Point{Kind: Now, Text: text, Until: utc(e.s.Next)})
	if d := e.s.Demand; d != nil {
		text := "a reboot is wanted, " + e.since(d.Since) + ", by " + d.Path
		if len(d.Reasons) > 0 {
			text += ", for " + status.Few(d.Reasons, 5)
		}
		e.add(Point{Kind: Now, Text: text})
	}
	if d := e.s.Drain; d != nil {
		e.add(Point{Kind: Now, Text: fmt.Sprintf("%d of %d pods are gone", d.Gone, d.Pods)})
	}
}

// obstacles says what is in the way now.
func (e *explainer) obstacles(gates []status.GateState) {
	s := e.s
	if d := s.Drain; d != nil {
		for i, held := range d.Held {
			if i == maxHeld {
				e.add(Point{Kind: Blocks, Text: fmt.Sprintf("and %d more pods", len(d.Held)-i), Do: podCommand("")})
				break
			}
			e.add(Point{Kind: Blocks, Text: held, Do: podCommand(held)})
		}
	}
	if s.Reason == "" {
		if s.Phase == status.Held {
			e.add(Point{Kind: Blocks, Text: e.told(s.Detail), Do: e.fill("", s.Phase.Help().Do)})
		}
		return
	}
	state := status.GateState{Reason: s.Reason, Detail: s.Detail}
	switch {
	case s.Phase == status.BackingOff:
		state.Detail = beforeNextTry(s.Detail)
	case ends(s):
		state.Next = s.Next
	}
	// The gate was asked a moment ago, the status can be older.
	asked := s.Phase != status.BackingOff && s.Queue == nil // else it was another who said so
	if i := slices.IndexFunc(gates, func(g status.GateState) bool { return !g.Open && g.Reason == s.Reason }); i >= 0 && asked {
		state = gates[i]
	}
	p := e.point(Blocks, state)
	if s.Phase == status.BackingOff {
		p.Text = "the last try came to nothing: " + p.Text
	}
	e.add(p)
}

// ends reports whether what is in the way has gone when Next has come. Of other
// reasons Next is only when kured looks again.
func ends(s status.Status) bool {
	switch s.Reason {
	case status.OutsideWindow, status.WindowEnding, status.UptimeShort, status.RebootBudget, status.RivalHolds, status.RebootDelayed, status.ReleaseDelayed:
		return true
	case status.Paused, status.Frozen:
		return s.Queue == nil // else it is the policy, which anybody may change meanwhile
	}
	return false
}

// rest says which other gates are closed. Only before the node goes are they
// looked at by themselves; what is under way is not ended by all of them.
func (e *explainer) rest(gates []status.GateState) {
	for _, g := range gates {
		idle := e.s.Phase == status.Idle && g.Reason == status.SentinelGone // that is what idle means
		told := slices.ContainsFunc(e.points, func(p Point) bool { return p.Kind == Blocks && p.Gate == g.Gate && p.Reason == g.Reason })
		if g.Open || told || idle {
			continue
		}
		e.add(e.point(Also, g))
	}
}

// point is the sentence about a reason, or about what a gate says.
func (e *explainer) point(kind Kind, g status.GateState) Point {
	help := g.Reason.Help()
	text := e.facts(g)
	if text == "" {
		text = help.Means
	}
	if text == "" {
		text = string(g.Reason) // of a newer daemon
	}
	return Point{Kind: kind, Gate: g.Gate, Reason: g.Reason, Text: text, Do: e.fill(g.Reason, e.remedy(g, help.Do)), Until: utc(g.Next)}
}

// remedy is what helps: of the three commands that end a pause the one that ends this.
func (e *explainer) remedy(g status.GateState, help string) string {
	switch {
	case g.Reason != status.Paused:
	case g.Gate == status.GatePause:
		return `"kured resume" ends it.`
	case g.Gate == status.GateNodePause:
		return `"kubectl annotate node NODE kured.dev/pause-" ends it.`
	case e.s.Queue != nil: // the policy's
		return `"kured resume --all" ends it.`
	}
	return help
}

// future says what happens by itself.
func (e *explainer) future() {
	s := e.s
	p := Point{Kind: Then, Text: onward(s)}
	opens, known := e.opens()
	next := s.Next != nil && s.Next.After(e.now)
	switch {
	case s.Phase == status.Blocked && known:
		p.Text, p.Until = "it goes on by itself "+e.at(*opens)+", and takes its turn in the cluster", opens
	case s.Phase == status.Held && s.Reason == status.RebootBudget && next:
		p.Text, p.Until = "it goes on by itself "+e.at(*s.Next), utc(s.Next)
	case s.Phase == status.BackingOff && next:
		p.Text, p.Until = "it tries again by itself "+e.at(*s.Next), utc(s.Next)
	case next && !e.tells(*s.Next):
		p.Text, p.Until = "by itself it looks again "+e.at(*s.Next)+"; "+p.Text, utc(s.Next)
	}
	if p.Text != "" {
		e.add(p)
	}
}

// onward is what comes next when nothing is in the way (any more).
func onward(s status.Status) string {
	switch {
	case s.Reason == status.ReleaseDelayed:
		return "then the lock is released, and the next node goes"
	case s.Phase == status.Returning && s.Held == nil: // given up, or released by a person
		return "when the node is well it is uncordoned; it holds no lock any more"
	case s.Phase == status.RollingBack && s.Demand == nil:
		return "the node is put back into service"
	}
	switch s.Phase {
	case status.Starting:
		return "it goes on by itself where it was"
	case status.Idle:
		return "when a reboot is wanted it begins by itself"
	case status.Blocked:
		return "it goes on by itself as soon as nothing is in the way, and takes its turn in the cluster"
	case status.Queued:
		return "it goes on by itself when its turn comes"
	case status.Locked:
		return "next the node is cordoned, and its pods are moved away"
	case status.Draining:
		return "when all pods are gone everything is looked at once more, and the machine reboots"
	case status.Rebooting:
		return "after the boot kured-uncordon.service proves that the node is well, uncordons it and releases the lock"
	case status.Returning:
		return "when the node is well it is uncordoned and the lock is released; until then the lock is kept"
	case status.RollingBack:
		return "the node is put back into service, and the next try comes by itself after a while"
	case status.BackingOff:
		return "it tries again by itself"
	case status.Held:
		return "nothing happens by itself: a person is needed"
	}
	return ""
}

// opens is when all that is in the way has gone by itself; known is false if
// nobody knows.
func (e *explainer) opens() (at *time.Time, known bool) {
	for _, p := range e.points {
		switch {
		case p.Kind != Blocks && p.Kind != Also:
		case p.Until == nil || !p.Until.After(e.now):
			return nil, false
		case at == nil || p.Until.After(*at):
			at = p.Until
		}
	}
	return at, at != nil
}

// tells reports whether a point names that time already.
func (e *explainer) tells(at time.Time) bool {
	return slices.ContainsFunc(e.points, func(p Point) bool {
		return p.Kind != Now && p.Until != nil && p.Until.Equal(at)
	})
}

// beforeNextTry is the detail of a back-off without the time of the next try,
// which is told at the end.
func beforeNextTry(detail string) string {
	if i := strings.LastIndex(detail, "next try at "); i >= 0 {
		detail = strings.TrimRight(detail[:i], "; ")
	}
	return detail
}

func utc(t *time.Time) *time.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	u := t.UTC()
	return &u
}
