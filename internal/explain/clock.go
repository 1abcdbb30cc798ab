package explain

import (
	"fmt"
	"time"
)

// Clock is a time as a person says it: with the day of the week if it is less
// than a week away, else with the date too.
func Clock(t, now time.Time, zone *time.Location) string {
	form := "Mon 15:04 MST"
	if away := t.Sub(now).Abs(); away >= 6*24*time.Hour {
		form = "Mon 2 Jan 2006 15:04 MST"
	}
	return t.In(zone).Format(form)
}

// Span is how long something lasts, as a person says it: "45 s", "12 m",
// "5 h 12 m", "3 d 4 h". A negative one is 0.
func Span(d time.Duration) string {
	d = max(d, 0)
	if seconds := d.Round(time.Second); seconds < time.Minute {
		return fmt.Sprintf("%d s", seconds/time.Second)
	}
	minutes := d.Round(time.Minute)
	switch {
	case minutes < time.Hour:
		return fmt.Sprintf("%d m", minutes/time.Minute)
	case minutes < 48*time.Hour:
		return two(int(minutes/time.Hour), "h", int(minutes%time.Hour/time.Minute), "m")
	}
	hours := int(d.Round(time.Hour) / time.Hour)
	return two(hours/24, "d", hours%24, "h")
}

func two(n int, unit string, m int, part string) string {
	if m == 0 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%d %s %d %s", n, unit, m, part)
}

func (e *explainer) clock(t time.Time) string { return Clock(t, e.now, e.zone) }

// at is a time, and how far away it is: "Tue 02:00 CET in 5 h 12 m".
func (e *explainer) at(t time.Time) string {
	if t.After(e.now) {
		return e.clock(t) + " in " + Span(t.Sub(e.now))
	}
	return e.clock(t) + " " + Span(e.now.Sub(t)) + " ago"
}

// since is for how long something is so: "for 5 h 12 m, since Mon 20:48 CET".
func (e *explainer) since(t time.Time) string {
	return "for " + Span(e.now.Sub(t)) + ", since " + e.clock(t)
}

// stamp is a time as the rooms write it into a Detail (RFC 3339).
var stamp = pattern(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)`)

// told is a Detail with its times as the reader's clock shows them.
func (e *explainer) told(detail string) string {
	return stamp().ReplaceAllStringFunc(detail, func(text string) string {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return text
		}
		return e.at(t)
	})
}
