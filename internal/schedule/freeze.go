package schedule

import (
	"errors"
	"fmt"
	"time"
)

// Freeze is a time in which nothing reboots.
type Freeze struct {
	From, Until time.Time // from inclusive, until exclusive
	Reason      string    // for people
}

// ParseFreeze reads a freeze. from and until are dates such as "2026-12-20",
// dates and times such as "2026-12-20 22:00" or "2026-12-20 22:00:30" on a clock
// in zone, or times as in RFC 3339. A date as until includes that day. On days on
// which the clocks change the rule of the package holds. The error names what is
// wrong, and not which freeze it is.
func ParseFreeze(from, until, reason string, zone *time.Location) (Freeze, error) {
	if zone == nil {
		return Freeze{}, errors.New("no time zone")
	}
	begin, fromErr := parseMoment("from", from)
	end, untilErr := parseMoment("until", until)
	if err := errors.Join(fromErr, untilErr); err != nil {
		return Freeze{}, err
	}
	if end.date {
		end.at = end.at.AddDate(0, 0, 1)
	}
	f := Freeze{From: begin.at, Until: end.at, Reason: reason}
	// Two days are more than what any zone has ever left out.
	if begin.wall {
		f.From, _, _ = wallClock(zone, begin.at, begin.at.AddDate(0, 0, 2))
	}
	if end.wall {
		_, f.Until, _ = wallClock(zone, end.at.AddDate(0, 0, -2), end.at)
	}
	if !f.From.Before(f.Until) {
		return Freeze{}, fmt.Errorf("until %q is not after from %q", until, from)
	}
	return f, nil
}

// moment is an instant, or what a clock on a wall shows.
type moment struct {
	at   time.Time
	wall bool // at is a date and time on a wall, as if it were in UTC
	date bool // no time was given
}

// parseMoment reads one end of a freeze; what says which one it is in the error.
func parseMoment(what, text string) (moment, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return moment{at: at, wall: true, date: true}, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", time.DateTime} {
		if at, err := time.Parse(layout, text); err == nil && at.Nanosecond() == 0 {
			return moment{at: at, wall: true}, nil
		}
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return moment{at: at}, nil
	}
	return moment{}, fmt.Errorf("%s %s is not a date such as \"2026-12-20\", nor a date and time such as \"2026-12-20 22:00\" or \"2026-12-20T22:00:00+01:00\"", what, quote(text))
}
