// Package fleet is all nodes of a pool as the API server knows them, for people: who holds the lock, who waits for it, who
// is blocked and by what. It reads the Nodes, the lock and the policy, and with a person's credential it can pause them all.
//
// The lock has the word on who holds and who waits. The rest is what each node says of itself in an annotation
// (node.Announcement): it is believed about that node alone, and only as long as nothing contradicts it.
//
// rows.go is pure; list.go and watch.go ask the API server; pause.go writes the policy.
package fleet

import (
	"fmt"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// Unknown is the phase of a node that nobody can tell one of: kured is not on it, or has never reached the API server.
const Unknown status.Phase = "unknown"

// View is the fleet at one moment. Its JSON form is that of kured status --all -o json: fields are added, never renamed.
type View struct {
	At        time.Time    `json:"at"`
	Lock      string       `json:"lock"`                 // namespace/name
	Limit     int          `json:"limit"`                // of holders: the tightest that is known here; 0: none is
	LimitNote string       `json:"limit_note,omitempty"` // what the limit leaves out, and why
	Policy    *lock.Ruling `json:"policy,omitempty"`     // absent: none is configured
	Nodes     []Row        `json:"nodes"`                // in the order of the story: holders, queue, blocked, the others by name
	// Strange are keys of the lock that cannot be read and belong to no node. They count as holders.
	Strange []lock.Unreadable `json:"strange,omitempty"`
	// Stale is why this is not how things are now but how they were, "" if it is.
	Stale string `json:"stale,omitempty"`
}

// Row is a node.
type Row struct {
	Node     string        `json:"node"`
	Phase    status.Phase  `json:"phase"`            // or Unknown
	Reason   status.Reason `json:"reason,omitempty"` // perhaps one that this kured does not know
	Detail   string        `json:"detail,omitempty"` // one line
	Since    time.Time     `json:"since,omitzero"`   // by the node's clock; zero: not known
	Lock     Standing      `json:"lock,omitempty"`
	Place    int           `json:"place,omitempty"`    // in the waiting room, from 1
	Boot     string        `json:"boot,omitempty"`     // boot id that the kubelet reports, 32 hex digits
	Wanted   time.Time     `json:"wanted,omitzero"`    // since when a reboot is; zero: none is, or it is not known
	Packages []string      `json:"packages,omitempty"` // that ask for it
	Version  string        `json:"version,omitempty"`  // of kured
	Ready    bool          `json:"ready"`
	Cordoned bool          `json:"cordoned"`          // by whomever
	Rebooted time.Time     `json:"rebooted,omitzero"` // when kured's last reboot was verified
	Problem  string        `json:"problem,omitempty"` // what is wrong with what is known of it, one line
}

// Standing is what the lock says of a node.
type Standing string

// The standings; "" is: nothing.
const (
	Holds      Standing = "holds"
	Waits      Standing = "waits"
	Unreadable Standing = "unreadable" // an entry that counts as a holder's
)

// counts reports whether the node uses up the limit.
func (s Standing) counts() bool { return s == Holds || s == Unreadable }

// Summary is the fleet in one line: "14 nodes: 1 draining (of 1 allowed), 3 queued, 2 blocked (outside-window), 8 idle".
func (v View) Summary() string {
	count := map[status.Phase]int{}
	reasons := map[status.Phase][]status.Reason{}
	holding := map[status.Phase]bool{}
	holders := len(v.Strange)
	for _, r := range v.Nodes {
		if count[r.Phase]++; r.Reason != "" {
			reasons[r.Phase] = append(reasons[r.Phase], r.Reason)
		}
		if r.Lock.counts() {
			holding[r.Phase] = true
			holders++
		}
	}
	var parts []string
	lastHolding, last := -1, Unknown // where in parts, and which phase
	for _, phase := range summaryOrder() {
		if count[phase] == 0 {
			continue
		}
		part := fmt.Sprintf("%d %s", count[phase], phase)
		switch phase {
		case status.Blocked, status.Held, status.BackingOff:
			part += because(reasons[phase], count[phase])
		}
		if holding[phase] {
			lastHolding, last = len(parts), phase
		}
		parts = append(parts, part)
	}
	switch {
	case v.Limit > 0 && lastHolding >= 0 && holders == count[last]:
		parts[lastHolding] += fmt.Sprintf(" (of %d allowed)", v.Limit)
	case v.Limit > 0 && holders > 0:
		parts = append(parts, fmt.Sprintf("%d of %d allowed hold the lock", holders, v.Limit))
	}
	line := fmt.Sprintf("%d nodes", len(v.Nodes))
	if len(v.Nodes) == 1 {
		line = "1 node"
	}
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	return line
}

// summaryOrder is the phases from the most to the least that goes on.
func summaryOrder() []status.Phase {
	return []status.Phase{
		status.Rebooting, status.Returning, status.Draining, status.Locked, status.RollingBack,
		status.Queued, status.Held, status.Blocked, status.BackingOff, status.Starting, status.Idle, Unknown,
	}
}

// because is " (outside-window)" or " (2 outside-window, 1 inhibited)".
func because(reasons []status.Reason, of int) string {
	var order []status.Reason
	count := map[status.Reason]int{}
	for _, r := range reasons {
		if count[r]++; count[r] == 1 {
			order = append(order, r)
		}
	}
	if len(order) == 0 {
		return ""
	}
	if len(order) == 1 && count[order[0]] == of {
		return " (" + string(order[0]) + ")"
	}
	var parts []string
	for _, r := range order {
		parts = append(parts, fmt.Sprintf("%d %s", count[r], r))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
