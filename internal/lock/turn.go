package lock

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// Asker is a node that wants to hold, with all that its turn depends on.
type Asker struct {
	Node     string
	Max      intstr.IntOrString // holders that its configuration allows
	Room     int                // size of the waiting room, 1 or more
	Priority int
	Since    time.Time // since when it asks
	Zone     string    // "": none; holders of different zones exclude each other

	Policy Policy // of the cluster; the zero Policy limits nothing

	// Pool is what is known of the other Nodes; MinReady of it stay Ready (a
	// number, a percent or Quorum), and with CountUnavailable those that are
	// down use up the limit.
	Pool             Pool
	MinReady         intstr.IntOrString
	CountUnavailable bool

	// Asleep are waiters that were seen to leave a free slot to another one,
	// with the entries that they had then: nobody waits for them again.
	Asleep map[string]Waiter
	// FreeFor is how long the asker itself has seen this very version of the
	// object, by its own monotonic clock.
	FreeFor time.Duration
	// Stagger is how long a waiter may leave a free slot untaken before the
	// one behind it takes it.
	Stagger time.Duration
}

// Move is what an asker should do next.
type Move int

// The moves.
const (
	Wait    Move = iota // in the room, not our turn: watch
	Take                // a slot is ours to take
	Join                // go into the waiting room
	Outside             // the room is full: look again later
	Hold                // we hold already
	Stuck               // our own holder entry cannot be read
)

func (m Move) String() string {
	return [...]string{"wait", "take", "join", "outside", "hold", "stuck"}[m]
}

// Turn is the answer to an asker.
type Turn struct {
	Move  Move
	After time.Duration // with Wait: ask again then although nothing changed; 0: no need

	Reason status.Reason // why not Take
	Detail string        // the same for people
	Queue  status.Queue
	First  bool // no waiter is ahead that is awake: it is on us to look for evidence against holders
	// Passed are the waiters ahead of us that sleep, or that a Take overtakes.
	Passed []string
	Room   bool // the waiting room has a place
	// Pool says that only the Nodes of the pool are in the way: their change
	// is not seen in the lock object.
	Pool bool

	Max  int       // with Take: holders that our configuration allows, as a number
	Turn time.Time // with Take: the begin of our zone's turn, if it runs already
}

// Ask decides an asker's next move. Limits of every live holder, the policy's
// and the asker's own all apply: the tightest wins, so that a changed number is
// safe while old ones are still in use.
func (s State) Ask(a Asker) Turn {
	if what := s.HolderDamage(a.Node); what != "" {
		return Turn{Move: Stuck, Reason: status.EntryForeign, Detail: "own lock entry cannot be read: " + what}
	}
	own := a.Pool.amount(a.Max)
	limit := s.limit(a, own)
	if _, holding := s.Holders[a.Node]; holding {
		return Turn{Move: Hold, Queue: status.Queue{Holders: s.HolderNames(), Limit: shown(limit)}}
	}
	live := s.HolderNames()
	used := len(live) + len(s.Blocking())
	var down []Peer
	if a.CountUnavailable {
		down = a.Pool.down(func(node string) bool { return node == a.Node || s.holds(node) })
	}
	order := s.Order()
	place := slices.Index(order, a.Node) // 0-based, -1 outside
	ahead, passed := s.ahead(a, order, place)
	rank := len(ahead)
	free := limit - used - len(down)
	t := Turn{
		Queue: status.Queue{Holders: live, Limit: shown(limit), Place: place + 1, Waiting: len(order), Zone: s.zone(), Unavailable: names(down)},
		First: rank == 0, Passed: passed, Max: own, Turn: s.turn(), Room: s.roomUsed() < a.room(),
	}
	t.Queue.Ahead = s.inFront(live, ahead)
	zone := s.zoneBusy(a, order, ahead)
	behind := max(0, rank-free+1) // how many have to leave the slot before it is ours
	if zone.startsOther {
		behind = rank
	}
	overtake := time.Duration(behind) * a.Stagger
	missing := a.Pool.leaves(a.Node, a.MinReady, s.holds)
	stray, strayDetail := a.Pool.missing(a.Node)
	if free > 0 && a.FreeFor >= overtake && zone.detail == "" && missing == "" && stray == "" {
		t.Move = Take
		if behind > 0 {
			t.Passed = append(t.Passed, ahead...)
		}
		return t
	}
	switch {
	case place >= 0:
		t.Move = Wait
	case t.Room:
		t.Move = Join
	default:
		t.Move = Outside
	}
	t.Pool = limit > used && zone.detail == "" && (stray != "" || free <= 0 || missing != "")
	switch {
	case t.Move == Outside:
		t.Reason, t.Detail = status.RoomFull, fmt.Sprintf("the waiting room is full (%d waiting); %s", len(order), s.held(live))
	case limit <= used && len(s.Blocking()) > 0:
		t.Reason, t.Detail = status.LockUnreadable, s.held(live)
	case limit <= used:
		t.Reason, t.Detail = status.LockFull, fmt.Sprintf("place %d of %d; %s", rank+1, max(len(order), rank+1), s.held(live))
	case zone.detail != "":
		t.Reason, t.Detail = status.ZoneBusy, zone.detail
	case stray != "":
		t.Reason, t.Detail = stray, strayDetail
	case free <= 0:
		t.Reason = status.PeersUnavailable
		t.Detail = fmt.Sprintf("nodes that are down already use up the limit of %d: %s; %s", limit, whyAll(down), s.held(live))
	case missing != "":
		t.Reason, t.Detail = status.TooFewReady, missing
	default:
		t.Reason, t.Detail = status.BehindOthers, fmt.Sprintf("place %d of %d behind %s", rank+1, max(len(order), rank+1), list(ahead))
		if t.Move == Wait {
			t.After = overtake - a.FreeFor
		}
	}
	return t
}

// limit is the tightest of all limits in force, own being the asker's.
func (s State) limit(a Asker, own int) int {
	limit := own
	if a.Policy.Max != nil {
		limit = min(limit, a.Pool.amount(*a.Policy.Max))
	}
	for _, h := range s.Holders {
		limit = min(limit, h.Max)
	}
	if len(s.Blocking()) > 0 {
		return min(limit, 1) // nobody knows what limit it was taken under
	}
	return limit
}

// shown is a limit for people: 0 while it is not known.
func shown(limit int) int {
	if limit == math.MaxInt {
		return 0
	}
	return limit
}

func (a Asker) room() int {
	if a.Policy.Room > 0 {
		return min(a.Room, a.Policy.Room)
	}
	return a.Room
}

// holds reports whether node has a holder entry, readable or not.
func (s State) holds(node string) bool {
	_, ok := s.Holders[node]
	return ok || s.HolderDamage(node) != ""
}

// ahead are the waiters that are served before the asker: those ahead of it in
// the order, all if it is not in the room. passed are those of them that sleep.
// While a zone has its turn, only waiters of that zone are served.
func (s State) ahead(a Asker, order []string, place int) (ahead, passed []string) {
	if place >= 0 {
		order = order[:place]
	}
	zone := s.zone()
	for _, name := range order {
		w := s.Waiters[name]
		switch {
		case len(s.Holders) > 0 && w.Zone != zone:
		case s.asleep(name, a):
			passed = append(passed, name)
		default:
			ahead = append(ahead, name)
		}
	}
	return ahead, passed
}

// maxInFront bounds those that a status names: a lock may have thousands of holders.
const maxInFront = 16

// inFront tells what those do who hold, and who wait ahead of the asker.
func (s State) inFront(live, ahead []string) []status.Holder {
	var all []status.Holder
	for _, name := range live[:min(len(live), maxInFront)] {
		h := s.Holders[name]
		all = append(all, status.Holder{Node: name, Phase: h.Phase, Since: h.Since})
	}
	for _, name := range ahead[:min(len(ahead), maxInFront-len(all))] {
		all = append(all, status.Holder{Node: name, Phase: status.Queued, Since: s.Waiters[name].Since})
	}
	return all
}

func (s State) asleep(name string, a Asker) bool {
	then, ok := a.Asleep[name]
	return ok && then == s.Waiters[name]
}

// Order lists the waiting room as it is served: priority first, then who came
// first, then by name so that it is the same on every node.
func (s State) Order() []string {
	names := make([]string, 0, len(s.Waiters))
	for name := range s.Waiters {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return before(a, s.Waiters[a], b, s.Waiters[b]) })
	return names
}

// before compares two waiters as Order sorts them.
func before(a string, wa Waiter, b string, wb Waiter) int {
	return cmp.Or(cmp.Compare(wb.Priority, wa.Priority), wa.Since.Compare(wb.Since), strings.Compare(a, b))
}

// roomUsed counts the places of the waiting room that are taken; a damaged
// waiter's entry takes one.
func (s State) roomUsed() int {
	return len(s.Waiters) + len(s.Damaged) - len(s.Blocking())
}

// overtaken lists the waiters that let somebody behind them take a slot
// between two versions of the object that free slots are known of: they sleep,
// whatever the reason.
func overtaken(before, after State, free int) []string {
	order := before.Order()
	var asleep []string
	for name, h := range after.Holders {
		if _, old := before.Holders[name]; old {
			continue
		}
		rank := slices.Index(order, name)
		if rank < 0 {
			rank = len(order)
		}
		for _, other := range order[:max(0, min(rank, rank-free+1))] {
			w, still := after.Waiters[other]
			if still && w == before.Waiters[other] && (w.Zone == h.Zone || len(before.Holders) == 0) {
				asleep = append(asleep, other)
			}
		}
	}
	slices.Sort(asleep)
	return slices.Compact(asleep)
}

// held says who holds: "node-a holds (draining since 12:01:10)".
func (s State) held(live []string) string {
	var parts []string
	for _, name := range live {
		h := s.Holders[name]
		parts = append(parts, fmt.Sprintf("%s holds (%s, since %s)", name, h.Phase, h.Since.UTC().Format(time.RFC3339)))
	}
	for _, d := range s.Blocking() {
		parts = append(parts, fmt.Sprintf("entry %s cannot be read and counts as a holder (%s)", d.Key, d.What))
	}
	if len(parts) == 0 {
		return "nobody holds"
	}
	return list(parts)
}

func names(peers []Peer) []string {
	var all []string
	for _, p := range peers {
		all = append(all, p.Name)
	}
	return all
}

// list joins up to three items and counts the rest.
func list(items []string) string {
	if len(items) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:3], ", "), len(items)-3)
	}
	return strings.Join(items, ", ")
}
