package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

var day = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// journal makes entries of lines such as "02:00:03 a cycle=a phase=locked the
// message": the time, the boot, fields, and the message. id is a word.
func journal(t *testing.T, lines string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		words := strings.Fields(line)
		at, err := time.Parse(time.TimeOnly, words[0])
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]string{
			"__REALTIME_TIMESTAMP": strconv.FormatInt(day.Add(at.Sub(at.Truncate(24*time.Hour))).UnixMicro(), 10),
			"_BOOT_ID":             words[1], "_MACHINE_ID": "m", "__CURSOR": "c",
		}
		for words = words[2:]; len(words) > 0; words = words[1:] {
			key, value, ok := strings.Cut(words[0], "=")
			if !ok {
				break
			}
			switch key {
			case "id":
				fields["MESSAGE_ID"] = telemetry.MessageID(value)
			case "machine":
				fields["_MACHINE_ID"] = value
			default:
				fields["KURED_"+strings.ToUpper(key)] = strings.ReplaceAll(value, "+", ", ")
			}
		}
		fields["MESSAGE"] = strings.Join(words, " ")
		if reason := fields["KURED_REASON"]; reason != "" {
			fields["MESSAGE"] += fmt.Sprintf(" (reason=%s)", reason)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(text, '\n'))
	}
	return b.String()
}

// told is a cycle in a few words.
func told(c Cycle) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s tries=%d %s:", c.ID, c.Began.Format(time.TimeOnly), c.Result, c.Tries, strings.Join(c.Packages, ","))
	for _, s := range c.Spans {
		fmt.Fprintf(&b, " %s %s", s.Phase, s.For)
	}
	for _, s := range c.Setbacks {
		fmt.Fprintf(&b, "; %s %s %s", s.At.Format(time.TimeOnly), s.Reason, s.Detail)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, journal string
		want          []string
	}{
		{"nothing", `01:00:00 a kured started`, nil},
		{"a good cycle", `
			01:59:00 a id=started kured started
			02:00:00 a cycle=a id=required packages=linux-image+libc6 wanted_since=2026-11-20T01:59:58Z reboot required
			02:00:03 a cycle=a node=n phase=queued reason=lock-full waiting for the lock: place 1 of 1
			02:01:03 a cycle=a node=n phase=locked lock taken
			02:01:04 a cycle=a node=n phase=draining node cordoned
			02:03:04 a cycle=a node=n phase=draining drained: 2 pods gone in 2m0s
			02:03:05 a cycle=a node=n phase=rebooting rebooting: everything checked, asking logind
			02:05:05 b id=started kured started
			02:05:06 b cycle=a node=n phase=returning rebooted: the boot id changed
			02:05:36 b cycle=a node=n phase=returning id=verified back in service: lock released
			02:05:37 b cycle=a node=n phase=returning what is said later`,
			[]string{"a 02:00:00 verified tries=1 linux-image,libc6: queued 1m3s locked 1s draining 2m1s rebooting 2m1s returning 30s"}},
		{"the first entry does not name the cycle", `
			02:00:00 a id=required packages=x reboot required
			02:00:03 a cycle=a phase=locked lock taken`,
			[]string{"a 02:00:00 running tries=1 x: queued 3s locked 0s"}},
		{"nor does the last one", `
			02:00:00 a id=required packages=x reboot required
			02:00:03 a cycle=a phase=queued waiting
			02:00:05 a id=not-required reboot not required any more
			03:00:00 b id=not-required reboot not required any more`,
			[]string{"a 02:00:00 abandoned tries=0 x: queued 5s"}},
		{"two tries, and a daemon that is restarted", `
			02:00:00 a cycle=a id=required reboot required
			02:00:01 a cycle=a phase=blocked reason=outside-window blocked: outside the windows
			03:00:00 a cycle=a phase=locked lock taken
			03:00:01 a cycle=a phase=draining node cordoned
			03:10:01 a id=started kured started
			03:10:02 a cycle=a id=required reboot required
			03:30:01 a cycle=a phase=rolling-back reason=drain-timeout rolling-back: pod shop/web-7 is held
			03:30:02 a cycle=a phase=rolling-back reason=drain-timeout rolled back: uncordoned, lock released, next try in 5m0s
			03:35:02 a cycle=a phase=locked lock taken
			03:35:02 a cycle=a phase=draining node cordoned
			03:36:02 a cycle=a phase=rebooting rebooting
			03:37:02 b cycle=a phase=returning id=verified back`,
			[]string{"a 02:00:00 verified tries=2 : blocked 59m59s queued 1s locked 1s draining 31m0s rebooting 1m0s returning 0s rolling-back 1s backing-off 5m0s; " +
				"03:30:01 drain-timeout pod shop/web-7 is held"}},
		{"wanted, not wanted, wanted", `
			02:00:00 a cycle=a id=required reboot required
			02:00:10 a cycle=a phase=locked lock taken
			02:00:20 a cycle=a id=not-required reboot not required any more
			02:00:20 a cycle=a phase=rolling-back reason=sentinel-gone rolling-back: the reboot is not required any more
			02:00:21 a cycle=a phase=rolling-back reason=sentinel-gone rolled back: lock released
			04:00:00 a cycle=a id=required reboot required
			04:00:01 a cycle=a phase=blocked reason=paused blocked: paused`,
			[]string{
				"a 02:00:00 abandoned tries=1 : queued 10s locked 10s rolling-back 1s; 02:00:20 sentinel-gone the reboot is not required any more",
				"a 04:00:00 running tries=0 : blocked 0s queued 1s",
			}},
		{"not well in time, and the lock released by an admin", `
			02:00:00 a cycle=a id=required reboot required
			02:00:00 a cycle=a phase=rebooting rebooting
			02:10:00 b cycle=a phase=returning rebooted
			02:40:00 b cycle=a phase=returning reason=gave-up the way back takes too long
			03:00:00 b cycle=a phase=returning reason=lock-lost back in service
			04:00:00 b cycle=b id=required reboot required
			04:00:00 b cycle=b phase=rebooting rebooting
			04:05:00 c cycle=b phase=returning rebooted
			04:06:00 c cycle=b phase=returning reason=lock-lost back in service: admin released it`,
			[]string{
				"a 02:00:00 gave-up tries=0 : rebooting 10m0s returning 30m0s; 02:40:00 gave-up the way back takes too long",
				"b 04:00:00 verified tries=0 : rebooting 5m0s returning 1m0s",
			}},
		{"the power is cut", `
			02:00:00 a cycle=a id=required reboot required
			02:00:00 a cycle=a phase=queued reason=lock-full waiting
			03:00:00 b id=started kured started`,
			[]string{"a 02:00:00 unfinished tries=0 : queued 0s"}},
		{"the power is cut in the drain", `
			02:00:00 a cycle=a phase=draining node cordoned
			03:00:00 b id=started kured started`,
			[]string{"a 02:00:00 running tries=0 : draining 0s"}},
		{"of another boot, and forgotten", `
			02:00:00 a cycle=a phase=draining node cordoned
			03:00:00 b cycle=b id=required reboot required`,
			[]string{"a 02:00:00 unfinished tries=0 : draining 0s", "b 03:00:00 running tries=0 : queued 0s"}},
		{"the clock goes back", `
			02:00:00 a cycle=a phase=draining node cordoned
			02:10:00 a cycle=a phase=rebooting rebooting
			01:00:00 b cycle=a phase=returning rebooted
			01:00:30 b cycle=a phase=returning id=verified back`,
			[]string{"a 02:00:00 verified tries=0 : draining 10m0s returning 30s"}},
		{"two machines", `
			02:00:00 a cycle=a machine=m1 phase=draining node cordoned
			02:00:01 b cycle=b machine=m2 phase=queued waiting
			02:00:02 a cycle=a machine=m1 phase=rebooting rebooting
			02:00:03 b cycle=b machine=m2 phase=locked lock taken`,
			[]string{"a 02:00:00 running tries=0 : draining 2s rebooting 0s", "b 02:00:01 running tries=1 : queued 2s locked 0s"}},
		{"words of a later kured", `
			02:00:00 a cycle=a phase=dancing reason=tired x
			02:00:05 a cycle=a phase=locked lock taken`,
			[]string{"a 02:00:00 running tries=1 : locked 0s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, err := Read(iotest.OneByteReader(strings.NewReader(journal(t, c.journal))), time.Time{}, 100)
			if err != nil || log.Unread != 0 {
				t.Fatalf("%d unread, error %v", log.Unread, err)
			}
			var got []string
			for _, cycle := range log.Cycles {
				got = append(got, told(cycle))
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestLastAndSince(t *testing.T) {
	var text strings.Builder
	for i := range 5 {
		text.WriteString(journal(t, fmt.Sprintf("0%d:00:00 b%d cycle=b%d phase=draining x\n0%d:30:00 b%d cycle=b%d phase=rebooting x", i, i, i, i, i, i)))
	}
	for _, c := range []struct {
		since time.Time
		last  int
		want  string
	}{
		{time.Time{}, 100, "b0 b1 b2 b3 b4"},
		{time.Time{}, 2, "b3 b4"},
		{time.Time{}, 0, "b4"},
		{day.Add(3*time.Hour + 20*time.Minute), 100, "b3 b4"},
		{day.Add(9 * time.Hour), 100, ""},
	} {
		log, err := Read(strings.NewReader(text.String()), c.since, c.last)
		var got []string
		for _, cycle := range log.Cycles {
			got = append(got, cycle.ID)
		}
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("since %v, last %d: %v, want %s, error %v", c.since, c.last, got, c.want, err)
		}
	}
}

// What cannot be read is counted, and hides nothing else.
func TestUnread(t *testing.T) {
	good := journal(t, "02:00:00 a cycle=a phase=draining x")
	text := "\n" + good + "no json\n[]\n{}\n" + `{"__REALTIME_TIMESTAMP":"-1"}` + "\n" + `{"__REALTIME_TIMESTAMP":"99999999999999999999"}` + "\n" +
		`{"MESSAGE":"` + strings.Repeat("x", maxLine) + `"}` + "\n" + strings.ReplaceAll(good, "draining", "rebooting")
	log, err := Read(strings.NewReader(text), time.Time{}, 10)
	if err != nil || log.Unread != 6 || len(log.Cycles) != 1 || log.Cycles[0].Phase != status.Rebooting {
		t.Errorf("%+v, error %v", log, err)
	}
	broken := errors.New("broken pipe")
	log, err = Read(io.MultiReader(strings.NewReader(good), iotest.ErrReader(broken)), time.Time{}, 10)
	if !errors.Is(err, broken) || len(log.Cycles) != 1 {
		t.Errorf("%+v, error %v", log, err)
	}
}

// The forms that journalctl gives values: too long, not printable, several times.
func TestValues(t *testing.T) {
	for value, want := range map[string]string{
		`"a\tb\u001b[0m"`: "a b [0m", `null`: "", `[104,105,10,255]`: "hi", `["one","two"]`: "one", `[[104,105],"x"]`: "hi",
		`[]`: "", `17`: "", `{"a":[]}`: "", `[[["x"]]]`: "", `[104,"x"]`: "",
	} {
		e, err := parse([]byte(`{"__REALTIME_TIMESTAMP":"1","KURED_NODE":` + value + `}`))
		if err != nil || e.node != want {
			t.Errorf("%s: %q, want %q, error %v", value, e.node, want, err)
		}
	}
}

func TestJSON(t *testing.T) {
	log, err := Read(strings.NewReader(journal(t, `
		02:00:00 a cycle=a node=n id=required packages=x wanted_since=2026-11-20T01:00:00Z reboot required
		02:00:01 a cycle=a node=n phase=rolling-back reason=drain-timeout rolling-back: too long`)), time.Time{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(log)
	const want = `{"cycles":[{"cycle":"a","node":"n","began":"2026-11-20T02:00:00Z","wanted":"2026-11-20T01:00:00Z","last":"2026-11-20T02:00:01Z","seconds":1,` +
		`"packages":["x"],"tries":0,"result":"running","phase":"rolling-back","phases":[{"phase":"queued","seconds":1},{"phase":"rolling-back","seconds":0}],` +
		`"setbacks":[{"at":"2026-11-20T02:00:01Z","reason":"drain-timeout","detail":"too long"}]}],"unread":0}`
	if err != nil || string(got) != want {
		t.Errorf("%s, error %v\nwant %s", got, err, want)
	}
	if got, err := json.Marshal(Log{Cycles: []Cycle{}}); string(got) != `{"cycles":[],"unread":0}` || err != nil {
		t.Errorf("%s, error %v", got, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"__REALTIME_TIMESTAMP":"1","_BOOT_ID":"a","KURED_CYCLE":"a","KURED_PHASE":"rolling-back","KURED_PACKAGES":["a, b"],"MESSAGE":[27,10]}`+"\n"), 3)
	f.Add([]byte("{\"__REALTIME_TIMESTAMP\":\"2\",\"KURED_CYCLE\":\"a\",\"KURED_REASON\":\"gave-up\"}\nx"), 0)
	f.Fuzz(func(t *testing.T, text []byte, last int) {
		log, err := Read(bytes.NewReader(text), time.Time{}, last)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")) + 1; log.Unread > lines || len(log.Cycles) > min(lines, max(last, 1)) {
			t.Fatalf("%d cycles and %d unread of %d lines", len(log.Cycles), log.Unread, lines)
		}
		for _, c := range log.Cycles {
			var sum time.Duration
			for _, s := range c.Spans {
				if s.For < 0 || !s.Phase.Known() {
					t.Fatalf("%+v", s)
				}
				sum += s.For
			}
			if sum != c.Took() || c.ID == "" || c.Result == "" || len(c.Setbacks) > maxSetbacks || len(c.Packages) > maxPackages {
				t.Fatalf("%+v", c)
			}
		}
		if _, err := json.Marshal(log); err != nil {
			t.Fatal(err)
		}
	})
}
