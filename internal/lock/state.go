// Package lock decides whose turn it is: a ConfigMap that every node may read
// and in which each node writes only its own entries.
//
//	holder.node-a: {"v":1,"boot":"…","phase":"draining","since":"…","max":1,"reason":"linux-image-6.1.0-40","uid":"…"}
//	waiter.node-b: {"v":1,"since":"…","priority":0,"uid":"…"}
//
// Mutual exclusion rests on compare-and-swap alone: every write carries the
// resourceVersion that was read. Clocks, the order of the waiting room and
// watches only decide who tries first, never who may. A lock is never freed by
// time.
//
// state.go, turn.go, pool.go and policy.go are pure: plain values in, plain
// values out. store.go is the ConfigMap, nodes.go the list of Nodes; acquire.go
// and lock.go put them together.
package lock

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/kured-host/kured/internal/status"
)

// Version is the version of the entries that this kured writes and reads.
const Version = 1

// Keys of the ConfigMap's data.
const (
	holderPrefix = "holder."
	waiterPrefix = "waiter."
)

// maxReason bounds the reason in an entry, in bytes: the object must stay
// small whatever a sentinel says.
const maxReason = 80

// maxWhat bounds, in characters, what is said of a damaged entry: it can quote it.
const maxWhat = 200

// maxZone is how long the value of a label can be, in bytes.
const maxZone = 63

// maxFences keeps the number of fences short; that it changes is enough.
const maxFences = 999

// Holder is the entry of a node whose turn it is.
type Holder struct {
	Version int          `json:"v"`
	Boot    string       `json:"boot"`             // boot id when the lock was taken, 32 hex digits
	Phase   status.Phase `json:"phase"`            // locked, draining or rebooting
	Since   time.Time    `json:"since"`            // when the lock was taken, by the holder's clock
	Max     int          `json:"max"`              // holders that this node allowed when it took the lock
	Zone    string       `json:"zone,omitempty"`   // holders of different zones exclude each other
	Turn    time.Time    `json:"turn,omitzero"`    // with Zone: when the zone's turn began, the since of its first holder
	Reason  string       `json:"reason,omitempty"` // why it reboots, for people
	UID     string       `json:"uid"`              // of the Node object: evidence that the holder still exists
	Fences  int          `json:"fences,omitempty"` // how often the last phase was confirmed: makes that a write which changes something
}

// Waiter is the entry of a node in the waiting room.
type Waiter struct {
	Version  int       `json:"v"`
	Since    time.Time `json:"since"` // by the waiter's clock: order only, never safety
	Priority int       `json:"priority"`
	Zone     string    `json:"zone,omitempty"`
	UID      string    `json:"uid"`
}

// State is the parsed lock object. Nothing in it is dropped: what cannot be
// read is in Damaged, and a damaged holder counts as a holder.
type State struct {
	Holders map[string]Holder // by node name
	Waiters map[string]Waiter // by node name
	Damaged []Damage          // by key, sorted
}

// Damage is a key of the lock object that this kured does not understand.
type Damage struct {
	Key  string // as in the ConfigMap's data
	What string // what is wrong with it
}

// Edit is what one write changes. A node sets and removes its own keys. The
// keys of nodes that provably exist no more it may remove in a write of its
// own, a burial, which is marked as such so that the API server can look at
// the evidence itself.
type Edit struct {
	Set    map[string]string
	Remove []string
	Burial bool
}

// Parse reads the data of the lock object. It never fails: what it cannot
// read it reports as Damage.
func Parse(data map[string]string) State {
	s := State{Holders: map[string]Holder{}, Waiters: map[string]Waiter{}}
	for key, value := range data {
		var err error
		if node, ok := strings.CutPrefix(key, holderPrefix); ok && node != "" {
			var h Holder
			if h, err = parseHolder(value); err == nil {
				s.Holders[node] = h
			}
		} else if node, ok := strings.CutPrefix(key, waiterPrefix); ok && node != "" {
			var w Waiter
			if w, err = parseWaiter(value); err == nil {
				s.Waiters[node] = w
			}
		} else {
			err = fmt.Errorf("neither %s<node> nor %s<node>", holderPrefix, waiterPrefix)
		}
		if err != nil {
			s.Damaged = append(s.Damaged, Damage{key, status.Clean(err.Error(), maxWhat)})
		}
	}
	slices.SortFunc(s.Damaged, func(a, b Damage) int { return strings.Compare(a.Key, b.Key) })
	return s
}

func parseHolder(value string) (Holder, error) {
	var h Holder
	if err := json.Unmarshal([]byte(value), &h); err != nil {
		return h, fmt.Errorf("not a holder entry: %w", err)
	}
	switch {
	case h.Version != Version:
		return h, fmt.Errorf("version %d, this kured reads version %d", h.Version, Version)
	case h.Boot == "":
		return h, fmt.Errorf("no boot id")
	case !h.Phase.Known():
		return h, fmt.Errorf("unknown phase %q", h.Phase)
	case h.Max < 1:
		return h, fmt.Errorf("max is %d, must be 1 or more", h.Max)
	case len(h.Zone) > maxZone:
		return h, fmt.Errorf("its zone has %d bytes, at most %d can be", len(h.Zone), maxZone)
	}
	return h, nil
}

func parseWaiter(value string) (Waiter, error) {
	var w Waiter
	if err := json.Unmarshal([]byte(value), &w); err != nil {
		return w, fmt.Errorf("not a waiter entry: %w", err)
	}
	switch {
	case w.Version != Version:
		return w, fmt.Errorf("version %d, this kured reads version %d", w.Version, Version)
	case len(w.Zone) > maxZone:
		return w, fmt.Errorf("its zone has %d bytes, at most %d can be", len(w.Zone), maxZone)
	}
	return w, nil
}

// HolderDamage says what is wrong with node's holder entry, "" if it has none
// or a good one.
func (s State) HolderDamage(node string) string {
	for _, d := range s.Damaged {
		if d.Key == holderPrefix+node {
			return d.What
		}
	}
	return ""
}

// Blocking lists the damaged keys that count as holders: everything but a
// waiter's, because what is not understood may be a lock of a newer kured.
func (s State) Blocking() []Damage {
	return slices.DeleteFunc(slices.Clone(s.Damaged), func(d Damage) bool {
		return strings.HasPrefix(d.Key, waiterPrefix)
	})
}

// HolderNames lists the readable holders, sorted.
func (s State) HolderNames() []string {
	return slices.Sorted(maps.Keys(s.Holders))
}

// take makes node a holder, out of the waiting room.
func take(node string, h Holder) Edit {
	h.Version, h.Reason = Version, clip(h.Reason)
	return Edit{Set: map[string]string{holderPrefix + node: encode(h)}, Remove: []string{waiterPrefix + node}}
}

// bury removes those entries of nodes whose Node object is gone: there is none
// of that name, or it is another one. alive has the UID of the one that there
// is, "" for none.
func bury(s State, alive map[string]string) Edit {
	e := Edit{Burial: true}
	for _, node := range slices.Sorted(maps.Keys(alive)) {
		gone := func(uid string) bool { return alive[node] == "" || uid != "" && uid != alive[node] }
		if h, ok := s.Holders[node]; ok && gone(h.UID) {
			e.Remove = append(e.Remove, holderPrefix+node)
		}
		if w, ok := s.Waiters[node]; ok && gone(w.UID) {
			e.Remove = append(e.Remove, waiterPrefix+node)
		}
	}
	return e
}

// advance writes node's holder entry anew, with another phase. It always
// changes the entry: a patch that changes nothing leaves the resourceVersion as
// it is, and a write of ours that is still under way could land after it.
func advance(node string, h Holder, phase status.Phase) Edit {
	if h.Phase == phase {
		h.Fences = h.Fences%maxFences + 1
	}
	h.Phase = phase
	return Edit{Set: map[string]string{holderPrefix + node: encode(h)}}
}

// join puts node into the waiting room.
func join(node string, w Waiter) Edit {
	w.Version = Version
	return Edit{Set: map[string]string{waiterPrefix + node: encode(w)}}
}

// leave takes node out of the waiting room and of the lock.
func leave(node string) Edit {
	return Edit{Remove: []string{holderPrefix + node, waiterPrefix + node}}
}

// Apply returns data after the edit; data itself is not changed.
func (e Edit) Apply(data map[string]string) map[string]string {
	after := maps.Clone(data)
	if after == nil {
		after = map[string]string{}
	}
	for _, key := range e.Remove {
		delete(after, key)
	}
	maps.Copy(after, e.Set)
	return after
}

// clip makes of a reason what an entry may carry: one line without quotes and
// backslashes, which the admission policy does not parse, cut at a rune's border.
func clip(reason string) string {
	reason = strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\' || r == unicode.ReplacementChar || !unicode.IsGraphic(r):
			return '_'
		}
		return r
	}, reason)
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason-len("…")], "") + "…"
}

// encode writes an entry in the one form that the admission policy accepts:
// flat, and no character escaped.
func encode(entry any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(entry); err != nil { // plain structs of strings, numbers and times in range
		panic(fmt.Sprintf("lock: encode %T: %v", entry, err))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
