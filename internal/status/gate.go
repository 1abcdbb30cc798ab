package status

import "time"

// Gate is something that can say "not now". The set is closed.
type Gate string

// The gates, in the order in which they are asked: first those of this
// machine, then those that need a network.
const (
	GateSentinel     Gate = "sentinel"      // can all sentinels be read?
	GateBudget       Gate = "reboot-budget" // reboots of the last day
	GateSchedule     Gate = "schedule"      // windows and freezes
	GateUptime       Gate = "uptime"
	GatePause        Gate = "pause" // by a file on this machine
	GateInhibitors   Gate = "inhibitors"
	GateNodePause    Gate = "node-pause" // by an annotation of the Node
	GateBlockingPods Gate = "blocking-pods"
	GateRival        Gate = "rival"
	GatePrometheus   Gate = "prometheus"
	GateAlertmanager Gate = "alertmanager"
)

// Gates lists every gate in the order in which they are asked.
func Gates() []Gate {
	return []Gate{
		GateSentinel, GateBudget, GateSchedule, GateUptime, GatePause, GateInhibitors,
		GateNodePause, GateBlockingPods, GateRival, GatePrometheus, GateAlertmanager,
	}
}

// GateState is what a gate said when it was asked last.
type GateState struct {
	Gate   Gate       `json:"gate"`
	Open   bool       `json:"open"`
	Reason Reason     `json:"reason,omitempty"` // why it is closed
	Detail string     `json:"detail,omitempty"` // the same for people, one line
	Next   *time.Time `json:"next,omitempty"`   // when it changes by itself, if known
}
