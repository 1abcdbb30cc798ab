package schedule

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// day is what a calendar's day has without a change of the clocks.
const day = 24 * time.Hour

// Window is a time of the week. Make one with ParseWindow.
type Window struct {
	days       [7]bool       // by time.Weekday, of the day on which it begins
	start, end time.Duration // on the wall, since that day's midnight; end is later than start, and may be on the next day
	zone       *time.Location
}

// ParseWindow reads a window. days are the days on which it begins, such as
// "mon" or "Monday"; none: every day. start and end are times such as "22:00" or
// "22:00:30" on a clock in zone; end is excluded. An end before the start is on
// the next day, "24:00" as end is the day's own end. The error names what is
// wrong, and not which window it is.
func ParseWindow(days []string, start, end string, zone *time.Location) (Window, error) {
	w := Window{zone: zone}
	var errs []error
	for _, name := range days {
		weekday, err := parseDay(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.days[weekday] = true
	}
	if len(days) == 0 {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	var startErr, endErr error
	w.start, startErr = parseClock("start", start)
	w.end, endErr = parseClock("end", end)
	switch {
	case startErr != nil || endErr != nil:
		errs = append(errs, startErr, endErr)
	case w.start == day:
		errs = append(errs, fmt.Errorf("start %q is a day's end: write \"00:00\" and the next day", start))
	case w.start == w.end:
		errs = append(errs, fmt.Errorf("start and end are both %q: write \"00:00\" to \"24:00\" for a whole day", start))
	case w.end < w.start:
		w.end += day
	}
	if zone == nil {
		errs = append(errs, errors.New("no time zone"))
	}
	if err := errors.Join(errs...); err != nil {
		return Window{}, err
	}
	return w, nil
}

// String is the window as a person writes it: "fri, sat 22:00-04:00 Europe/Berlin".
func (w Window) String() string {
	var names []string
	for i := range 7 {
		if weekday := time.Weekday((i + 1) % 7); w.days[weekday] { // a week begins on Monday (ISO 8601)
			names = append(names, strings.ToLower(weekday.String()[:3]))
		}
	}
	days := strings.Join(names, ", ")
	if len(names) == 7 {
		days = "daily"
	}
	end := w.end
	if end > day {
		end -= day
	}
	return fmt.Sprintf("%s %s-%s %s", days, clock(w.start), clock(end), w.zone)
}

// openings are the beginnings and ends, in their order, of all times that the
// window is open that can contain or touch an instant from t to t + span.
func (w Window) openings(t time.Time, span time.Duration) iter.Seq2[time.Time, time.Time] {
	return func(yield func(from, to time.Time) bool) {
		year, month, dayOf := t.In(w.zone).Date()
		// An opening lasts less than a day on the wall. A day more on each side
		// is for the zones that have left one out or had one twice.
		first := time.Date(year, month, dayOf-2, 0, 0, 0, 0, time.UTC)
		for date := first; date.Sub(first) <= 4*day+span; date = date.AddDate(0, 0, 1) {
			if !w.days[date.Weekday()] {
				continue
			}
			from, to, ok := wallClock(w.zone, date.Add(w.start), date.Add(w.end))
			if ok && !yield(from, to) {
				return
			}
		}
	}
}

func parseDay(name string) (time.Weekday, error) {
	for weekday := range time.Weekday(7) {
		full := weekday.String()
		if strings.EqualFold(name, full) || strings.EqualFold(name, full[:3]) {
			return weekday, nil
		}
	}
	return 0, fmt.Errorf("%s is not a day of the week such as \"mon\" or \"monday\"", quote(name))
}

// parseClock reads a time of day; what says which one it is in the error.
func parseClock(what, text string) (time.Duration, error) {
	if text == "24:00" || text == "24:00:00" {
		return day, nil
	}
	for _, layout := range []string{"15:04", time.TimeOnly} {
		// Parse takes fractions of a second that the layout does not have.
		if t, err := time.Parse(layout, text); err == nil && t.Nanosecond() == 0 {
			return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second, nil
		}
	}
	return 0, fmt.Errorf("%s %s is not a time of day such as \"22:00\" or \"22:00:30\"", what, quote(text))
}

func clock(d time.Duration) string {
	text := fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute)
	if seconds := d % time.Minute / time.Second; seconds != 0 {
		text += fmt.Sprintf(":%02d", seconds)
	}
	return text
}

// quote shows a text of the configuration in an error, not more of it than helps.
func quote(text string) string {
	const enough = 40
	if len(text) > enough {
		text = text[:enough] + "…"
	}
	return fmt.Sprintf("%q", text)
}
