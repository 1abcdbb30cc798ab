package schedule_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // a host need not have the zones

	"github.com/kured-host/kured/internal/schedule"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// at reads an instant in RFC 3339.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	instant, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

// window reads "mon,tue 22:00-04:00 Europe/Berlin"; "daily" is every day.
func window(t testing.TB, text string) schedule.Window {
	t.Helper()
	fields := strings.Fields(text)
	start, end, _ := strings.Cut(fields[1], "-")
	var days []string
	if fields[0] != "daily" {
		days = strings.Split(fields[0], ",")
	}
	w, err := schedule.ParseWindow(days, start, end, zone(t, fields[2]))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func windows(t testing.TB, texts ...string) (ws []schedule.Window) {
	t.Helper()
	for _, text := range texts {
		ws = append(ws, window(t, text))
	}
	return ws
}

func freeze(t testing.TB, from, until, zoneName string) schedule.Freeze {
	t.Helper()
	f, err := schedule.ParseFreeze(from, until, "no changes", zone(t, zoneName))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// One opening each: it is closed just before from, open from there to just
// before until, and closed then.
func TestOpening(t *testing.T) {
	for _, c := range []struct{ name, window, from, until string }{
		{"plain", "mon 09:00-17:00 Europe/Berlin", "2026-11-23T09:00:00+01:00", "2026-11-23T17:00:00+01:00"},
		{"seconds", "mon 09:00:30-09:01:15 Europe/Berlin", "2026-11-23T09:00:30+01:00", "2026-11-23T09:01:15+01:00"},
		{"half an hour off UTC", "mon 00:00-24:00 Asia/Kolkata", "2026-11-22T18:30:00Z", "2026-11-23T18:30:00Z"},
		{"overnight belongs to its first day", "sat 22:00-04:00 Europe/Berlin", "2026-11-28T22:00:00+01:00", "2026-11-29T04:00:00+01:00"},
		{"to midnight", "sat 22:00-00:00 UTC", "2026-11-28T22:00:00Z", "2026-11-29T00:00:00Z"},
		{"to the day's end", "sat 22:00-24:00 UTC", "2026-11-28T22:00:00Z", "2026-11-29T00:00:00Z"},
		{"over the year's end", "thu 22:00-04:00 America/New_York", "2026-12-31T22:00:00-05:00", "2027-01-01T04:00:00-05:00"},
		// The year's last day, where the zone's rules go on for ever (see offsetEnd).
		{"a leap year's last day", "mon 22:00-04:00 America/New_York", "2040-12-31T22:00:00-05:00", "2041-01-01T04:00:00-05:00"},

		// Europe/Berlin 2026-03-29: from 02:00 +01:00 to 03:00 +02:00.
		{"over a gap", "sun 01:00-04:00 Europe/Berlin", "2026-03-29T01:00:00+01:00", "2026-03-29T04:00:00+02:00"},
		{"overnight over a gap", "sat 23:00-04:00 Europe/Berlin", "2026-03-28T23:00:00+01:00", "2026-03-29T04:00:00+02:00"},
		{"starts in a gap", "sun 02:30-04:00 Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"},
		{"starts where a gap does", "sun 02:00-04:00 Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"},
		{"ends in a gap", "sun 01:00-02:30 Europe/Berlin", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"ends where a gap does", "sun 01:00-03:00 Europe/Berlin", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		// 2026-10-25: from 03:00 +02:00 back to 02:00 +01:00.
		{"over a fold", "sun 01:00-04:00 Europe/Berlin", "2026-10-25T01:00:00+02:00", "2026-10-25T04:00:00+01:00"},
		{"starts in a fold", "sun 02:30-04:00 Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T04:00:00+01:00"},
		{"ends in a fold", "sun 01:00-02:30 Europe/Berlin", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+01:00"},
		{"within a fold", "sun 02:10-02:20 Europe/Berlin", "2026-10-25T02:10:00+02:00", "2026-10-25T02:20:00+01:00"},
		{"is a fold", "sun 02:00-03:00 Europe/Berlin", "2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00"},
		{"ends where a fold starts", "sun 01:00-02:00 Europe/Berlin", "2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00"},
		{"starts where a fold ends", "sun 03:00-04:00 Europe/Berlin", "2026-10-25T03:00:00+01:00", "2026-10-25T04:00:00+01:00"},

		{"New York's gap", "sun 02:30-05:00 America/New_York", "2026-03-08T03:00:00-04:00", "2026-03-08T05:00:00-04:00"},
		{"New York's fold", "sat 22:00-01:30 America/New_York", "2026-10-31T22:00:00-04:00", "2026-11-01T01:30:00-05:00"},
		// 2026-10-04: from 02:00 +10:30 to 02:30 +11:00; 2026-04-05: from 02:00 +11:00 back to 01:30 +10:30.
		{"a gap of half an hour", "sun 02:15-03:00 Australia/Lord_Howe", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00"},
		{"a fold of half an hour", "sun 01:00-01:45 Australia/Lord_Howe", "2026-04-05T01:00:00+11:00", "2026-04-05T01:45:00+10:30"},
		// Ramadan 2026: back from 03:00 +01:00 to 02:00 +00:00 on 02-15, forth on 03-22.
		{"Casablanca's fold", "sun 02:30-03:30 Africa/Casablanca", "2026-02-15T02:30:00+01:00", "2026-02-15T03:30:00+00:00"},
		{"Casablanca's gap", "sun 02:30-03:30 Africa/Casablanca", "2026-03-22T03:00:00+01:00", "2026-03-22T03:30:00+01:00"},
		// 2018-11-04: the day began at 01:00. 2018-02-18: at 00:00 back to 23:00 of the day before.
		{"no midnight", "sun 00:00-06:00 America/Sao_Paulo", "2018-11-04T01:00:00-02:00", "2018-11-04T06:00:00-02:00"},
		{"to a midnight that is not there", "sat 22:00-24:00 America/Sao_Paulo", "2018-11-03T22:00:00-03:00", "2018-11-04T01:00:00-02:00"},
		{"the evening twice", "sat 22:00-24:00 America/Sao_Paulo", "2018-02-17T22:00:00-02:00", "2018-02-18T00:00:00-03:00"},
		{"the evening twice, overnight", "sat 23:30-00:30 America/Sao_Paulo", "2018-02-17T23:30:00-02:00", "2018-02-18T00:30:00-03:00"},
		// 2026-03-08: from 00:00 -05:00 to 01:00 -04:00; 2026-11-01: from 01:00 -04:00 back to 00:00 -05:00.
		{"Havana has no midnight", "sun 00:30-02:00 America/Havana", "2026-03-08T01:00:00-04:00", "2026-03-08T02:00:00-04:00"},
		{"Havana has two midnights", "sat 23:00-00:30 America/Havana", "2026-10-31T23:00:00-04:00", "2026-11-01T00:30:00-05:00"},
		// 2011-12-30 was left out: from 24:00 -10:00 of the 29th to 00:00 +14:00 of the 31st.
		{"into the lost day", "thu 22:00-04:00 Pacific/Apia", "2011-12-29T22:00:00-10:00", "2011-12-31T00:00:00+14:00"},
		{"out of the lost day", "fri 22:00-04:00 Pacific/Apia", "2011-12-31T00:00:00+14:00", "2011-12-31T04:00:00+14:00"},
		{"after the lost day", "sat 00:00-24:00 Pacific/Apia", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := schedule.Schedule{Windows: windows(t, c.window)}
			from, until := at(t, c.from), at(t, c.until)
			for _, look := range []struct {
				at   time.Time
				kind schedule.Kind
			}{
				{from.Add(-time.Nanosecond), schedule.Outside},
				{from, schedule.Open},
				{until.Add(-time.Nanosecond), schedule.Open},
				{until, schedule.Outside},
			} {
				state := s.At(look.at)
				if state.Kind != look.kind {
					t.Errorf("at %s: %+v", look.at, state)
				}
				if look.kind == schedule.Open && !state.Until.Equal(until) {
					t.Errorf("at %s: open until %s, want %s", look.at, state.Until, until)
				}
			}
			if state := s.At(from.Add(-time.Second)); !state.Next.Equal(from) || !state.Change.Equal(from) {
				t.Errorf("before: next %s, change %s, want %s", state.Next, state.Change, from)
			}
		})
	}
}

// Where no instant of a window exists, it opens a week later.
func TestNoOpening(t *testing.T) {
	for _, c := range []struct{ name, window, before, next string }{
		{"all in a gap", "sun 02:00-03:00 Europe/Berlin", "2026-03-29T00:00:00+01:00", "2026-04-05T02:00:00+02:00"},
		{"on the lost day", "fri 09:00-17:00 Pacific/Apia", "2011-12-24T00:00:00-10:00", "2012-01-06T09:00:00+14:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := schedule.Schedule{Windows: windows(t, c.window)}
			before, next := at(t, c.before), at(t, c.next)
			if state := s.At(before); state.Kind != schedule.Outside || !state.Next.Equal(next) {
				t.Errorf("%+v, want next %s", state, next)
			}
			for look := before; look.Before(next); look = look.Add(10 * time.Minute) {
				if state := s.At(look); state.Kind != schedule.Outside {
					t.Fatalf("at %s: %+v", look, state)
				}
			}
		})
	}
}

// What several windows and freezes say together, and what remains.
func TestAt(t *testing.T) {
	berlin := "Europe/Berlin"
	evenings := windows(t, "mon,wed 22:00-24:00 Europe/Berlin", "tue,thu 00:00-02:00 Europe/Berlin")
	for _, c := range []struct {
		name     string
		schedule schedule.Schedule
		at       string
		kind     schedule.Kind
		until    string
		next     string
		change   string
	}{
		{"always open", schedule.Schedule{}, "2026-11-22T12:00:00Z", schedule.Open, "", "", ""},
		{"always open, something has to remain", schedule.Schedule{MinRemaining: time.Hour}, "2026-11-22T12:00:00Z", schedule.Open, "", "", ""},
		{"all day, every day", schedule.Schedule{Windows: windows(t, "daily 00:00-24:00 Europe/Berlin"), MinRemaining: time.Hour},
			"2026-03-28T12:00:00Z", schedule.Open, "", "", ""},
		{"two halves of a day", schedule.Schedule{Windows: windows(t, "daily 06:00-18:00 Europe/Berlin", "daily 18:00-06:00 Europe/Berlin")},
			"2026-10-24T17:59:59Z", schedule.Open, "", "", ""},

		{"windows that touch are one", schedule.Schedule{Windows: evenings, MinRemaining: 3 * time.Hour},
			"2026-11-23T22:30:00+01:00", schedule.Open, "2026-11-24T02:00:00+01:00", "", "2026-11-23T23:00:00+01:00"},
		{"what remains is little", schedule.Schedule{Windows: evenings, MinRemaining: 3 * time.Hour},
			"2026-11-23T23:00:00+01:00", schedule.Ending, "2026-11-24T02:00:00+01:00", "2026-11-25T22:00:00+01:00", "2026-11-24T02:00:00+01:00"},
		{"overlapping, in two zones", schedule.Schedule{Windows: windows(t, "sun 10:00-14:00 UTC", "sun 14:30-15:30 Europe/Berlin")},
			"2026-11-22T10:30:00Z", schedule.Open, "2026-11-22T14:30:00Z", "", "2026-11-22T14:30:00Z"},
		{"what is too short is passed over", schedule.Schedule{Windows: windows(t, "mon 10:00-10:30 UTC", "tue 10:00-12:00 UTC"), MinRemaining: time.Hour},
			"2026-11-22T12:00:00Z", schedule.Outside, "", "2026-11-24T10:00:00Z", "2026-11-23T10:00:00Z"},
		{"nothing is long enough", schedule.Schedule{Windows: windows(t, "mon 10:00-10:30 UTC"), MinRemaining: time.Hour},
			"2026-11-22T12:00:00Z", schedule.Outside, "", "", "2026-11-23T10:00:00Z"},

		{"frozen without windows", schedule.Schedule{Freezes: []schedule.Freeze{freeze(t, "2026-12-20", "2026-12-31", berlin)}},
			"2026-12-31T23:59:59+01:00", schedule.Frozen, "2027-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"},
		{"before a freeze", schedule.Schedule{Freezes: []schedule.Freeze{freeze(t, "2026-12-20", "2026-12-31", berlin)}, MinRemaining: time.Hour},
			"2026-12-19T12:00:00+01:00", schedule.Open, "2026-12-20T00:00:00+01:00", "", "2026-12-19T23:00:00+01:00"},
		{"a freeze ends what a window leaves", schedule.Schedule{Windows: evenings, MinRemaining: 30 * time.Minute,
			Freezes: []schedule.Freeze{freeze(t, "2026-11-23 23:00", "2026-11-24 01:00", berlin)}},
			"2026-11-23T22:30:00+01:00", schedule.Ending, "2026-11-23T23:00:00+01:00", "2026-11-24T01:00:00+01:00", "2026-11-23T23:00:00+01:00"},
		{"frozen, and no window at its end", schedule.Schedule{Windows: evenings, Freezes: []schedule.Freeze{freeze(t, "2026-11-23", "2026-11-23", berlin)}},
			"2026-11-23T22:30:00+01:00", schedule.Frozen, "2026-11-24T00:00:00+01:00", "2026-11-24T00:00:00+01:00", "2026-11-24T00:00:00+01:00"},
		{"the longer of two freezes is told, and one that follows on counts", schedule.Schedule{Freezes: []schedule.Freeze{
			freeze(t, "2026-12-01", "2026-12-05", "UTC"), freeze(t, "2026-12-02", "2026-12-03", "UTC"), freeze(t, "2026-12-06", "2026-12-07", "UTC")}},
			"2026-12-02T12:00:00Z", schedule.Frozen, "2026-12-06T00:00:00Z", "2026-12-08T00:00:00Z", "2026-12-06T00:00:00Z"},
		{"a longer one begins in it", schedule.Schedule{Freezes: []schedule.Freeze{
			freeze(t, "2026-12-01", "2026-12-05", "UTC"), freeze(t, "2026-12-04", "2026-12-07", "UTC")}},
			"2026-12-02T12:00:00Z", schedule.Frozen, "2026-12-06T00:00:00Z", "2026-12-08T00:00:00Z", "2026-12-04T00:00:00Z"},
		{"outside, and a freeze comes before the window", schedule.Schedule{Windows: evenings, Freezes: []schedule.Freeze{freeze(t, "2026-11-23", "2026-12-31", berlin)}},
			"2026-11-22T12:00:00Z", schedule.Outside, "", "2027-01-04T22:00:00+01:00", "2026-11-23T00:00:00+01:00"},
		{"a freeze of ten years", schedule.Schedule{Windows: evenings, Freezes: []schedule.Freeze{freeze(t, "2026-11-22", "2036-11-23", berlin)}},
			"2026-11-22T12:00:00Z", schedule.Frozen, "2036-11-24T00:00:00+01:00", "2036-11-24T22:00:00+01:00", "2036-11-24T00:00:00+01:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := c.schedule.At(at(t, c.at))
			if state.Kind != c.kind {
				t.Errorf("kind %d, want %d", state.Kind, c.kind)
			}
			for _, moment := range []struct {
				name string
				got  time.Time
				want string
			}{{"until", state.Until, c.until}, {"next", state.Next, c.next}, {"change", state.Change, c.change}} {
				var want time.Time
				if moment.want != "" {
					want = at(t, moment.want)
				}
				if !moment.got.Equal(want) {
					t.Errorf("%s %s, want %s", moment.name, moment.got, want)
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	now := at(t, "2026-11-22T12:00:00Z")
	weekly := windows(t, "mon 10:00-10:30 UTC", "mon 10:30-11:00 UTC")
	for _, c := range []struct {
		schedule schedule.Schedule
		ok       bool
	}{
		{schedule.Schedule{MinRemaining: 24 * time.Hour}, true},
		{schedule.Schedule{Windows: weekly, MinRemaining: 59 * time.Minute}, true},
		{schedule.Schedule{Windows: weekly, MinRemaining: time.Hour}, false},
		{schedule.Schedule{Windows: weekly, Freezes: []schedule.Freeze{freeze(t, "2026-11-01", "2027-11-01", "UTC")}}, true},
	} {
		if err := c.schedule.Check(now); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.schedule, err)
		}
	}
}

func TestParseWindow(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, c := range []struct {
		days       []string
		start, end string
		want       string // or, after "!", a part of what the error says
	}{
		{[]string{"SUN", "Monday", "fri"}, "22:00", "04:00", "mon, fri, sun 22:00-04:00 Europe/Berlin"},
		{nil, "9:00", "24:00", "daily 09:00-24:00 Europe/Berlin"},
		{nil, "00:00", "24:00:00", "daily 00:00-24:00 Europe/Berlin"},
		{nil, "22:00:30", "00:00", "daily 22:00:30-24:00 Europe/Berlin"},
		{nil, "22:00", "22:00", `!start and end are both "22:00"`},
		{nil, "22:00", "22:00:00", `!start and end are both`},
		{nil, "00:00", "00:00", `!write "00:00" to "24:00"`},
		{nil, "24:00", "02:00", `!start "24:00" is a day's end`},
		{nil, "24:00", "24:00", `!start "24:00" is a day's end`},
		{nil, "25:00", "26:00", `!end "26:00" is not a time`},
		{nil, "", "02:00", `!start "" is not a time`},
		{nil, "10:00:00.5", "11:00", `!start "10:00:00.5" is not a time`},
		{nil, "10pm", "11:00 ", `!end "11:00 " is not a time`},
		{[]string{"fr", "someday"}, "10:00", "11:00", `!"someday" is not a day`},
		{[]string{strings.Repeat("x", 1000)}, "10:00", "11:00", `!…" is not a day`},
	} {
		w, err := schedule.ParseWindow(c.days, c.start, c.end, berlin)
		if part, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) || len(err.Error()) > 300 {
				t.Errorf("%v %q %q: error %v, want %q", c.days, c.start, c.end, err, part)
			}
		} else if err != nil || w.String() != c.want {
			t.Errorf("%v %q %q: %v, %v, want %s", c.days, c.start, c.end, w, err, c.want)
		}
	}
	if _, err := schedule.ParseWindow(nil, "10:00", "11:00", nil); err == nil {
		t.Error("a window without a zone")
	}
}

func TestParseFreeze(t *testing.T) {
	for _, c := range []struct{ from, until, zone, begins, ends string }{
		{"2026-12-20", "2027-01-02", "Europe/Berlin", "2026-12-20T00:00:00+01:00", "2027-01-03T00:00:00+01:00"},
		{"2026-12-20", "2026-12-20", "UTC", "2026-12-20T00:00:00Z", "2026-12-21T00:00:00Z"},
		{"2026-12-20 22:00", "2026-12-20 22:00:30", "Asia/Kolkata", "2026-12-20T16:30:00Z", "2026-12-20T16:30:30Z"},
		{"2026-12-20T22:00:00+01:00", "2026-12-21", "America/New_York", "2026-12-20T21:00:00Z", "2026-12-22T05:00:00Z"},
		{"2026-03-29 02:30", "2026-03-30", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T22:00:00Z"}, // from in a gap
		{"2026-03-28", "2026-03-29 02:30", "Europe/Berlin", "2026-03-27T23:00:00Z", "2026-03-29T01:00:00Z"}, // until in a gap
		{"2026-10-25 02:30", "2026-10-26", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T23:00:00Z"}, // from in a fold: the first
		{"2026-10-24", "2026-10-25 02:30", "Europe/Berlin", "2026-10-23T22:00:00Z", "2026-10-25T01:30:00Z"}, // until in a fold: the last
		{"2026-03-08", "2026-03-08", "America/Havana", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"},      // no midnight
		{"2011-12-30", "2011-12-31", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},        // no such day
		{"2026-12-20", "2026-12-19", "UTC", "", ""},
		{"2026-12-20 22:00", "2026-12-20 22:00", "UTC", "", ""},
		{"2011-12-30", "2011-12-30", "Pacific/Apia", "", ""},
		{"2026-13-20", "2026-12-19", "UTC", "", ""},
		{"2026-12-20", "soon", "UTC", "", ""},
		{"2026-12-20", "2026-12-21 10:00:00.5", "UTC", "", ""},
		{"", "", "UTC", "", ""},
	} {
		f, err := schedule.ParseFreeze(c.from, c.until, "why", zone(t, c.zone))
		if c.begins == "" {
			if err == nil {
				t.Errorf("%q to %q: %+v", c.from, c.until, f)
			}
			continue
		}
		if err != nil || !f.From.Equal(at(t, c.begins)) || !f.Until.Equal(at(t, c.ends)) || f.Reason != "why" {
			t.Errorf("%q to %q in %s: %+v, %v", c.from, c.until, c.zone, f, err)
		}
	}
	if _, err := schedule.ParseFreeze("2026-12-20", "2026-12-21", "", nil); err == nil {
		t.Error("a freeze without a zone")
	}
}
