package history

import (
	"testing"
	"time"
)

func TestParseSince(t *testing.T) {
	zone := time.FixedZone("somewhere", 3600)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, zone)
	for text, want := range map[string]string{
		"":                     "0001-01-01T00:00:00Z",
		"36h":                  "2026-11-21T00:00:00+01:00",
		"7d":                   "2026-11-15T12:00:00+01:00",
		"2026-11-20":           "2026-11-20T00:00:00+01:00",
		"2026-11-20 15:04":     "2026-11-20T15:04:00+01:00",
		"2026-11-20 15:04:05":  "2026-11-20T15:04:05+01:00",
		"2026-11-20T15:04:05Z": "2026-11-20T15:04:05Z",
	} {
		got, err := ParseSince(text, now)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, want %s, error %v", text, got, want, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "-1d", "d", "99999d", "2026-13-01", "15:04"} {
		if got, err := ParseSince(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
