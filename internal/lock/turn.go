package lock

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Asker is a node that wants to hold, with all that its turn depends on.
type Asker struct {
	Node string
	Max  int // holders that its configuration allows, 1 or more
	Room int // size of the waiting room, 1 or more
	// Gone are holders of whom there is evidence that they exist no more, and
	// the UID of the Node that is gone: an entry of that name with that UID
	// does not count. A Node of the same name that came later does.
	Gone map[string]string
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
	First  bool     // no waiter is ahead: it is on us to look for evidence against holders
	Gone   []string // with Take: holders that did not count and whose entries go
}

// Ask decides an asker's next move. Limits of every live holder and the
// asker's own all apply: the tightest wins, so that a changed number is safe
// while old ones are still in use.
func (s State) Ask(a Asker) Turn {
	if s.HolderDamage(a.Node) != "" {
		return Turn{Move: Stuck, Reason: status.EntryForeign, Detail: "own lock entry cannot be read: " + s.HolderDamage(a.Node)}
	}
	limit, used := a.Max, len(s.Blocking())
	var live, gone []string
	for _, name := range s.HolderNames() {
		if name == a.Node {
			return Turn{Move: Hold, Queue: status.Queue{Holders: s.HolderNames(), Limit: limit}}
		}
		if uid, known := a.Gone[name]; known && uid == s.Holders[name].UID {
			gone = append(gone, name)
			continue
		}
		live = append(live, name)
		used++
		limit = min(limit, s.Holders[name].Max)
	}
	order := s.Order()
	place := slices.Index(order, a.Node) // 0-based rank, -1 outside
	rank := place
	if rank < 0 {
		rank = len(order)
	}
	free := limit - used
	t := Turn{
		Queue: status.Queue{Holders: live, Limit: limit, Place: place + 1, Waiting: len(order)},
		First: rank == 0,
		Gone:  gone,
	}
	overtake := time.Duration(max(0, rank-free+1)) * a.Stagger
	switch {
	case free > 0 && (rank < free || a.FreeFor >= overtake):
		t.Move = Take
		return t
	case place >= 0:
		t.Move = Wait
	case s.roomUsed() < a.Room:
		t.Move = Join
	default:
		t.Move = Outside
	}
	if free > 0 && t.Move == Wait {
		t.After = overtake - a.FreeFor
	}
	t.Reason, t.Detail = s.explain(t, live, order, rank, free)
	return t
}

// roomUsed counts the places of the waiting room that are taken; a damaged
// waiter's entry takes one.
func (s State) roomUsed() int {
	return len(s.Waiters) + len(s.Damaged) - len(s.Blocking())
}

// explain says in one line what an asker waits for.
func (s State) explain(t Turn, live, order []string, rank, free int) (status.Reason, string) {
	if t.Move == Outside {
		return status.RoomFull, fmt.Sprintf("the waiting room is full (%d waiting); %s", len(order), s.held(live))
	}
	if free <= 0 {
		if len(s.Blocking()) > 0 {
			return status.LockUnreadable, s.held(live)
		}
		return status.LockFull, fmt.Sprintf("place %d of %d; %s", rank+1, max(len(order), rank+1), s.held(live))
	}
	return status.BehindOthers, fmt.Sprintf("place %d of %d behind %s", rank+1, max(len(order), rank+1), list(order[:rank]))
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

// list joins up to three items and counts the rest.
func list(items []string) string {
	if len(items) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:3], ", "), len(items)-3)
	}
	return strings.Join(items, ", ")
}
