package control

import (
	"fmt"
	"time"
)

// ParseUntil reads the end of a pause as a person writes it: a duration from now
// such as "2h30m", the next time that the clock shows "15:04", a day and time
// "2026-12-01 08:00", both in the time zone of now, or a time as in RFC 3339.
func ParseUntil(text string, now time.Time) (time.Time, error) {
	var until time.Time
	if d, err := time.ParseDuration(text); err == nil {
		until = now.Add(d)
	} else if clock, err := time.Parse("15:04", text); err == nil {
		on := func(day int) time.Time {
			return time.Date(now.Year(), now.Month(), now.Day()+day, clock.Hour(), clock.Minute(), 0, 0, now.Location())
		}
		if until = on(0); !until.After(now) {
			until = on(1)
		}
	} else if until, err = time.ParseInLocation("2006-01-02 15:04", text, now.Location()); err == nil {
	} else if until, err = time.Parse(time.RFC3339, text); err != nil {
		return time.Time{}, fmt.Errorf(`%.40q is neither a duration such as "2h30m" nor a time such as "15:04", "2026-12-01 08:00" or "2026-12-01T08:00:00Z"`, text)
	}
	if !until.After(now) {
		return time.Time{}, fmt.Errorf("%.40q is over already", text)
	}
	return until, nil
}
