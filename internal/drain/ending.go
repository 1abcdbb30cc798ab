package drain

import (
	"fmt"
	"time"
)

// drained reports whether every pod that has to leave is gone.
func (p *plan) drained(now time.Time) bool {
	if !p.allDecided || now.Before(p.start.Add(settle)) {
		return false
	}
	for _, known := range p.pods {
		switch known.fate {
		case fateOpen, fateLeaves, fateRefused:
			return false
		default:
		}
	}
	return true
}

// hopeless returns an error when the drain cannot begin, or must not go on, for a cause that does not pass
// by itself.
func (p *plan) hopeless(now time.Time) error {
	if p.allDecided {
		return p.refusal()
	}
	for _, known := range p.inOrder() {
		if known.refusedOpen() && !now.Before(known.since.Add(decideGiveUp)) {
			return fmt.Errorf("%w: %s", ErrUndecided, known.last.detail)
		}
	}
	return nil
}

// refuses reports whether a pod is here that may not be evicted; then none is.
func (p *plan) refuses() bool {
	for _, known := range p.pods {
		if known.fate == fateRefused {
			return true
		}
	}
	return false
}

// refusal names the pods that may not be evicted; nil if there are none.
func (p *plan) refusal() error {
	if !p.refuses() {
		return nil
	}
	var held []HeldPod
	for _, known := range p.inOrder() {
		if known.fate == fateRefused {
			held = append(held, refusedPod(known.pod, known.refusal))
		}
	}
	return fmt.Errorf("%w: %s", ErrRefused, HeldSummary(held))
}

func (k *podPlan) refusedOpen() bool {
	return k.fate == fateOpen && k.failures > 0 && k.last.kind == answerRefused
}

// forceSlack is how long after its grace period a pod of a drain by force is waited for.
const forceSlack = time.Minute

// lapse takes in that it is now.
func (p *plan) lapse(now time.Time) {
	for _, known := range p.pods {
		if known.fate != fateLeaves {
			continue
		}
		if at := p.skipAt(known); !at.IsZero() && !now.Before(at) {
			known.fate = fateSkipped
		} else if at := p.leftAt(known); !at.IsZero() && !now.Before(at) {
			known.fate = fateLeft
		}
	}
}

// skipAt returns when a pod that terminates is not waited for any longer; zero: never.
func (p *plan) skipAt(known *podPlan) time.Time {
	if p.skip <= 0 || known.terminating.IsZero() {
		return time.Time{}
	}
	end := known.terminating.Add(known.period())
	if known.foundTerminating {
		end = known.pod.DeletionTimestamp.Time
	}
	return end.Add(p.skip)
}

// force begins the end by force: every pod that is left and does not terminate yet is deleted, of all
// tiers at once. It returns false when it is not even known which pods have to leave.
//
// No pod holds that end up for longer than its grace period and forceSlack, counted from its deletion or, if the
// server does not take that, from now. A pod that was being deleted for that long already is left at
// once. So is one that came late and of which it is not known whether it stays, and whatever comes from now
// on: the end by force has an end.
func (p *plan) force(now time.Time) bool {
	if !p.allDecided {
		return false
	}
	p.forced = now
	for _, known := range p.pods {
		switch known.fate {
		case fateOpen:
			known.fate = fateLeft
		case fateLeaves:
			known.next = now
		default:
		}
	}
	return true
}

// byForce reports whether the end by force has begun.
func (p *plan) byForce() bool { return !p.forced.IsZero() }

// leftAt returns when a pod is left in an end by force; zero: never.
func (p *plan) leftAt(known *podPlan) time.Time {
	switch {
	case !p.byForce():
		return time.Time{}
	case !known.terminating.IsZero():
		return known.terminating.Add(known.period() + forceSlack)
	}
	return p.forced.Add(p.graceOf(known) + forceSlack)
}

// graceOf returns the grace period that a pod gets when it is deleted.
func (p *plan) graceOf(known *podPlan) time.Duration {
	seconds := int64(30) // the API server's default
	if s := known.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		seconds = *s
	}
	if p.grace >= 0 {
		seconds = p.grace
	}
	return inSeconds(seconds)
}
