package status

import "time"

// Event is something that people want to be told. The set is closed.
type Event string

// The events, in the order of the story.
const (
	EventWaiting Event = "waiting" // a reboot is wanted for too long already
	EventDrain   Event = "drain"   // cordoned, the drain begins
	EventReboot  Event = "reboot"  // everything checked, logind is about to be asked
	EventBack    Event = "back"    // after a reboot that the boot id proves: well, uncordoned, lock released
	EventFailed  Event = "failed"  // a try came to nothing and was rolled back
	EventHeld    Event = "held"    // stopped; a person is needed
)

// Events lists every event in the order of the story.
func Events() []Event {
	return []Event{EventWaiting, EventDrain, EventReboot, EventBack, EventFailed, EventHeld}
}

// Occurrence is an event as it happened.
type Occurrence struct {
	Event    Event
	At       time.Time
	Node     string
	Boot     string // boot id, 32 hex digits
	Phase    Phase
	Reason   Reason
	Detail   string    // for people, one line
	Packages []string  // that ask for the reboot
	Wanted   time.Time // since when the reboot is wanted; zero: not known
	Lock     string    // namespace/name
}
