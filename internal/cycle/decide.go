// Package cycle is the story in order: sentinel, gates, lock, cordon, drain,
// reboot, and after boot verify, uncordon, release. It is the only room that
// knows the others.
//
// Decide is a pure function from what is observed to the one next action, and
// holds every rule. The Runner observes, asks Decide, does that one thing, and
// begins anew; so a daemon that was killed at any point goes on from what is
// written in the cluster: the lock entry and the mark on the Node.
package cycle

import (
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/status"
)

// Mode is which command runs the story.
type Mode int

// The modes.
const (
	Run     Mode = iota // the daemon: from the sentinel to the reboot
	Return              // kured uncordon, after boot: verify, uncordon, release
	Abandon             // kured uncordon --abandon: give everything back now
)

// Entry is this node's holder entry in the lock.
type Entry int

// The entries, by the boot that they were written in.
const (
	NoEntry Entry = iota
	ThisBootEntry
	OtherBootEntry
	UnreadableEntry // damaged, or of a kured of another version
)

// Mark is our annotation on the Node: who cordons it, and in which boot.
type Mark int

// The marks, by the boot that they were written in.
const (
	NoMark Mark = iota
	ThisBootMark
	OtherBootMark
)

// Want is what the sentinel says.
type Want int

// The answers of the sentinel.
const (
	WantNothing Want = iota
	WantReboot
	WantUnknown // it cannot be read
)

// Preflight is what a rehearsal of the drain has shown, before the node asks
// for the lock.
type Preflight int

// The results of the rehearsal.
const (
	PreflightDone    Preflight = iota // nothing is in the way, or nobody wants to know
	PreflightDue                      // not rehearsed yet for this try
	PreflightBlocked                  // the drain would not end
)

// Failure is why this try came to nothing.
type Failure struct {
	Reason status.Reason
	Detail string
	Hold   bool // all is kept as it is, until a person comes
}

// Observation is all that a decision depends on.
type Observation struct {
	Mode Mode

	Known    bool // entry, mark and cordon were read from the cluster
	Entry    Entry
	Waiting  bool // we stand in the waiting room
	Mark     Mark
	Cordoned bool // spec.unschedulable, whoever set it
	// Released says, without an entry, that somebody took ours away: who and why, as far as it is known.
	Released string

	Want         Want
	WantDetail   string       // with WantUnknown: why
	Gates        gate.Verdict // the first closed one, or open
	Preflight    Preflight
	Obstacle     string   // with PreflightBlocked: what is in the way
	DryRun       bool     // nothing is done to the node
	Patient      bool     // a gate that passes by itself may still be waited for
	Resting      bool     // a back-off runs
	Failure      *Failure // of this try, until it is rolled back
	Begun        bool     // in this try Cordon was done; on a node that a person had cordoned it sets what else is configured
	Next         Verb     // the first step that is not done yet on the cordoned node: PreDrain to Reboot
	ShuttingDown bool     // logind has accepted our reboot
	Verified     bool     // after boot: the node proved that it is well
	GiveUp       bool     // after boot: that takes longer than the others are to wait
}

// Verb is one thing to do.
type Verb int

// The verbs. Those that wait end when something happens that may change the decision.
const (
	Learn         Verb = iota // read entry, mark and cordon from the cluster
	WaitForDemand             // nothing to do, at no cost
	WaitForGates              // wanted, not now
	WaitBackOff               // rolled back, not yet again
	LeaveRoom                 // take our name out of the waiting room
	Rehearse                  // ask what would hold up the drain
	WaitPreflight             // something would; rehearse again later
	Acquire                   // wait for our turn and take the lock
	ShowPlan                  // only say what would be done now
	Cordon                    // with our mark, unless a person did before
	PreDrain                  // run the hooks of that name
	DelayDrain                // give load balancers time
	Drain                     //
	Detach                    // wait for volumes
	DelayReboot               //
	PreReboot                 // run the hooks of that name
	Announce                  // tell people, and give them time
	Reboot                    // prove once more that all holds, then ask logind
	AwaitShutdown             // accepted: the machine goes down
	RollBack                  // uncordon ours, release
	Uncordon                  // our mark without a lock: an admin released it
	Acknowledge               // the same without a mark: only the admin's note is taken off
	AwaitReturn               // rebooted: kured-uncordon.service has the word
	HoldFast                  // stop on purpose; a person is needed
	Verify                    // wait until this node is well
	ComeBack                  // uncordon ours, release: the reboot is done
	GiveUp                    // release, and leave the node cordoned
	Finish                    // nothing (more) to do in this mode
)

// Action is what to do next, and what to say about it.
type Action struct {
	Do     Verb
	Phase  status.Phase
	Reason status.Reason
	Detail string
}

// Decide chooses the next action.
//
//	entry       mark    boot     meaning                          do
//	none        none    –        idle                             watch the sentinel, then gates, lock
//	holder      any     same     mid-cycle, maybe restarted       resume, or roll back
//	holder      any     changed  we rebooted                      verify, uncordon if ours, release
//	none        ours    same     an admin released the lock       uncordon; without a mark only acknowledge
//	none        ours    changed  the same, and we rebooted since  verify, uncordon
//	unreadable  any     any      another version, or damage       hold, say so
func Decide(o Observation) Action {
	switch {
	case !o.Known:
		return Action{Do: Learn, Phase: status.Starting}
	case o.Entry == UnreadableEntry:
		return Action{Do: HoldFast, Phase: status.Held, Reason: status.EntryForeign,
			Detail: "this node's entry in the lock cannot be read: look at it and remove it if it is damaged, or install the kured that wrote it"}
	}
	switch o.Mode {
	case Return:
		return decideReturn(o)
	case Abandon:
		return decideAbandon(o)
	}
	rebooted := o.Entry == OtherBootEntry || o.Entry == NoEntry && o.Mark == OtherBootMark
	switch {
	case rebooted:
		return Action{Do: AwaitReturn, Phase: status.Returning, Reason: status.AwaitingReturn,
			Detail: "rebooted; kured-uncordon.service verifies the node and frees the lock"}
	case o.Entry == ThisBootEntry:
		return decideHolding(o)
	case o.Mark == ThisBootMark:
		detail := o.Released
		if detail == "" {
			detail = "the node carries our cordon but does not hold the lock"
		}
		return Action{Do: Uncordon, Phase: status.RollingBack, Reason: status.LockLost, Detail: detail}
	case o.Released != "":
		return Action{Do: Acknowledge, Phase: status.RollingBack, Reason: status.LockLost, Detail: o.Released}
	}
	return decideFree(o)
}

// decideFree is for a node that has nothing of ours in the cluster, except
// perhaps a place in the waiting room, which it keeps only while it may go.
func decideFree(o Observation) Action {
	var wait Action
	switch {
	case o.Want == WantUnknown:
		wait = Action{Do: WaitForDemand, Phase: status.Blocked, Reason: status.SentinelUnreadable, Detail: o.WantDetail}
	case o.Want == WantNothing:
		wait = Action{Do: WaitForDemand, Phase: status.Idle}
	case o.Resting:
		wait = Action{Do: WaitBackOff, Phase: status.BackingOff}
	case !o.Gates.Open && o.Gates.Reason == status.RebootBudget:
		wait = Action{Do: WaitForGates, Phase: status.Held, Reason: o.Gates.Reason, Detail: o.Gates.Detail}
	case !o.Gates.Open:
		wait = Action{Do: WaitForGates, Phase: status.Blocked, Reason: o.Gates.Reason, Detail: o.Gates.Detail}
	case o.Preflight == PreflightBlocked:
		wait = Action{Do: WaitPreflight, Phase: status.Blocked, Reason: status.DrainBlocked, Detail: o.Obstacle}
	case o.Preflight == PreflightDue:
		return Action{Do: Rehearse, Phase: status.Queued}
	default:
		return Action{Do: Acquire, Phase: status.Queued}
	}
	if o.Waiting {
		wait.Do = LeaveRoom
	}
	return wait
}

// decideHolding is for a node that holds the lock and has not rebooted since.
func decideHolding(o Observation) Action {
	cordoned := o.Cordoned // ours or a person's: pods keep away
	switch {
	case o.ShuttingDown:
		return Action{Do: AwaitShutdown, Phase: status.Rebooting}
	case o.Failure != nil && !o.Failure.Hold:
		return rollBack(o.Failure.Reason, o.Failure.Detail)
	case o.Want == WantUnknown:
		return rollBack(status.SentinelUnreadable, o.WantDetail)
	case o.Want == WantNothing:
		return rollBack(status.SentinelGone, "the reboot is not required any more")
	case o.Failure != nil:
		return Action{Do: HoldFast, Phase: status.Held, Reason: o.Failure.Reason, Detail: o.Failure.Detail}
	case !o.Gates.Open && o.Gates.Passing && cordoned && o.Patient:
		return Action{Do: WaitForGates, Phase: status.Draining, Reason: o.Gates.Reason, Detail: o.Gates.Detail}
	case !o.Gates.Open:
		return rollBack(o.Gates.Reason, o.Gates.Detail)
	case o.DryRun && o.Mark == ThisBootMark:
		return rollBack(status.DryRun, "a dry run was asked for while the node was cordoned")
	case o.DryRun:
		return Action{Do: ShowPlan, Phase: status.Locked}
	case !cordoned, !o.Begun && o.Mark != ThisBootMark:
		return Action{Do: Cordon, Phase: status.Locked}
	case o.Next == Reboot:
		return Action{Do: Reboot, Phase: status.Rebooting}
	}
	return Action{Do: max(PreDrain, o.Next), Phase: status.Draining}
}

func rollBack(reason status.Reason, detail string) Action {
	return Action{Do: RollBack, Phase: status.RollingBack, Reason: reason, Detail: detail}
}

// decideReturn is for the oneshot after boot. What belongs to this boot it
// leaves to the daemon.
func decideReturn(o Observation) Action {
	switch {
	case o.Entry == ThisBootEntry,
		o.Entry == NoEntry && o.Mark != OtherBootMark:
		return Action{Do: Finish, Phase: status.Idle}
	case !o.Verified && o.GiveUp && o.Entry == OtherBootEntry:
		return Action{Do: GiveUp, Phase: status.Returning, Reason: status.GaveUp, Detail: "the way back takes too long"}
	case !o.Verified && o.gaveUp():
		return Action{Do: Verify, Phase: status.Returning, Reason: status.GaveUp}
	case !o.Verified:
		return Action{Do: Verify, Phase: status.Returning, Reason: status.NotReady}
	}
	return Action{Do: ComeBack, Phase: status.Returning}
}

// gaveUp reports whether the node released the lock because it was not well in
// time. An admin who did it would have left a note.
func (o Observation) gaveUp() bool { return o.GiveUp && o.Entry == NoEntry && o.Released == "" }

// decideAbandon is for a kured that is taken off the node.
func decideAbandon(o Observation) Action {
	if o.Entry == NoEntry && o.Mark == NoMark && !o.Waiting {
		return Action{Do: Finish, Phase: status.Idle}
	}
	return rollBack(status.Abandoned, "kured gives up this node's cycle")
}
