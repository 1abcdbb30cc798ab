// Package schedule says when a week's windows and a calendar's freezes allow a
// reboot. It is pure: it asks no clock and reads no file. It depends on nothing
// else in the project.
//
// What a window means on the days on which the clocks change is one rule (see
// wallClock): an opening is the shortest stretch of time that contains every
// instant at which a clock on the wall shows a time of the window, the end
// excluded. So a start or an end in the hour that is left out is the instant of
// the change. In the hour that comes twice a window begins with the first start
// and lasts to the last end: it is never shorter than a person reads it. A
// window of which no instant exists on a day does not open on that day.
package schedule

import (
	"fmt"
	"time"
)

// ahead is how far windows are looked for. A day of the week can be left out
// once, where a zone crosses the date line, so a weekly window opens in it.
const ahead = 15 * 24 * time.Hour

// Schedule is all windows and freezes of a node. The zero Schedule is always open.
type Schedule struct {
	Windows []Window // none: any time. Those that touch or overlap count as one.
	Freezes []Freeze // are stronger than windows
	// MinRemaining is how much time there must be, up to the end of the window
	// or the next freeze, for something to begin.
	MinRemaining time.Duration
}

// Kind is what a Schedule says about an instant. The set is closed; the zero
// Kind is closed.
type Kind int

// The kinds.
const (
	Outside Kind = iota // of all windows
	Frozen              // a freeze is in force
	Ending              // open, but for too short a time to begin something
	Open
)

// State is what a Schedule says about one instant.
type State struct {
	Kind Kind
	// Freeze is the freeze in force that ends last (Frozen), or the one that
	// ends an opening before its window does (Ending, Open); else it is zero.
	Freeze Freeze
	// Until is when the opening ends (Ending, Open) or the Freeze does (Frozen).
	// Zero: no end is in sight.
	Until time.Time
	// Next is when something may begin next, if not now. Zero: not known.
	Next time.Time
	// Change is the next instant at which the State will be another one, always
	// later than the one asked about. Zero: none is in sight.
	Change time.Time
}

// At says what holds at an instant. The times in it are in the zone of the
// window or freeze that they come from.
func (s Schedule) At(now time.Time) State {
	if f, frozen := s.frozen(now); frozen {
		change := f.Until
		for _, longer := range s.Freezes {
			if longer.From.After(now) && longer.From.Before(change) && longer.Until.After(f.Until) {
				change = longer.From
			}
		}
		return State{Kind: Frozen, Freeze: f, Until: f.Until, Change: change, Next: s.opening(f.Until)}
	}
	until, by, open := s.open(now)
	if !open {
		begins := s.begins(now)
		change := begins
		if f, ok := s.coming(now); ok && (change.IsZero() || f.From.Before(change)) {
			change = f.From
		}
		return State{Kind: Outside, Change: change, Next: s.opening(now)}
	}
	state := State{Kind: Open, Freeze: by, Until: until, Change: until}
	switch {
	case until.IsZero() || s.MinRemaining <= 0:
	case until.Sub(now) > s.MinRemaining:
		state.Change = until.Add(-s.MinRemaining)
	default:
		state.Kind, state.Next = Ending, s.opening(until)
	}
	return state
}

// Check reports a MinRemaining that no opening is longer than: then nothing
// would ever begin. Freezes are left out. now is any instant: a few weeks from
// it on are looked at.
func (s Schedule) Check(now time.Time) error {
	s.Freezes = nil
	if len(s.Windows) > 0 && s.opening(now).IsZero() {
		return fmt.Errorf("no window is longer than %s, which have to remain for something to begin", s.MinRemaining)
	}
	return nil
}

// opening is the first instant from t on at which something may begin, zero if
// it is not within sight.
func (s Schedule) opening(t time.Time) time.Time {
	for limit := t.Add(ahead); !t.IsZero() && !t.After(limit); {
		if f, frozen := s.frozen(t); frozen {
			t = f.Until
			limit = t.Add(ahead)
			continue
		}
		until, _, open := s.open(t)
		switch {
		case !open:
			t = s.begins(t)
		case until.IsZero() || s.MinRemaining <= 0 || until.Sub(t) > s.MinRemaining:
			return t
		default:
			t = until
		}
	}
	return time.Time{}
}

// open reports whether t lies in a window, and until when that, or what
// follows without a gap, stays open; by is the freeze that ends it, if one does.
// t is not frozen.
func (s Schedule) open(t time.Time) (until time.Time, by Freeze, open bool) {
	if len(s.Windows) > 0 {
		if until, open = s.windowsEnd(t); !open {
			return time.Time{}, Freeze{}, false
		}
	}
	if f, ok := s.coming(t); ok && (until.IsZero() || f.From.Before(until)) {
		return f.From, f, true
	}
	return until, Freeze{}, true
}

// windowsEnd follows the windows from t on, through those that touch, to the
// first instant that none contains; zero if that is too far away.
func (s Schedule) windowsEnd(t time.Time) (end time.Time, open bool) {
	end = t
	for grown := true; grown; {
		if end.Sub(t) > ahead {
			return time.Time{}, true
		}
		grown = false
		for _, w := range s.Windows {
			for from, to := range w.openings(end, 0) {
				if !from.After(end) && to.After(end) {
					end, grown = to, true
				}
			}
		}
	}
	return end, end.After(t)
}

// begins is the first beginning of a window after t, zero if there is none
// within sight.
func (s Schedule) begins(t time.Time) (first time.Time) {
	for _, w := range s.Windows {
		for from := range w.openings(t, ahead) {
			if from.After(t) && (first.IsZero() || from.Before(first)) {
				first = from
			}
		}
	}
	return first
}

// frozen is the freeze in force at t that ends last.
func (s Schedule) frozen(t time.Time) (last Freeze, frozen bool) {
	for _, f := range s.Freezes {
		if !t.Before(f.From) && t.Before(f.Until) && (!frozen || f.Until.After(last.Until)) {
			last, frozen = f, true
		}
	}
	return last, frozen
}

// coming is the freeze that begins first after t.
func (s Schedule) coming(t time.Time) (first Freeze, ok bool) {
	for _, f := range s.Freezes {
		if f.From.After(t) && f.From.Before(f.Until) && (!ok || f.From.Before(first.From)) {
			first, ok = f, true
		}
	}
	return first, ok
}
