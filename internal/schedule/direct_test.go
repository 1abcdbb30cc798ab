package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/schedule"
)

// plain is a window as the direct rule knows it: whole minutes on the wall.
type plain struct {
	days       [7]bool
	start, end int // minutes since midnight; end ≤ start is on the next day
}

func randomPlain(random *rand.Rand) plain {
	p := plain{start: random.IntN(24 * 60), end: random.IntN(24 * 60)}
	if random.IntN(2) == 0 { // at the hours at which clocks change
		p.start = random.IntN(5) * 60
	}
	if random.IntN(2) == 0 {
		p.end = random.IntN(9) * 30
	}
	if p.start == p.end {
		p.end = (p.end + 1) % (24 * 60)
	}
	for i := range p.days {
		p.days[i] = random.IntN(3) == 0
	}
	p.days[0] = p.days[0] || random.IntN(2) == 0 // clocks change on Sundays
	p.days[random.IntN(7)] = true
	return p
}

func (p plain) window(t *testing.T, z *time.Location) schedule.Window {
	t.Helper()
	var days []string
	for i, on := range p.days {
		if on {
			days = append(days, strings.ToLower(time.Weekday(i).String()))
		}
	}
	clock := func(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
	w, err := schedule.ParseWindow(days, clock(p.start), clock(p.end), z)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// began is the date on which the window began that contains what a clock on the
// wall shows, as days since 1970 on that wall.
func (p plain) began(date, minute int) (int, bool) {
	weekday := func(date int) int { return ((date+4)%7 + 7) % 7 } // 1970-01-01 was a Thursday
	overnight := p.end < p.start
	switch {
	case minute >= p.start && (overnight || minute < p.end):
		return date, p.days[weekday(date)]
	case overnight && minute < p.end:
		return date - 1, p.days[weekday(date-1)]
	}
	return 0, false
}

// The computed openings are those of the direct rule, minute for minute over a
// year: read the clock on the wall; a window is open from the first to the last
// minute that shows a time of it.
func TestAgainstTheDirectRule(t *testing.T) {
	for _, c := range []struct {
		zone string
		year int
	}{
		{"UTC", 2026}, {"Europe/Berlin", 2026}, {"America/New_York", 2040}, {"Asia/Kolkata", 2026}, {"Australia/Lord_Howe", 2026},
		{"Africa/Casablanca", 2026}, {"America/Sao_Paulo", 2018}, {"Pacific/Apia", 2011}, {"America/Havana", 2026}, {"Europe/Dublin", 2026},
		{"Asia/Gaza", 2024}, {"Antarctica/Troll", 2026}, {"America/Nuuk", 2041},
	} {
		t.Run(fmt.Sprintf("%s in %d", c.zone, c.year), func(t *testing.T) {
			t.Parallel()
			z := zone(t, c.zone)
			random := rand.New(rand.NewPCG(uint64(c.year), uint64(len(c.zone))))
			calendar := newCalendar(z, c.year)
			for range 3 {
				plains := make([]plain, 1+random.IntN(3))
				for i := range plains {
					plains[i] = randomPlain(random)
				}
				calendar.compare(t, plains, time.Duration(random.IntN(90))*time.Minute)
			}
		})
	}
}

// calendar is what a clock on the wall shows in a year and, so that what the
// year cuts is whole, in a few weeks before and after it.
type calendar struct {
	zone  *time.Location
	begin time.Time
	wall  []int // minutes since 1970 on the wall, for each minute since begin
}

func newCalendar(z *time.Location, year int) calendar {
	c := calendar{z, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, -20), make([]int, (365+40)*24*60)}
	for i := range c.wall {
		_, offset := c.begin.Add(time.Duration(i) * time.Minute).In(z).Zone()
		c.wall[i] = int(c.begin.Unix())/60 + i + offset/60
	}
	return c
}

func (c calendar) compare(t *testing.T, plains []plain, remaining time.Duration) {
	t.Helper()
	z, begin, minutes := c.zone, c.begin, len(c.wall)
	open := make([]bool, minutes)
	s := schedule.Schedule{MinRemaining: remaining}
	for _, p := range plains {
		s.Windows = append(s.Windows, p.window(t, z))
		first, last := map[int]int{}, map[int]int{}
		for i, wall := range c.wall {
			if date, ok := p.began(wall/(24*60), wall%(24*60)); ok {
				if _, seen := first[date]; !seen {
					first[date] = i
				}
				last[date] = i
			}
		}
		for date, i := range first {
			for ; i <= last[date]; i++ {
				open[i] = true
			}
		}
	}
	// From the end: until when what is open stays so, and when something may begin next.
	until, next := make([]int, minutes), make([]int, minutes)
	limit := int(remaining / time.Minute)
	for i := minutes - 1; i >= 0; i-- {
		until[i], next[i] = i, minutes
		if i+1 < minutes {
			next[i] = next[i+1]
			if open[i] {
				until[i] = max(until[i+1], i+1)
			}
		}
		if open[i] && (limit == 0 || until[i]-i > limit) {
			next[i] = i
		}
	}
	instant := func(i int) time.Time { return begin.Add(time.Duration(i) * time.Minute) }
	check := func(i int) schedule.State {
		state := s.At(instant(i))
		want := schedule.Outside
		switch {
		case next[i] == i:
			want = schedule.Open
		case open[i]:
			want = schedule.Ending
		}
		if state.Kind != want {
			t.Fatalf("%v at %s: kind %d, want %d", s.Windows, instant(i).In(z), state.Kind, want)
		}
		// Of an opening that goes on for weeks no end is in sight.
		if open[i] && !state.Until.Equal(instant(until[i])) && !(state.Until.IsZero() && until[i]-i > 14*24*60) {
			t.Fatalf("%v at %s: until %s, want %s", s.Windows, instant(i).In(z), state.Until, instant(until[i]).In(z))
		}
		if want != schedule.Open && !state.Next.Equal(instant(next[i])) && !(state.Next.IsZero() && next[i]-i > 14*24*60) {
			t.Fatalf("%v at %s: next %s, want %s", s.Windows, instant(i).In(z), state.Next, instant(next[i]).In(z))
		}
		return state
	}
	firstMinute, lastMinute := 10*24*60, minutes-20*24*60
	for i := firstMinute; i < lastMinute; i += 397 {
		check(i)
	}
	// Going from change to change meets every change of the direct rule, and nothing else.
	var got []time.Time
	for at := instant(firstMinute); ; {
		change := check(int(at.Sub(begin) / time.Minute)).Change
		if change.IsZero() || !change.Before(instant(lastMinute)) {
			break
		}
		if !change.After(at) {
			t.Fatalf("%v at %s: the next change is at %s", s.Windows, at.In(z), change)
		}
		at = change
		got = append(got, at.UTC())
	}
	var want []time.Time
	kind := func(i int) int {
		switch {
		case next[i] == i:
			return 2
		case open[i]:
			return 1
		}
		return 0
	}
	for i := firstMinute + 1; i < lastMinute; i++ {
		if kind(i) != kind(i-1) {
			want = append(want, instant(i))
		}
	}
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("%v: %d changes, want %d", s.Windows, len(got), len(want))
	}
}

func FuzzParse(f *testing.F) {
	f.Add("mon", "22:00", "04:00", "2026-12-20", "2027-01-02 10:00", int64(1795348800))
	f.Add("Sunday", "02:30", "24:00", "2026-12-20T22:00:00+01:00", "9999-12-31", int64(1774746000))
	f.Add("fri", "00:00", "23:59:59", "0000-01-01", "2011-12-30", int64(-1))
	zones := []*time.Location{time.UTC, zone(f, "Europe/Berlin"), zone(f, "Pacific/Apia"), zone(f, "America/Havana")}
	f.Fuzz(func(t *testing.T, weekday, start, end, from, until string, now int64) {
		z := zones[uint64(now)%uint64(len(zones))]
		s := schedule.Schedule{MinRemaining: time.Hour}
		if w, err := schedule.ParseWindow([]string{weekday}, start, end, z); err == nil {
			s.Windows = append(s.Windows, w)
		}
		if fr, err := schedule.ParseFreeze(from, until, "", z); err == nil {
			s.Freezes = append(s.Freezes, fr)
		}
		at := time.Unix(now%(1<<36), 0)
		for range 20 {
			state := s.At(at)
			if state.Change.IsZero() {
				return
			}
			if !state.Change.After(at) {
				t.Fatalf("%+v at %s: %+v", s, at, state)
			}
			if !state.Next.IsZero() {
				if then := s.At(state.Next); state.Kind == schedule.Open || then.Kind != schedule.Open {
					t.Fatalf("%+v at %s: %+v, and then %+v", s, at, state, then)
				}
			}
			at = state.Change
		}
	})
}
