package hook

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakesystemd1"
)

const unitName = "kured-hook@pre-drain.service"

// newRunner has one hook for PreDrain, which a fake systemd plays.
func newRunner(t *testing.T, service fakesystemd1.Service) (Runner, *fakesystemd1.Systemd) {
	t.Helper()
	systemd := fakesystemd1.Start(t, service)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "pre-drain.d", "10-hook"), "", 0o755)
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	return Runner{Address: systemd.Address(), Directory: dir, EnvDirectory: run, Timeout: time.Minute, reconnect: 20 * time.Millisecond}, systemd
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

func always(ending fakesystemd1.Ending) fakesystemd1.Service {
	return func(context.Context, string) fakesystemd1.Ending { return ending }
}

// until plays a service that ends well when released, and is killed when it is stopped.
func until(release <-chan struct{}) fakesystemd1.Service {
	return func(ctx context.Context, _ string) fakesystemd1.Ending {
		select {
		case <-release:
			return fakesystemd1.Exited(0, "")
		case <-ctx.Done():
			return fakesystemd1.Ending{Result: "success", Code: 2, Status: int32(syscall.SIGTERM)}
		}
	}
}

func calls(t *testing.T, systemd *fakesystemd1.Systemd, starts, stops int) {
	t.Helper()
	if a, o := systemd.Calls(); a != starts || o != stops {
		t.Errorf("%d starts and %d stops, want %d and %d", a, o, starts, stops)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("still not: %s", what) // perhaps not in the test's own goroutine
			return
		}
	}
}

func TestRunEndings(t *testing.T) {
	for _, test := range []struct {
		name   string
		ending fakesystemd1.Ending
		want   string // of the error; "" none
		reason status.Reason
		failed *FailedError
	}{
		{name: "all well", ending: fakesystemd1.Exited(0, "")},
		{name: "not now", ending: fakesystemd1.Exited(75, "20-flush: exit code 75, not now"),
			want: "not now: 20-flush: exit code 75, not now", reason: status.HookDeferred},
		{name: "not now, where an administrator takes it for a failure",
			ending: fakesystemd1.Ending{Result: "exit-code", Code: 1, Status: 75}, want: "not now", reason: status.HookDeferred},
		{name: "failed", ending: fakesystemd1.Exited(1, "20-flush: exit code 3"), want: "exit-code 1): 20-flush: exit code 3",
			reason: status.HookFailed, failed: &FailedError{Result: "exit-code", Code: 1, Detail: "20-flush: exit code 3"}},
		{name: "text is made printable", ending: fakesystemd1.Exited(1, "a\x1b[2J\nb"), want: "): a [2J b",
			reason: status.HookFailed, failed: &FailedError{Result: "exit-code", Code: 1, Detail: "a [2J b"}},
		{name: "signal", ending: fakesystemd1.Ending{Result: "signal", Code: 2, Status: 9}, want: "signal 9",
			reason: status.HookFailed, failed: &FailedError{Result: "signal", Code: 9}},
		{name: "time-out of the unit", ending: fakesystemd1.Ending{Result: "timeout", Code: 2, Status: 15}, want: "timeout",
			reason: status.HookFailed, failed: &FailedError{Result: "timeout", Code: 15}},
		{name: "out of memory", ending: fakesystemd1.Ending{Result: "oom-kill", Code: 2, Status: 9}, want: "oom-kill",
			reason: status.HookFailed, failed: &FailedError{Result: "oom-kill", Code: 9}},
		{name: "somebody stops it, which is success to systemd",
			ending: fakesystemd1.Ending{Result: "success", Code: 2, Status: 15}, want: "signal 15",
			reason: status.HookFailed, failed: &FailedError{Result: "signal", Code: 15}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, systemd := newRunner(t, always(test.ending))
			err := r.Run(t.Context(), PreDrain, nil)
			calls(t, systemd, 1, 0)
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrNotNow) != (test.failed == nil) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			var reasoned interface{ Reason() status.Reason }
			if !errors.As(err, &reasoned) || reasoned.Reason() != test.reason {
				t.Errorf("reason of %v is not %s", err, test.reason)
			}
			var failed *FailedError
			if test.failed != nil {
				test.failed.Phase, test.failed.Unit = PreDrain, unitName
				if !errors.As(err, &failed) || *failed != *test.failed {
					t.Errorf("got %+v, want %+v", failed, test.failed)
				}
			}
		})
	}
}

// The environment is there before the unit starts.
func TestRunWritesEnvironment(t *testing.T) {
	seen := make(chan string, 1)
	r, systemd := newRunner(t, nil)
	systemd.Play(func(context.Context, string) fakesystemd1.Ending {
		text, err := os.ReadFile(filepath.Join(r.EnvDirectory, "hook-pre-drain.env"))
		if err != nil {
			t.Error(err)
		}
		seen <- string(text)
		return fakesystemd1.Exited(0, "")
	})
	env := map[string]string{"KURED_NODE": "node-a", "KURED_REASON": "libc6\nlinux \"x\"", "KURED_HOOK": "other"}
	if err := r.Run(t.Context(), PreDrain, env); err != nil {
		t.Fatal(err)
	}
	want := "KURED_HOOK=\"pre-drain\"\nKURED_NODE=\"node-a\"\nKURED_REASON=\"libc6 linux \\\"x\\\"\"\n"
	if got := <-seen; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if env["KURED_HOOK"] != "other" {
		t.Error("the caller's map was changed")
	}
	if left, _ := os.ReadDir(r.EnvDirectory); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRunWithoutHooks(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/pre-drain.d/not-executable", "", 0o644)
	r := Runner{Address: "unix:path=" + dir + "/nobody", Directory: dir, EnvDirectory: dir, Timeout: time.Minute}
	for _, phase := range Phases() {
		if err := r.Run(t.Context(), phase, nil); err != nil {
			t.Errorf("%s: %v", phase, err)
		}
	}
	if err := r.Run(t.Context(), "pre-", nil); err == nil || !strings.Contains(err.Error(), "no phase") {
		t.Errorf("an unknown phase: %v", err)
	}
}

// The daemon's sandbox hides homes and private directories, but not from the unit.
func TestRunLeavesToTheUnitWhatItCannotSee(t *testing.T) {
	for name, hide := range map[string]func(dir string) error{
		"a hook":        func(dir string) error { return os.Symlink("/root/hidden/flush", dir+"/pre-drain.d/20-flush") },
		"its directory": func(dir string) error { return replace(dir+"/pre-drain.d", "/root/hidden/pre-drain.d") },
		"all":           func(dir string) error { return replace(dir, "/root/hidden") },
		"no directory": func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/pre-drain.d"), os.WriteFile(dir+"/pre-drain.d", nil, 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, systemd := newRunner(t, always(fakesystemd1.Exited(1, "list hooks: no such file")))
			r.EnvDirectory = t.TempDir()
			if err := hide(r.Directory); err != nil {
				t.Fatal(err)
			}
			if err := r.Run(t.Context(), PreDrain, nil); err == nil || !strings.HasSuffix(err.Error(), "exit-code 1): list hooks: no such file") {
				t.Errorf("got %v", err)
			}
			calls(t, systemd, 1, 0)
		})
	}
}

// replace puts a link in the place of a directory.
func replace(dir, target string) error {
	return errors.Join(os.RemoveAll(dir), os.Symlink(target, dir))
}

func TestRunTimeout(t *testing.T) {
	r, systemd := newRunner(t, until(nil))
	r.Timeout = 3 * time.Second // enough to start it
	err := r.Run(t.Context(), PreDrain, nil)
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Result != "timeout" || failed.Detail != "not done after 3s" {
		t.Errorf("got %v", err)
	}
	calls(t, systemd, 1, 1)
	if active := systemd.Active(unitName); active != "inactive" {
		t.Errorf("it returned while the unit is %s", active)
	}
}

func TestRunEndsWithContext(t *testing.T) {
	r, systemd := newRunner(t, until(nil))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "started", func() bool { return systemd.Active(unitName) == "activating" })
		cancel()
	}()
	var failed *FailedError
	if err := r.Run(ctx, PreDrain, nil); !errors.Is(err, context.Canceled) || errors.As(err, &failed) {
		t.Errorf("got %v", err)
	}
	calls(t, systemd, 1, 1)
	if active := systemd.Active(unitName); active != "inactive" {
		t.Errorf("it returned while the unit is %s", active)
	}
}

// A daemon that was killed in the midst of a phase comes back: the hooks are not run twice.
func TestRunJoins(t *testing.T) {
	release := make(chan struct{})
	r, systemd := newRunner(t, until(release))
	systemd.Begin(unitName)
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context(), PreDrain, nil) }()
	eventually(t, "seen that it runs", func() bool { return systemd.Looks() > 1 })
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	calls(t, systemd, 1, 0)
}

func TestRunStopsWhatItJoined(t *testing.T) {
	r, systemd := newRunner(t, until(nil))
	systemd.Begin(unitName)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "seen that it runs", func() bool { return systemd.Looks() > 1 })
		cancel()
	}()
	if err := r.Run(ctx, PreDrain, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	calls(t, systemd, 1, 1)
}

// A run of another cycle that still is in the systemd's memory says nothing about this one.
func TestRunForgetsOldFailures(t *testing.T) {
	r, systemd := newRunner(t, always(fakesystemd1.Exited(1, "old")))
	if err := r.Run(t.Context(), PreDrain, nil); err == nil {
		t.Fatal("the first run should fail")
	}
	systemd.Play(always(fakesystemd1.Exited(0, "")))
	if err := r.Run(t.Context(), PreDrain, nil); err != nil {
		t.Error(err)
	}
	calls(t, systemd, 2, 0)
}

func TestRunLosesTheBus(t *testing.T) {
	t.Run("before the start arrives", func(t *testing.T) {
		r, systemd := newRunner(t, always(fakesystemd1.Exited(0, "")))
		systemd.Fail(fakesystemd1.CutBefore)
		if err := r.Run(t.Context(), PreDrain, nil); err != nil {
			t.Error(err)
		}
		calls(t, systemd, 1, 0)
	})
	t.Run("before the answer", func(t *testing.T) {
		release := make(chan struct{})
		r, systemd := newRunner(t, until(release))
		systemd.Fail(fakesystemd1.CutAfter)
		go func() {
			eventually(t, "joined", func() bool { return systemd.References() == 2 })
			close(release)
		}()
		if err := r.Run(t.Context(), PreDrain, nil); err != nil {
			t.Error(err)
		}
		calls(t, systemd, 1, 0)
	})
	t.Run("before the answer, and it fails meanwhile", func(t *testing.T) {
		r, systemd := newRunner(t, always(fakesystemd1.Exited(1, "broken")))
		systemd.Fail(fakesystemd1.CutAfter)
		var failed *FailedError
		if err := r.Run(t.Context(), PreDrain, nil); !errors.As(err, &failed) || failed.Detail != "broken" {
			t.Errorf("got %v", err)
		}
		calls(t, systemd, 1, 0)
	})
	t.Run("and it ends well meanwhile, which systemd forgets: once more", func(t *testing.T) {
		first := make(chan struct{}, 1)
		r, systemd := newRunner(t, nil)
		r.reconnect = 2 * time.Second // so that it has ended by then
		systemd.Play(func(context.Context, string) fakesystemd1.Ending {
			select {
			case first <- struct{}{}:
				systemd.Bus().CutClients()
				time.Sleep(200 * time.Millisecond) // until the bus has told of it
			default:
			}
			return fakesystemd1.Exited(0, "")
		})
		if err := r.Run(t.Context(), PreDrain, nil); err != nil {
			t.Error(err)
		}
		calls(t, systemd, 2, 0)
	})
	t.Run("in the midst", func(t *testing.T) {
		release := make(chan struct{})
		r, systemd := newRunner(t, until(release))
		done := make(chan error, 1)
		go func() { done <- r.Run(t.Context(), PreDrain, nil) }()
		eventually(t, "started", func() bool { return systemd.Active(unitName) == "activating" })
		systemd.Bus().CutClients()
		go func() {
			eventually(t, "joined", func() bool { return systemd.References() == 2 })
			close(release)
		}()
		if err := <-done; err != nil {
			t.Error(err)
		}
		calls(t, systemd, 1, 0)
	})
	t.Run("for ever", func(t *testing.T) {
		r, systemd := newRunner(t, until(nil))
		r.Timeout = 300 * time.Millisecond
		systemd.Bus().Kill()
		var failed *FailedError
		err := r.Run(t.Context(), PreDrain, nil)
		if !errors.As(err, &failed) || failed.Result != "timeout" || !strings.Contains(err.Error(), "no connection to systemd") {
			t.Errorf("got %v", err)
		}
		calls(t, systemd, 0, 0)
	})
}

// No signal, or one that anybody could send, decides nothing.
func TestRunBelievesTheUnit(t *testing.T) {
	release := make(chan struct{})
	r, systemd := newRunner(t, until(release))
	systemd.Silence()
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	if err := r.Run(t.Context(), PreDrain, nil); err != nil {
		t.Error(err)
	}
	calls(t, systemd, 1, 0)
}

func TestRunRefused(t *testing.T) {
	r, systemd := newRunner(t, until(nil))
	systemd.Refuse("org.freedesktop.systemd1.NoSuchUnit")
	var failed *FailedError
	if err := r.Run(t.Context(), PreDrain, nil); !errors.As(err, &failed) || failed.Result != "not-started" || !strings.Contains(err.Error(), "refused by the test") {
		t.Errorf("got %v", err)
	}
	calls(t, systemd, 0, 0)
	r.Address = "tcp:host=127.0.0.1,port=1"
	if err := r.Run(t.Context(), PreDrain, nil); err == nil || !strings.Contains(err.Error(), "not that of a unix socket") {
		t.Errorf("got %v", err)
	}
}
