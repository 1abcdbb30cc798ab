package schedule

import "time"

// farthest is more than any zone is away from UTC.
const farthest = 26 * time.Hour

// wallClock is the shortest stretch of time that contains every instant at
// which a clock on the wall in zone shows a date and time from first to last,
// last excluded. Both are dates and times on that wall, given as if they were in
// UTC. ok is false where the clocks show none of them.
//
// time.Date will not do: in a gap and in a fold it may return either of two
// instants.
func wallClock(zone *time.Location, first, last time.Time) (from, to time.Time, ok bool) {
	// The zone's offset is constant in pieces; in each the answer is plain.
	end := last.Add(farthest)
	for at := first.Add(-farthest); at.Before(end); {
		pieceEnd := offsetEnd(at.In(zone))
		if pieceEnd.IsZero() || pieceEnd.After(end) {
			pieceEnd = end
		}
		_, seconds := at.In(zone).Zone()
		offset := time.Duration(seconds) * time.Second
		begin, finish := later(at, first.Add(-offset)), earlier(pieceEnd, last.Add(-offset))
		if begin.Before(finish) {
			if !ok {
				from, ok = begin.In(zone), true
			}
			to = finish.In(zone)
		}
		at = pieceEnd
	}
	return from, to, ok
}

// offsetEnd is an instant after t up to which the offset of t's zone stays as
// it is at t; zero: for ever.
func offsetEnd(t time.Time) time.Time {
	_, end := t.ZoneBounds()
	if end.IsZero() || end.After(t) {
		return end
	}
	// On the last day (UTC) of a leap year ZoneBounds returns the beginning of
	// that day where the zone's rules go on for ever: it takes each year for one
	// of 365 days. The offset holds to the year's end.
	return t.UTC().Truncate(day).Add(day)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
