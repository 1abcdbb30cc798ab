package history

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseSince reads a time of the past as a person writes it: a day "2026-11-20", a
// day and time "2026-11-20 15:04", both in the time zone of now, a time as in RFC
// 3339, or how long ago, "36h" or "7d". Nothing is the zero time.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q: must be a time such as 2026-11-20, \"2026-11-20 15:04\" or 2026-11-20T15:04:05Z, or so long ago, such as 36h or 7d", text)
}
