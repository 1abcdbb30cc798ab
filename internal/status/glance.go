package status

// Underway reports whether a node in this phase has its turn: from taking the lock
// to giving it back, over the reboot. Other nodes wait for it.
func (p Phase) Underway() bool {
	switch p {
	case Returning, RollingBack:
		return true
	}
	return p.Outbound()
}

// Outbound reports whether a node in this phase has its turn and is on the way to
// the reboot, not back.
func (p Phase) Outbound() bool {
	switch p {
	case Locked, Draining, Rebooting:
		return true
	}
	return false
}

// Glance is what a status comes to for who only wants to know whether to look
// closer. The set is closed.
type Glance string

// The glances.
const (
	Quiet   Glance = "quiet"   // no reboot is wanted
	Waiting Glance = "waiting" // one is wanted, and its time comes
	Busy    Glance = "busy"    // underway
	Stopped Glance = "stopped" // one is wanted, and something says: not now
	Failed  Glance = "failed"  // nothing goes on by itself
	Strange Glance = "strange" // a phase that this kured does not know
)

// Glance judges the phase and the reason.
func (s Status) Glance() Glance {
	if s.Reason == RebootOverdue || s.Reason == GaveUp {
		return Failed // accepted, and nothing goes on
	}
	switch {
	case s.Phase.Underway():
		return Busy
	case s.Phase == Idle:
		return Quiet
	case s.Phase == Starting, s.Phase == Queued, s.Phase == BackingOff:
		return Waiting
	case s.Phase == Blocked:
		return Stopped
	case s.Phase == Held:
		return Failed
	}
	return Strange
}
