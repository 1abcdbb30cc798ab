package logind

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

const message = "a new kernel"

// announcer is a fake logind of a version of systemd, and who announces to it.
func announcer(t *testing.T, version string) (*fakelogin1.Login1, Manager) {
	t.Helper()
	f := fakelogin1.Start(t)
	f.SetVersion(version)
	return f, Manager{Address: f.Address(), ScheduleFile: f.ScheduleFile()}
}

// announcedAt reports when something is scheduled, and fails the test if that would reboot anything.
func announcedAt(t *testing.T, f *fakelogin1.Login1) (at time.Time, there bool) {
	t.Helper()
	kind, at, dry := f.Scheduled()
	if kind != "" && (kind != "reboot" || !dry) {
		t.Errorf("a real %s is scheduled", kind)
	}
	return at, kind != ""
}

// until waits for something that has to come.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func TestAnnounce(t *testing.T) {
	for _, version := range []string{"247.3", "252.39", "257.13"} {
		t.Run(version, func(t *testing.T) {
			f, m := announcer(t, version)
			at := time.Now().Add(time.Minute)
			if err := m.Announce(t.Context(), at, message); err != nil {
				t.Fatal(err)
			}
			shown, there := announcedAt(t, f)
			if late := shown.Sub(at); !there || late < leeway-time.Second || late > leeway+time.Second {
				t.Errorf("shown %t, %s after the time", there, late)
			}
			if walls := f.Walls(); len(walls) != 1 || !strings.HasPrefix(walls[0], message+"\n") {
				t.Errorf("told %q", walls)
			}
			if _, err := os.Stat(m.ScheduleFile); !os.IsNotExist(err) {
				t.Errorf("logind would read it when it is restarted: %v", err)
			}
			// By another process, for another time.
			if err := m.Announce(t.Context(), at.Add(time.Hour), message); err != nil {
				t.Fatal(err)
			}
			if later, _ := announcedAt(t, f); later.Sub(shown) != time.Hour {
				t.Errorf("shown %s later, want an hour", later.Sub(shown))
			}
			if err := m.Withdraw(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, there := announcedAt(t, f); there || f.WallMessage() != "" {
				t.Errorf("withdrawn, and still there: %t, message %q", there, f.WallMessage())
			}
			if walls := f.Walls(); !strings.Contains(walls[len(walls)-1], "cancelled") {
				t.Errorf("told last %q", walls[len(walls)-1])
			}
		})
	}
}

func TestAnnounceErrors(t *testing.T) {
	type answer = fakelogin1.Answer
	answers := func(a answer) func(*fakelogin1.Login1, *Manager) {
		return func(f *fakelogin1.Login1, _ *Manager) { f.AnswerSchedule(a) }
	}
	for _, test := range []struct {
		name  string
		setUp func(*fakelogin1.Login1, *Manager)
		text  string
		no    bool // a RefusedError
		walls int
	}{
		{name: "refused", text: "no permission", no: true, setUp: answers(answer{Do: fakelogin1.Refuse, Error: nameAccessDenied, Message: "no permission"})},
		{name: "block inhibitor, systemd 257", text: "systemd-inhibit --list", no: true, setUp: func(f *fakelogin1.Login1, _ *Manager) {
			f.RefuseWhenBlocked(true)
			f.Inhibit("apt", "shutdown", "block", "upgrading")
		}},
		{name: "no logind", text: "does not run", no: true, setUp: func(f *fakelogin1.Login1, _ *Manager) { f.Leave() }},
		{name: "no bus", text: "connect to D-Bus", setUp: func(f *fakelogin1.Login1, _ *Manager) { f.Bus().Kill() }},
		{name: "scheduled, reply lost", text: "broke", walls: 2, setUp: answers(answer{Loss: fakelogin1.ClientsCut})},
		{name: "scheduled, never answered", text: "deadline", walls: 2, setUp: answers(answer{Loss: fakelogin1.NeverAnswered})},
		{name: "scheduled, logind gone", text: "could not be withdrawn", walls: 1, setUp: answers(answer{Loss: fakelogin1.LoginGone})},
		{name: "scheduled, bus gone", text: "could not be withdrawn", walls: 1, setUp: answers(answer{Loss: fakelogin1.BusGone})},
		{name: "file is elsewhere", text: "when logind is restarted", walls: 2, setUp: func(_ *fakelogin1.Login1, m *Manager) { m.ScheduleFile += ".new" }},
		{name: "file is of another schedule", text: "tells of another shutdown", walls: 2, setUp: func(_ *fakelogin1.Login1, m *Manager) {
			m.ScheduleFile = filepath.Join(t.TempDir(), "scheduled")
			if err := os.WriteFile(m.ScheduleFile, []byte("USEC=1\nMODE=reboot\n"), 0o600); err != nil {
				t.Error(err)
			}
		}},
		{name: "no file given", text: "no file given", setUp: func(_ *fakelogin1.Login1, m *Manager) { m.ScheduleFile = "" }},
		{name: "property of another type", text: "ask logind for ScheduledShutdown", setUp: func(f *fakelogin1.Login1, _ *Manager) { f.SetRawProperty("ScheduledShutdown", "reboot") }},
		{name: "property with another field", text: "ask logind for ScheduledShutdown", setUp: func(f *fakelogin1.Login1, _ *Manager) {
			f.SetRawProperty("ScheduledShutdown", struct{ A, B string }{"reboot", "soon"})
		}},
		{name: "property with one field", text: "1 values in the answer", setUp: func(f *fakelogin1.Login1, _ *Manager) {
			f.SetRawProperty("ScheduledShutdown", struct{ A string }{"reboot"})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, m := announcer(t, "252.39")
			test.setUp(f, &m)
			within := long
			if test.text == "deadline" {
				within = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			err := m.Announce(ctx, time.Now().Add(time.Minute), message)
			if err == nil || !strings.Contains(err.Error(), test.text) || refusal(err) != test.no && test.name != "no logind" {
				t.Errorf("error %v, want one with %q", err, test.text)
			}
			if len(f.Walls()) != test.walls {
				t.Errorf("told %q", f.Walls())
			}
			if strings.Contains(test.text, "withdrawn") {
				_ = f.Arrive() // The bus may be gone; but if not, the new logind knows of nothing.
			}
			if _, there := announcedAt(t, f); there && !strings.HasSuffix(test.name, "bus gone") {
				t.Error("it stands")
			}
			if f.Reboots() != 0 {
				t.Error("rebooted")
			}
		})
	}
}

// What a person has scheduled is not touched.
func TestAnnounceBesideAPerson(t *testing.T) {
	f, m := announcer(t, "252.39")
	at := time.Now().Add(time.Hour)
	f.Schedule("poweroff", at)
	var other *ScheduledError
	if err := m.Announce(t.Context(), time.Now().Add(time.Minute), message); !errors.As(err, &other) ||
		other.Type != "poweroff" || other.At.Sub(at).Abs() > time.Millisecond {
		t.Errorf("%v, want a ScheduledError", err)
	}
	if err := m.Withdraw(t.Context()); err != nil {
		t.Error(err)
	}
	if kind, _, _ := f.Scheduled(); kind != "poweroff" {
		t.Errorf("scheduled is now %q", kind)
	}
}

func TestAwaitAnnounced(t *testing.T) {
	type fake = fakelogin1.Login1
	restart := func(t *testing.T, f *fake) {
		f.Leave()
		if err := f.Arrive(); err != nil {
			t.Error(err)
		}
	}
	anew := func(t *testing.T, f *fake) {
		restart(t, f)
		until(t, "to be announced anew", func() bool {
			_, dry := announcedAt(t, f)
			_, err := os.Stat(f.ScheduleFile())
			return dry && os.IsNotExist(err)
		})
	}
	for _, test := range []struct {
		name    string
		version string
		in      time.Duration
		before  func(*testing.T, *fake) // after Announce
		during  func(*testing.T, *fake) // when AwaitAnnounced waits
		stands  bool                    // at the end
		want    error                   // nil: the time has come
		text    string
	}{
		{name: "its time comes", version: "252.39", in: soon, stands: true},
		{name: "its time has passed", version: "252.39", in: -time.Second, stands: true},
		{name: "cancelled", version: "247.3", in: time.Minute, want: ErrAnnouncementCancelled, during: func(_ *testing.T, f *fake) { f.Unschedule() }},
		{name: "cancelled, signalled", version: "257.13", in: time.Minute, want: ErrAnnouncementCancelled, during: func(_ *testing.T, f *fake) { f.Unschedule() }},
		{name: "connection cut", version: "252.39", in: time.Second, stands: true, during: func(_ *testing.T, f *fake) { f.Bus().CutClients() }},
		{name: "connection cut and cancelled", version: "252.39", in: time.Minute, want: ErrAnnouncementCancelled, during: func(_ *testing.T, f *fake) {
			f.Bus().CutClients()
			f.Unschedule()
		}},
		{name: "logind restarted, systemd 247", version: "247.3", in: time.Minute, want: context.Canceled, stands: true, during: anew},
		{name: "logind restarted, systemd 252", version: "252.39", in: time.Minute, want: context.Canceled, stands: true, during: anew},
		{name: "logind restarted, systemd 257", version: "257.13", in: time.Minute, want: context.Canceled, stands: true, during: anew},
		{name: "logind gone", version: "252.39", in: soon, before: func(_ *testing.T, f *fake) { f.Leave() }, text: "does not run"},
		{name: "bus gone", version: "252.39", in: soon, before: func(_ *testing.T, f *fake) { f.Bus().Kill() }, text: "connect to D-Bus"},
		{name: "restarted, and a block inhibitor is held", version: "257.13", in: time.Minute, text: "systemd-inhibit --list", during: func(t *testing.T, f *fake) {
			f.RefuseWhenBlocked(true)
			f.Inhibit("apt", "shutdown", "block", "upgrading")
			restart(t, f)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, m := announcer(t, test.version)
			at := time.Now().Add(test.in)
			if err := m.Announce(t.Context(), at, message); err != nil {
				t.Fatal(err)
			}
			if test.before != nil {
				test.before(t, f)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- m.AwaitAnnounced(ctx, at, message) }()
			if test.during != nil {
				until(t, "to look", func() bool { return f.Asked("ScheduledShutdown") > 1 }) // Announce looks once.
				test.during(t, f)
			}
			if errors.Is(test.want, context.Canceled) {
				cancel()
			}
			err := <-result
			switch {
			case test.want != nil && !errors.Is(err, test.want), test.text != "" && (err == nil || !strings.Contains(err.Error(), test.text)),
				test.want == nil && test.text == "" && err != nil:
				t.Errorf("%v, want %v %s", err, test.want, test.text)
			}
			if err == nil && time.Now().Before(at) {
				t.Error("too early")
			}
			if _, there := announcedAt(t, f); there != test.stands && test.before == nil {
				t.Errorf("stands: %t", there)
			}
			if _, err := os.Stat(m.ScheduleFile); !os.IsNotExist(err) {
				t.Errorf("logind would read it when it is restarted: %v", err)
			}
			f.Elapse()
			if f.Reboots() != 0 || f.Calls() != 0 {
				t.Errorf("%d reboots after %d calls", f.Reboots(), f.Calls())
			}
		})
	}
}

// A person who schedules something else means that.
func TestAwaitAnnouncedReplaced(t *testing.T) {
	f, m := announcer(t, "257.13")
	at := time.Now().Add(time.Minute)
	if err := m.Announce(t.Context(), at, message); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- m.AwaitAnnounced(t.Context(), at, message) }()
	f.Schedule("reboot", at.Add(time.Hour).Truncate(time.Second))
	for _, when := range []string{"before its time", "at its time"} {
		var other *ScheduledError
		if err := <-result; !errors.Is(err, ErrAnnouncementCancelled) || !errors.As(err, &other) || other.Type != "reboot" {
			t.Errorf("%s: %v, want what was scheduled instead", when, err)
		}
		result <- m.AwaitAnnounced(t.Context(), time.Now(), message)
	}
	if err := m.Withdraw(t.Context()); err != nil {
		t.Error(err)
	}
	if kind, _, dry := f.Scheduled(); kind != "reboot" || dry {
		t.Errorf("scheduled is now %q", kind)
	}
}

// A person who reboots the machine does not wait for the announced time.
func TestAwaitAnnouncedOvertaken(t *testing.T) {
	f, m := announcer(t, "252.39")
	f.Inhibit("kubelet", "shutdown", "delay", "pods first")
	at := time.Now().Add(time.Minute)
	if err := m.Announce(t.Context(), at, message); err != nil {
		t.Fatal(err)
	}
	if err := m.Reboot(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	err := m.AwaitAnnounced(t.Context(), at, message)
	if !errors.Is(err, ErrAnnouncementCancelled) || !strings.Contains(err.Error(), "somebody shuts this machine down (reboot)") {
		t.Error(err)
	}
}

// The clock on the wall is set: the delay stays, and what is shown follows the clock.
func TestAwaitAnnouncedClockSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"forward": 3 * time.Hour, "back": -3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m := announcer(t, "252.39")
			var offset atomic.Int64
			m.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
			at := time.Now().Add(time.Minute)
			if err := m.Announce(t.Context(), at, message); err != nil {
				t.Fatal(err)
			}
			first, _ := announcedAt(t, f)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- m.AwaitAnnounced(ctx, at, message) }()
			until(t, "to look", func() bool { return f.Asked("ScheduledShutdown") > 1 }) // by the old clock
			offset.Store(int64(by))
			f.SetClock(by)
			until(t, "to be announced anew", func() bool {
				now, there := announcedAt(t, f)
				return there && (now.Sub(first)-by).Abs() <= jump
			})
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if f.Reboots() != 0 {
				t.Error("rebooted")
			}
		})
	}
}

func TestAwaitAnnouncedContext(t *testing.T) {
	f, m := announcer(t, "252.39")
	at := time.Now().Add(time.Minute)
	if err := m.Announce(t.Context(), at, message); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := m.AwaitAnnounced(ctx, at, message); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, there := announcedAt(t, f); !there {
		t.Error("gone; it is for the caller to withdraw it")
	}
}

// logind goes on showing a reboot that it took back, or that failed: nobody has scheduled that.
func TestAnnounceAfterAReboot(t *testing.T) {
	for name, fail := range map[string]func(*testing.T, *fakelogin1.Login1, Manager){
		"taken back": func(t *testing.T, f *fakelogin1.Login1, m Manager) {
			f.Inhibit("kubelet", "shutdown", "delay", "pods first")
			if err := m.Reboot(t.Context(), long); err != nil {
				t.Error(err)
			}
			if err := m.Announce(t.Context(), time.Now().Add(time.Minute), message); err == nil || !strings.Contains(err.Error(), "somebody shuts this machine down (reboot)") {
				t.Errorf("under way: %v", err)
			}
			f.Cancel()
		},
		"failed": func(t *testing.T, f *fakelogin1.Login1, m Manager) {
			f.AnswerReboot(fakelogin1.Answer{Do: fakelogin1.FailLate, Error: nameAccessDenied, Message: "masked"})
			if err := m.Reboot(t.Context(), long); !refusal(err) {
				t.Error(err)
			}
		},
		"its time has passed": func(_ *testing.T, f *fakelogin1.Login1, _ Manager) {
			f.SetRawProperty("ScheduledShutdown", struct {
				Type string
				Usec uint64
			}{"poweroff", uint64(time.Now().Add(-time.Minute).UnixMicro())})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, m := announcer(t, "252.39")
			fail(t, f, m)
			if err := m.Announce(t.Context(), time.Now().Add(time.Minute), message); err != nil {
				t.Error(err)
			}
			if _, _, dry := f.Scheduled(); !dry {
				t.Error("not announced")
			}
		})
	}
}

// The call that reboots takes the place of the announcement.
func TestRebootAfterAnnouncement(t *testing.T) {
	f, m := announcer(t, "257.13")
	at := time.Now()
	if err := m.Announce(t.Context(), at, message); err != nil {
		t.Fatal(err)
	}
	if err := m.AwaitAnnounced(t.Context(), at, message); err != nil {
		t.Fatal(err)
	}
	if err := m.Reboot(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	walls := f.Walls()
	if last := walls[len(walls)-1]; !strings.Contains(last, message) || !strings.Contains(last, "now") || f.Reboots() != 1 {
		t.Errorf("%d reboots, told last %q", f.Reboots(), last)
	}
}

func TestTell(t *testing.T) {
	f, m := announcer(t, "252.39")
	for _, test := range []struct{ message, want string }{
		{"a new\tkernel\x1b[2J\nsee you\n", "a new kernel [2J\nsee you"},
		{strings.Repeat("line\n", 20), strings.TrimSuffix(strings.Repeat("line\n", 10), "\n")},
		{"", ""},
	} {
		if err := m.Tell(t.Context(), test.message); err != nil || f.WallMessage() != test.want {
			t.Errorf("%q: %q, %v", test.message, f.WallMessage(), err)
		}
	}
	long := strings.Repeat(strings.Repeat("ÄÖÜ€", 60)+"\n", 9)
	if err := m.Tell(t.Context(), long); err != nil || len(f.WallMessage()) < 4000 {
		t.Errorf("a long one: %v, %d bytes", err, len(f.WallMessage()))
	}
	f.Leave()
	if err := m.Tell(t.Context(), message); err == nil {
		t.Error("told nobody")
	}
}

func TestCanAnnounce(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]bool{
		filepath.Join(dir, "scheduled"):      true, // which is not there yet
		filepath.Join(dir, "no", "such dir"): false,
		"":                                   false,
	} {
		if err := (Manager{ScheduleFile: path}).CanAnnounce(); (err == nil) != want {
			t.Errorf("%q: %v", path, err)
		}
	}
}
