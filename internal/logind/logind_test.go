package logind

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

func TestBlockInhibitors(t *testing.T) {
	f := fakelogin1.Start(t)
	m := Manager{Address: f.Address()}
	if got, err := m.BlockInhibitors(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("none held: %v, %v", got, err)
	}
	f.Inhibit("kubelet", "shutdown", "delay", "not this one")
	f.Inhibit("desktop", "sleep:idle", "block", "nor this one")
	f.Inhibit("lid", "handle-shutdown-key", "block", "nor one that only sounds like it")
	f.Inhibit("weak", "shutdown", "block-weak", "this one")
	f.Inhibit("future", "shutdown", "block-somehow", "and one of a kind that is yet to come")
	release := f.Inhibit("apt\x1b[2J", "idle:shutdown:sleep", "block", `upgrading "libc6"`)
	got, err := m.BlockInhibitors(t.Context())
	if err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v; want apt [2J, future and weak", got, err)
	}
	apt := got[0]
	apt.PID = 4711
	apt.UID = 0
	if text, want := apt.String(), `apt [2J (pid 4711, uid 0) blocks shutdown: "upgrading \"libc6\""`; text != want {
		t.Errorf("got %s, want %s", text, want)
	}
	release()
	if got, err := m.BlockInhibitors(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("after the release: %v, %v", got, err)
	}
}

func TestPreparingForShutdown(t *testing.T) {
	f := fakelogin1.Start(t)
	m := Manager{Address: f.Address()}
	if got, err := m.PreparingForShutdown(t.Context()); err != nil || got {
		t.Errorf("before: %t, %v", got, err)
	}
	if err := m.Reboot(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if got, err := m.PreparingForShutdown(t.Context()); err != nil || !got {
		t.Errorf("after: %t, %v", got, err)
	}
}

// queries are all calls that only read.
func queries(m Manager) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"CanReboot":       func(ctx context.Context) error { _, err := m.CanReboot(ctx); return err },
		"MayReboot":       m.MayReboot,
		"BlockInhibitors": func(ctx context.Context) error { _, err := m.BlockInhibitors(ctx); return err },
		"Preparing":       func(ctx context.Context) error { _, err := m.PreparingForShutdown(ctx); return err },
		"Watch":           func(ctx context.Context) error { _, err := m.WatchInhibitors(ctx); return err },
	}
}

func TestQueryErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		setUp func(*fakelogin1.Login1)
		text  string
	}{
		{"no bus", func(f *fakelogin1.Login1) { f.Bus().Kill() }, "connect to D-Bus"},
		{"no logind", func(f *fakelogin1.Login1) { f.Leave() }, "systemd-logind does not run"},
		{"refused", func(f *fakelogin1.Login1) {
			f.AnswerQueries(fakelogin1.Answer{Do: fakelogin1.Refuse, Error: nameAccessDenied, Message: "policy"})
		}, "policy"},
		{"cut", func(f *fakelogin1.Login1) { f.AnswerQueries(fakelogin1.Answer{Loss: fakelogin1.ClientsCut}) }, "broke"},
		{"killed", func(f *fakelogin1.Login1) { f.AnswerQueries(fakelogin1.Answer{Loss: fakelogin1.BusGone}) }, "broke"},
		{"vanished", func(f *fakelogin1.Login1) { f.AnswerQueries(fakelogin1.Answer{Loss: fakelogin1.LoginGone}) }, "without replying"},
	} {
		for _, query := range []string{"CanReboot", "MayReboot", "BlockInhibitors", "Preparing", "Watch"} {
			t.Run(test.name+"/"+query, func(t *testing.T) {
				t.Parallel()
				f := fakelogin1.Start(t)
				test.setUp(f)
				err := queries(Manager{Address: f.Address()})[query](t.Context())
				if err == nil || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v, want one with %q", err, test.text)
				}
			})
		}
	}
}

func TestQueriesEndWithContext(t *testing.T) {
	f := fakelogin1.Start(t)
	f.AnswerQueries(fakelogin1.Answer{Loss: fakelogin1.NeverAnswered})
	// A socket that accepts and never speaks: what a client sees of a bus that hangs.
	silent := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, address := range map[string]string{"logind hangs": f.Address(), "bus hangs": "unix:path=" + silent} {
		for query, ask := range queries(Manager{Address: address}) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %s: %v, want the error of the context", name, query, err)
			}
			cancel()
		}
	}
}

func TestMalformedAnswers(t *testing.T) {
	type row struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	for _, test := range []struct {
		name   string
		method string
		values []any
	}{
		{"a number", "CanReboot", []any{uint32(65)}},
		{"bytes", "CanReboot", []any{[]byte("yes")}},
		{"nothing", "CanReboot", nil},
		{"too much", "CanReboot", []any{"yes", "yes"}},
		{"a text", "ListInhibitors", []any{"shutdown"}},
		{"nothing", "ListInhibitors", nil},
		{"texts", "ListInhibitors", []any{[]string{"shutdown"}}},
		{"a field missing", "ListInhibitors", []any{[]struct{ What, Who, Why, Mode, UID string }{{What: "shutdown"}}}},
		{"a field of another type", "ListInhibitors", []any{[]struct {
			What, Who, Why, Mode string
			UID, PID             int64
		}{{What: "shutdown", Mode: "block"}}}},
		{"two lists", "ListInhibitors", []any{[]row{}, []row{}}},
	} {
		t.Run(test.method+"/"+test.name, func(t *testing.T) {
			f := fakelogin1.Start(t)
			if err := f.AnswerRaw(test.method, test.values...); err != nil {
				t.Fatal(err)
			}
			m := Manager{Address: f.Address()}
			var err error
			if test.method == "CanReboot" {
				_, err = m.CanReboot(t.Context())
			} else {
				_, err = m.BlockInhibitors(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), "ask logind for "+test.method) {
				t.Errorf("error %v, want one about the answer", err)
			}
		})
	}
	f := fakelogin1.Start(t)
	f.SetRawProperty("PreparingForShutdown", uint32(1))
	if _, err := (Manager{Address: f.Address()}).PreparingForShutdown(t.Context()); err == nil {
		t.Error("a number is taken for a truth")
	}
	f.SetCanReboot("challenge")
	if got, err := (Manager{Address: f.Address()}).CanReboot(t.Context()); err != nil || got != "challenge" {
		t.Errorf("the right type: %q, %v", got, err)
	}
}

func TestAddressIsExplicit(t *testing.T) {
	// Where a library might look for a bus by itself: there must be none of it.
	f := fakelogin1.Start(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", f.Address())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", f.Address())
	for _, address := range []string{"", "tcp:host=localhost,port=1", "autolaunch:", "unixexec:path=/bin/false", "unix:", "nonsense"} {
		m := Manager{Address: address}
		for name, ask := range queries(m) {
			if err := ask(t.Context()); err == nil {
				t.Errorf("address %q: %s found a bus", address, name)
			}
		}
		if err := m.Reboot(t.Context(), soon); class(t, err) != "refused" {
			t.Errorf("address %q: %v", address, err)
		}
	}
	if f.Calls() != 0 {
		t.Errorf("%d calls arrived", f.Calls())
	}
}

func TestWatchInhibitors(t *testing.T) {
	f := fakelogin1.Start(t)
	m := Manager{Address: f.Address()}
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := m.WatchInhibitors(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := func(what string, open bool) {
		t.Helper()
		select {
		case _, ok := <-changed:
			if ok != open {
				t.Errorf("%s: the channel is open: %t, want %t", what, ok, open)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing heard", what)
		}
	}
	release := f.Inhibit("apt", "shutdown", "block", "upgrading")
	next("taken", true)
	release()
	next("released", true)
	f.Inhibit("weak", "shutdown", "block-weak", "")
	next("a weak one", true)
	f.Inhibit("kubelet", "shutdown", "delay", "")
	select {
	case <-changed:
		t.Error("a delay inhibitor was told of")
	case <-time.After(50 * time.Millisecond):
	}
	f.SetVersion("257.13")
	f.Schedule("poweroff", time.Now().Add(time.Hour))
	next("scheduled", true)
	cancel()
	next("context ended", false)

	if changed, err = m.WatchInhibitors(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Bus().CutClients()
	next("connection cut", false)
	if changed, err = m.WatchInhibitors(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Leave()
	next("logind left", true)
	next("logind left", false)
	if err := f.Arrive(); err != nil {
		t.Fatal(err)
	}
	if changed, err = m.WatchInhibitors(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Bus().Kill()
	next("bus killed", false)
}

// Each call closes its connection and leaves no goroutine behind.
func TestNothingIsLeftBehind(t *testing.T) {
	f := fakelogin1.Start(t)
	m := Manager{Address: f.Address()}
	all := func() {
		for name, ask := range queries(m) {
			ctx, cancel := context.WithCancel(t.Context())
			if err := ask(ctx); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			cancel()
		}
		if err := m.Reboot(t.Context(), long); err != nil {
			t.Fatal(err)
		}
		f.Cancel()
		if err := m.AwaitCancelled(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all()
	const rounds, slack = 30, 15
	before := runtime.NumGoroutine()
	for range rounds {
		all()
	}
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before+slack {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before %d rounds", runtime.NumGoroutine(), before, rounds)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
