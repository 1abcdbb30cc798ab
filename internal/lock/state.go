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
// state.go and turn.go are pure: plain values in, plain values out. store.go
// is the ConfigMap, lock.go puts both together.
package lock

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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

// Holder is the entry of a node whose turn it is.
type Holder struct {
	Version int          `json:"v"`
	Boot    string       `json:"boot"`             // boot id when the lock was taken, 32 hex digits
	Phase   status.Phase `json:"phase"`            // locked, draining or rebooting
	Since   time.Time    `json:"since"`            // when the lock was taken, by the holder's clock
	Max     int          `json:"max"`              // holders that this node's configuration allows
	Reason  string       `json:"reason,omitempty"` // why it reboots, for people
	UID     string       `json:"uid"`              // of the Node object: evidence that the holder still exists
}

// Waiter is the entry of a node in the waiting room.
type Waiter struct {
	Version  int       `json:"v"`
	Since    time.Time `json:"since"` // by the waiter's clock: order only, never safety
	Priority int       `json:"priority"`
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

// Edit is what one write changes. A node sets and removes its own keys, and
// may remove the holder key of a node that provably exists no more.
type Edit struct {
	Set    map[string]string
	Remove []string
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
			s.Damaged = append(s.Damaged, Damage{key, err.Error()})
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
	}
	return h, nil
}

func parseWaiter(value string) (Waiter, error) {
	var w Waiter
	if err := json.Unmarshal([]byte(value), &w); err != nil {
		return w, fmt.Errorf("not a waiter entry: %w", err)
	}
	if w.Version != Version {
		return w, fmt.Errorf("version %d, this kured reads version %d", w.Version, Version)
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

// Order lists the waiting room as it is served: priority first, then who came
// first, then by name so that it is the same on every node.
func (s State) Order() []string {
	return slices.SortedFunc(maps.Keys(s.Waiters), func(a, b string) int {
		wa, wb := s.Waiters[a], s.Waiters[b]
		return cmp.Or(cmp.Compare(wb.Priority, wa.Priority), wa.Since.Compare(wb.Since), strings.Compare(a, b))
	})
}

// take makes node a holder, out of the waiting room, and removes the entries
// of the gone.
func take(node string, h Holder, gone []string) Edit {
	h.Version, h.Reason = Version, clip(h.Reason)
	e := Edit{Set: map[string]string{holderPrefix + node: encode(h)}, Remove: []string{waiterPrefix + node}}
	for _, g := range gone {
		e.Remove = append(e.Remove, holderPrefix+g)
	}
	return e
}

// advance writes node's holder entry anew, with another phase.
func advance(node string, h Holder, phase status.Phase) Edit {
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

// clip cuts a reason to what an entry may carry, at a rune's border.
func clip(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason-len("…")], "") + "…"
}

func encode(entry any) string {
	b, err := json.Marshal(entry)
	if err != nil { // plain structs of strings, numbers and times in range
		panic(fmt.Sprintf("lock: encode %T: %v", entry, err))
	}
	return string(b)
}
