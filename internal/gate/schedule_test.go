package gate

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // a host need not have the zones

	"github.com/kured-host/kured/internal/schedule"
	"github.com/kured-host/kured/internal/status"
)

func evenings(t *testing.T) schedule.Schedule {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	window, err := schedule.ParseWindow([]string{"mon", "sat"}, "22:00", "04:00", berlin)
	if err != nil {
		t.Fatal(err)
	}
	freeze, err := schedule.ParseFreeze("2026-12-07", "2026-12-09", "black\nweek", berlin)
	if err != nil {
		t.Fatal(err)
	}
	return schedule.Schedule{Windows: []schedule.Window{window}, Freezes: []schedule.Freeze{freeze}, MinRemaining: time.Hour}
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		at     string
		moment Moment
		reason status.Reason
		next   string
		detail string
	}{
		{"2026-11-23T21:59:59+01:00", Before, status.OutsideWindow, "2026-11-23T22:00:00+01:00", "outside the windows; it may from 2026-11-23T22:00:00+01:00 on"},
		{"2026-11-23T22:00:00+01:00", Before, "", "", ""},
		{"2026-11-24T03:00:00+01:00", Before, status.WindowEnding, "2026-11-28T22:00:00+01:00", "the window ends at 2026-11-24T04:00:00+01:00"},
		{"2026-11-24T03:00:00+01:00", Within, "", "", ""},
		{"2026-11-24T04:00:00+01:00", Within, status.OutsideWindow, "2026-11-28T22:00:00+01:00", ""},
		{"2026-12-07T22:30:00+01:00", Within, status.Frozen, "2026-12-12T22:00:00+01:00", "frozen until 2026-12-10T00:00:00+01:00 (black week)"},
		{"2026-12-08T02:00:00+01:00", Before, status.Frozen, "2026-12-12T22:00:00+01:00", ""},
	} {
		now, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		v := Schedule{Schedule: evenings(t), Now: func() time.Time { return now }}.Check(t.Context(), c.moment)
		next := ""
		if !v.Next.IsZero() {
			next = v.Next.Format(time.RFC3339)
		}
		if v.Open != (c.reason == "") || v.Reason != c.reason || next != c.next || !strings.Contains(v.Detail, c.detail) {
			t.Errorf("at %s: %+v", c.at, v)
		}
	}
}

// A freeze that begins soon is told as what it is, and so is a schedule that never opens.
func TestScheduleTellsWhy(t *testing.T) {
	now := time.Date(2026, 12, 1, 23, 30, 0, 0, time.UTC)
	s := schedule.Schedule{MinRemaining: time.Hour, Freezes: []schedule.Freeze{{From: now.Add(30 * time.Minute), Until: now.Add(48 * time.Hour), Reason: "audit"}}}
	clock := func() time.Time { return now }
	if v := (Schedule{s, clock}).Check(t.Context(), Before); v.Reason != status.WindowEnding || !strings.HasPrefix(v.Detail, "a freeze begins at 2026-12-02T00:00:00Z (audit)") {
		t.Errorf("%+v", v)
	}
	s = evenings(t)
	s.MinRemaining = 6 * time.Hour
	if v := (Schedule{s, clock}).Check(t.Context(), Before); v.Reason != status.WindowEnding && v.Reason != status.OutsideWindow || !v.Next.IsZero() || !strings.Contains(v.Detail, "no time is in sight") {
		t.Errorf("%+v", v)
	}
}

// The gate sleeps until something changes: a week has few signals, each at its second.
func TestScheduleWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		// The bubble's clock begins at another time of the year.
		begun, at := time.Now(), time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		g := Schedule{Schedule: evenings(t), Now: func() time.Time { return at.Add(time.Since(begun)) }}
		events, err := g.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range 6 {
			<-events
			got = append(got, g.Now().Format("Mon 15:04:05"))
		}
		if want := "Sun 02:00:00, Sun 03:00:00, Mon 21:00:00, Tue 02:00:00, Tue 03:00:00, Sat 21:00:00"; strings.Join(got, ", ") != want {
			t.Errorf("signals at %v, want %s", got, want)
		}
		cancel()
		synctest.Wait()
	})
}
