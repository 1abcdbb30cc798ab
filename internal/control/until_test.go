package control

import (
	"strings"
	"testing"
	"time"
)

func TestParseUntil(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 24, 14, 30, 0, 0, berlin) // the day before the clock is put back
	for text, want := range map[string]string{
		"2h30m":                     "2026-10-24T17:00:00+02:00",
		"24h":                       "2026-10-25T13:30:00+01:00",
		"15:04":                     "2026-10-24T15:04:00+02:00",
		"14:30":                     "2026-10-25T14:30:00+01:00",
		"9:05":                      "2026-10-25T09:05:00+01:00",
		"2026-12-01 08:00":          "2026-12-01T08:00:00+01:00",
		"2026-12-01T08:00:00Z":      "2026-12-01T08:00:00Z",
		"2026-12-01T08:00:00-05:00": "2026-12-01T08:00:00-05:00",
		"":                          `error: "" is neither a duration such as "2h30m" nor a time`,
		"tomorrow":                  `error: "tomorrow" is neither`,
		"24:00":                     `error: "24:00" is neither`,
		"2026-12-01":                `error: "2026-12-01" is neither`,
		"-1h":                       `error: "-1h" is over already`,
		"0s":                        `error: "0s" is over already`,
		"2026-10-24 14:30":          `error: "2026-10-24 14:30" is over already`,
	} {
		got, err := ParseUntil(text, now)
		if err != nil {
			if fail, ok := strings.CutPrefix(want, "error: "); !ok || !strings.HasPrefix(err.Error(), fail) {
				t.Errorf("%q: %v, want %s", text, err, want)
			}
		} else if got.Format(time.RFC3339) != want {
			t.Errorf("%q: %s, want %s", text, got.Format(time.RFC3339), want)
		}
	}
}

func FuzzParseUntil(f *testing.F) {
	for _, seed := range []string{"2h30m", "15:04", "2026-12-01 08:00", "2026-12-01T08:00:00Z", "9999999h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if until, err := ParseUntil(text, noon); err == nil && !until.After(noon) {
			t.Errorf("%q: %s is over", text, until)
		}
	})
}
