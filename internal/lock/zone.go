package lock

import (
	"fmt"
	"time"
)

// zone is the zone that has its turn: that of the holders. If they disagree,
// because the configuration changed meanwhile, it is that of the first by name.
func (s State) zone() string {
	names := s.HolderNames()
	if len(names) == 0 {
		return ""
	}
	return s.Holders[names[0]].Zone
}

// turn is when the turn of the holders' zone began, zero without holders.
func (s State) turn() time.Time {
	var began time.Time
	for _, h := range s.Holders {
		at := h.Turn
		if at.IsZero() {
			at = h.Since
		}
		if began.IsZero() || at.Before(began) {
			began = at
		}
	}
	return began
}

// zoneRule is what zones say to an asker.
type zoneRule struct {
	detail      string // why it waits, "" if it need not
	startsOther bool   // nobody holds and the first in the queue is of another zone: it starts its own
}

// zoneBusy keeps holders in one zone at a time. Within the zone whose turn it
// is, those go on who asked before the turn began or before anybody of another
// zone who waits; later ones queue behind, so that every zone has its turn.
func (s State) zoneBusy(a Asker, order, ahead []string) zoneRule {
	if len(s.Holders) == 0 {
		return zoneRule{startsOther: len(ahead) > 0 && s.Waiters[ahead[0]].Zone != a.Zone}
	}
	for _, name := range s.HolderNames() {
		if zone := s.Holders[name].Zone; zone != a.Zone {
			return zoneRule{detail: fmt.Sprintf("it is the turn of zone %q, this node is in zone %q; %s", zone, a.Zone, s.held(s.HolderNames()))}
		}
	}
	if !a.Since.After(s.turn()) {
		return zoneRule{}
	}
	me := Waiter{Since: a.Since, Priority: a.Priority}
	for _, name := range order {
		w := s.Waiters[name]
		if w.Zone != a.Zone && name != a.Node && !s.asleep(name, a) && before(name, w, a.Node, me) < 0 {
			return zoneRule{detail: fmt.Sprintf("%s of zone %q waits longer than this node: its zone is next", name, w.Zone)}
		}
	}
	return zoneRule{}
}
