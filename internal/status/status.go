// Package status is the one vocabulary of kured: the closed sets of phases and
// reasons, and the status model that the journal, the socket, the CLI and
// systemd's STATUS all show. It depends on nothing else in the project.
package status

import (
	"fmt"
	"strings"
	"time"
)

// Phase is where this node is in the cycle. The set is closed.
type Phase string

// The phases, in the order of the story.
const (
	Starting    Phase = "starting"     // what we hold in the cluster is not known yet
	Idle        Phase = "idle"         // no reboot is wanted
	Blocked     Phase = "blocked"      // a reboot is wanted, something says: not now
	Queued      Phase = "queued"       // waiting for our turn in the cluster
	Locked      Phase = "locked"       // our turn: checking once more before the cordon
	Draining    Phase = "draining"     // cordoned, pods are being evicted
	Rebooting   Phase = "rebooting"    // logind was asked to reboot
	Returning   Phase = "returning"    // booted: proving health, then uncordon and release
	RollingBack Phase = "rolling-back" // given up for now: uncordon and release
	BackingOff  Phase = "backing-off"  // rolled back; the next try has a time
	Held        Phase = "held"         // stopped on purpose; a person is needed
)

// Phases lists every phase in the order of the story.
func Phases() []Phase {
	return []Phase{Starting, Idle, Blocked, Queued, Locked, Draining, Rebooting, Returning, RollingBack, BackingOff, Held}
}

// Known reports whether p belongs to the closed set.
func (p Phase) Known() bool {
	for _, q := range Phases() {
		if p == q {
			return true
		}
	}
	return false
}

// Reason is why the node is in its phase and not in the next one. The set is
// closed; the empty Reason means that nothing is in the way.
type Reason string

// The reasons, by the room that gives them.
const (
	// The sentinel.
	SentinelGone       Reason = "sentinel-gone"
	SentinelUnreadable Reason = "sentinel-unreadable"

	// The gates.
	Inhibited         Reason = "inhibited"
	ShutdownScheduled Reason = "shutdown-scheduled"
	LogindUnavailable Reason = "logind-unavailable"
	RebootBudget      Reason = "reboot-budget"
	BudgetUnreadable  Reason = "budget-unreadable"
	UptimeShort       Reason = "uptime-short"
	OutsideWindow     Reason = "outside-window"
	WindowEnding      Reason = "window-ending"
	PauseUnreadable   Reason = "pause-unreadable"
	BlockingPods      Reason = "blocking-pods"
	PodsUnreadable    Reason = "pods-unreadable"
	RivalHolds        Reason = "rival-holds"
	RivalUnreadable   Reason = "rival-unreadable"
	AlertsFiring      Reason = "alerts-firing"
	AlertsUnreadable  Reason = "alerts-unreadable"
	QueryBlocks       Reason = "query-blocks"
	QueryUnreadable   Reason = "query-unreadable"
	DrainBlocked      Reason = "drain-blocked"

	// The lock.
	LockFull       Reason = "lock-full"
	BehindOthers   Reason = "behind-others"
	RoomFull       Reason = "room-full"
	LockUnreadable Reason = "lock-unreadable"
	LockMissing    Reason = "lock-missing"
	EntryForeign   Reason = "entry-unreadable"
	LockLost       Reason = "lock-lost"

	// What the lock looks at beside its object.
	PeersUnavailable Reason = "peers-unavailable"
	TooFewReady      Reason = "too-few-ready"
	NodesUnreadable  Reason = "nodes-unreadable"
	NotInPool        Reason = "not-in-pool"
	ZoneBusy         Reason = "zone-busy"
	Paused           Reason = "paused"
	Frozen           Reason = "frozen"
	PolicyUnreadable Reason = "policy-unreadable"

	// The API server and this node's identity.
	APIUnreachable Reason = "api-unreachable"
	APIForbidden   Reason = "api-forbidden"
	APIRefused     Reason = "api-refused"
	NodeMissing    Reason = "node-missing"
	NoCredential   Reason = "no-credential"

	// The drain.
	DrainTimeout    Reason = "drain-timeout"
	DrainFailed     Reason = "drain-failed"
	VolumesAttached Reason = "volumes-attached"

	// The hooks.
	HookDeferred Reason = "hook-deferred"
	HookFailed   Reason = "hook-failed"

	// The reboot.
	RebootRefused     Reason = "reboot-refused"
	RebootUnconfirmed Reason = "reboot-unconfirmed"
	RebootUnknown     Reason = "reboot-unknown"
	RebootOverdue     Reason = "reboot-overdue"
	RebootCancelled   Reason = "reboot-cancelled"
	RebootDelayed     Reason = "reboot-delayed"
	DryRun            Reason = "dry-run"

	// The return.
	AwaitingReturn Reason = "awaiting-return"
	NotReady       Reason = "not-ready"
	PodsNotReady   Reason = "pods-not-ready"
	Settling       Reason = "settling"
	ReleaseDelayed Reason = "release-delayed"
	GaveUp         Reason = "gave-up"
	Abandoned      Reason = "abandoned"
)

// Reasons lists every reason except the empty one.
func Reasons() []Reason {
	return []Reason{
		SentinelGone, SentinelUnreadable,
		Inhibited, ShutdownScheduled, LogindUnavailable, RebootBudget, BudgetUnreadable, UptimeShort,
		OutsideWindow, WindowEnding, PauseUnreadable, BlockingPods, PodsUnreadable, RivalHolds, RivalUnreadable,
		AlertsFiring, AlertsUnreadable, QueryBlocks, QueryUnreadable, DrainBlocked,
		LockFull, BehindOthers, RoomFull, LockUnreadable, LockMissing, EntryForeign, LockLost,
		PeersUnavailable, TooFewReady, NodesUnreadable, NotInPool, ZoneBusy, Paused, Frozen, PolicyUnreadable,
		APIUnreachable, APIForbidden, APIRefused, NodeMissing, NoCredential,
		DrainTimeout, DrainFailed, VolumesAttached,
		HookDeferred, HookFailed,
		RebootRefused, RebootUnconfirmed, RebootUnknown, RebootOverdue, RebootCancelled, RebootDelayed, DryRun,
		AwaitingReturn, NotReady, PodsNotReady, Settling, ReleaseDelayed, GaveUp, Abandoned,
	}
}

// Status is what kured knows about itself at one moment. The JSON form is
// version 1 of the control socket: fields are added, never renamed.
type Status struct {
	Version string     `json:"version"`          // of the kured binary
	Node    string     `json:"node,omitempty"`   // empty until the credential was read
	Boot    string     `json:"boot,omitempty"`   // boot id, 32 hex digits
	Phase   Phase      `json:"phase"`            // where we are
	Reason  Reason     `json:"reason,omitempty"` // what is in the way
	Detail  string     `json:"detail,omitempty"` // the same for people, one line
	Since   time.Time  `json:"since"`            // when phase and reason became so
	Next    *time.Time `json:"next,omitempty"`   // when it changes by itself, if known

	// Cycle is the boot id of the boot in which the cycle that runs was begun:
	// the same before and after the reboot. Empty: none runs.
	Cycle string     `json:"cycle,omitempty"`
	Held  *time.Time `json:"held,omitempty"` // since when this node holds the lock; absent: it does not
	// Gates are those that were asked when a reboot was last thought of. Behind
	// one that is closed nobody asks.
	Gates []GateState `json:"gates,omitempty"`

	Demand *Demand `json:"demand,omitempty"` // present while a reboot is wanted
	Queue  *Queue  `json:"queue,omitempty"`  // present while it waits for the lock
	Drain  *Drain  `json:"drain,omitempty"`  // present while draining
}

// Demand is why a reboot is wanted.
type Demand struct {
	Since   time.Time `json:"since"`             // modification time of the sentinel
	Path    string    `json:"path"`              // of the sentinel
	Reasons []string  `json:"reasons,omitempty"` // package names
}

// Queue is the lock as this node last saw it.
type Queue struct {
	Holders []string `json:"holders,omitempty"`
	Limit   int      `json:"limit"`             // of holders, as in force now; 0: not known yet
	Place   int      `json:"place,omitempty"`   // of this node in the waiting room, from 1; 0: not in it
	Waiting int      `json:"waiting,omitempty"` // nodes in the waiting room
	// Ahead are those who have to be done before it is this node's turn: the
	// holders by name, then who waits ahead of it, as they are served; the first 16.
	Ahead []Holder `json:"ahead,omitempty"`

	Zone        string   `json:"zone,omitempty"`        // that has its turn
	Unavailable []string `json:"unavailable,omitempty"` // nodes that are down and use up the limit
	// Uncounted is why the nodes that are down are not counted, "" if they are.
	Uncounted string `json:"uncounted,omitempty"`
	// Enforced says whether the API server keeps the lock's rules itself (its
	// ValidatingAdmissionPolicy is installed); absent: not known.
	Enforced *bool `json:"enforced,omitempty"`
}

// Holder is a node that holds the lock or waits for it.
type Holder struct {
	Node  string    `json:"node"`
	Phase Phase     `json:"phase"` // of a holder as in its entry; queued: it waits
	Since time.Time `json:"since"` // when it took the lock, or began to wait, by its own clock
}

// Drain is how far the drain has come.
type Drain struct {
	Pods int      `json:"pods"`           // to move
	Gone int      `json:"gone"`           // moved
	Held []string `json:"held,omitempty"` // pods that hold up, and why; one line each
}

// Line is the status as one line, for systemd's STATUS and the first line of
// the CLI: "draining: 12 of 14 pods gone".
func (s Status) Line() string {
	var b strings.Builder
	b.WriteString(string(s.Phase))
	switch {
	case s.Detail != "":
		fmt.Fprintf(&b, ": %s", s.Detail)
	case s.Reason != "":
		fmt.Fprintf(&b, ": %s", s.Reason)
	}
	return b.String()
}
