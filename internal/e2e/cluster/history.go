package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// MarkAnnotation is where kured marks its own cordon.
const MarkAnnotation = "kured.dev/cordoned"

const (
	holderPrefix = "holder."
	waiterPrefix = "waiter."
)

// State is all Nodes and the lock at one moment.
type State struct {
	Nodes map[string]*corev1.Node
	Lock  map[string]string // data of the lock ConfigMap
}

// Holders returns the nodes that hold the lock, sorted. The keys are all that counts: what they hold may be
// damaged.
func (s State) Holders() []string { return s.entries(holderPrefix) }

// Waiters returns the nodes in the waiting room, sorted by name.
func (s State) Waiters() []string { return s.entries(waiterPrefix) }

// Holds tells whether a node holds the lock.
func (s State) Holds(node string) bool {
	_, ok := s.Lock[holderPrefix+node]
	return ok
}

// QueuedSince returns since when a node waits, as its entry says it; empty if it does not.
func (s State) QueuedSince(node string) string {
	var entry struct{ Since string }
	if json.Unmarshal([]byte(s.Lock[waiterPrefix+node]), &entry) != nil {
		return ""
	}
	return entry.Since
}

func (s State) entries(prefix string) []string {
	var names []string
	for key := range s.Lock {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Cordoned returns the nodes that are unschedulable, sorted.
func (s State) Cordoned() []string {
	var names []string
	for name, node := range s.Nodes {
		if node.Spec.Unschedulable {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// IsCordoned tells whether a node is unschedulable.
func (s State) IsCordoned(node string) bool {
	return s.Nodes[node] != nil && s.Nodes[node].Spec.Unschedulable
}

// Mark returns kured's cordon mark on a node, empty if there is none.
func (s State) Mark(node string) string {
	if s.Nodes[node] == nil {
		return ""
	}
	return s.Nodes[node].Annotations[MarkAnnotation]
}

// BootID returns the boot id, as 32 hex digits, that a node's kubelet has reported.
func (s State) BootID(node string) string {
	if s.Nodes[node] == nil {
		return ""
	}
	return strings.ReplaceAll(s.Nodes[node].Status.NodeInfo.BootID, "-", "")
}

// IsReady tells whether a node's Ready condition is true.
func (s State) IsReady(node string) bool {
	if s.Nodes[node] == nil {
		return false
	}
	for _, c := range s.Nodes[node].Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// AtRest tells whether nobody holds or waits for the lock and no node bears kured's mark.
func (s State) AtRest() bool {
	for name := range s.Nodes {
		if s.Mark(name) != "" {
			return false
		}
	}
	return len(s.Holders()) == 0 && len(s.Waiters()) == 0
}

// Version is one change of one object as the API server told it.
type Version struct {
	At time.Time
	// One of the two is set.
	Node *corev1.Node
	Lock *corev1.ConfigMap
	// Deleted tells that the object is gone; the version is its last.
	Deleted bool
	// Relisted tells that the watch had been broken beyond repair: versions between this and the one before
	// may have been missed.
	Relisted bool
}

func (s State) apply(v Version) State {
	switch {
	case v.Node != nil:
		s.Nodes = maps.Clone(s.Nodes)
		if v.Deleted {
			delete(s.Nodes, v.Node.Name)
		} else {
			s.Nodes[v.Node.Name] = v.Node
		}
	case v.Deleted:
		s.Lock = nil
	default:
		s.Lock = v.Lock.Data
	}
	return s
}

// History is what happened from one moment on.
type History struct {
	Before   State // at that moment
	Versions []Version
}

// States calls f with the state at the beginning and after every version, until f returns false.
func (h History) States(f func(at time.Time, s State) bool) {
	state := h.Before
	var at time.Time
	if len(h.Versions) > 0 {
		at = h.Versions[0].At
	}
	if !f(at, state) {
		return
	}
	for _, v := range h.Versions {
		state = state.apply(v)
		if !f(v.At, state) {
			return
		}
	}
}

// MaxHolders is the largest number of nodes that held the lock at once.
func (h History) MaxHolders() int { return h.most(State.Holders) }

// MaxCordoned is the largest number of nodes that were unschedulable at once, whoever had cordoned them.
func (h History) MaxCordoned() int { return h.most(State.Cordoned) }

func (h History) most(count func(State) []string) int {
	result := 0
	h.States(func(_ time.Time, s State) bool {
		result = max(result, len(count(s)))
		return true
	})
	return result
}

// Ever tells whether there was a state for which f is true.
func (h History) Ever(f func(State) bool) bool {
	found := false
	h.States(func(_ time.Time, s State) bool {
		found = f(s)
		return !found
	})
	return found
}

// BootIDs returns the boot ids that a node has reported, in order, without repetitions that follow each other.
func (h History) BootIDs(node string) []string {
	var ids []string
	h.States(func(_ time.Time, s State) bool {
		if id := s.BootID(node); id != "" && (len(ids) == 0 || ids[len(ids)-1] != id) {
			ids = append(ids, id)
		}
		return true
	})
	return ids
}

// Span is a time during which something was true of a node.
type Span struct {
	Node string
	From time.Time // of the first version that showed it
	To   time.Time // of the first that did not any more; zero if it still is true
}

// HolderSpans returns who held the lock when, in the order in which it was taken.
func (h History) HolderSpans() []Span { return h.spans(State.Holders) }

// CordonSpans returns which node was unschedulable when.
func (h History) CordonSpans() []Span { return h.spans(State.Cordoned) }

func (h History) spans(names func(State) []string) []Span {
	var spans []Span
	open := make(map[string]int) // node -> its open span
	h.States(func(at time.Time, s State) bool {
		now := names(s)
		for _, name := range now {
			if _, ok := open[name]; !ok {
				open[name] = len(spans)
				spans = append(spans, Span{Node: name, From: at})
			}
		}
		for name, i := range open {
			if !slices.Contains(now, name) {
				spans[i].To = at
				delete(open, name)
			}
		}
		return true
	})
	return spans
}

// LockWrites is the number of versions of the lock.
func (h History) LockWrites() int {
	count := 0
	for _, v := range h.Versions {
		if v.Lock != nil {
			count++
		}
	}
	return count
}

// Relisted tells whether versions may be missing.
func (h History) Relisted() bool {
	return slices.ContainsFunc(h.Versions, func(v Version) bool { return v.Relisted })
}

// String shows each change of what matters to kured as a line, for failed tests.
func (h History) String() string {
	var out strings.Builder
	last := ""
	h.States(func(at time.Time, s State) bool {
		if line := s.String(); line != last {
			fmt.Fprintf(&out, "%s %s\n", at.Format("15:04:05.000"), line)
			last = line
		}
		return true
	})
	return out.String()
}

// String shows what matters to kured in one line.
func (s State) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		part := name + "=" + s.BootID(name)[:min(4, len(s.BootID(name)))]
		if !s.IsReady(name) {
			part += ",not-ready"
		}
		if s.IsCordoned(name) {
			part += ",cordoned"
		}
		if s.Mark(name) != "" {
			part += ",marked"
		}
		parts = append(parts, part)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Lock)) {
		parts = append(parts, key+" "+s.Lock[key])
	}
	return strings.Join(parts, "  ")
}
