package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

// testPlan is a house with nothing of this machine in reach but dir, and the
// program that cfg makes in it.
func testPlan(t *testing.T, dir, bus, boot string, cfg config.Config) *program {
	t.Helper()
	env := map[string]string{
		"DBUS_SYSTEM_BUS_ADDRESS": bus,
		"RUNTIME_DIRECTORY":       dir,
		"STATE_DIRECTORY":         dir,
		"CONFIGURATION_DIRECTORY": dir,
		"KURED_SCHEDULE_FILE":     filepath.Join(dir, "scheduled"),
		"KURED_BOOT_ID":           boot,
	}
	h, err := newHouse(func(key string) string { return env[key] })
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.program(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start runs the daemon in this process, with nothing of this machine in
// reach, and returns where it tells systemd its state.
func start(t *testing.T, change func(dir string, cfg *config.Config)) (dir string, heard *told, ended <-chan error) {
	t.Helper()
	return startReloading(t, change, reloading{})
}

// startReloading is start for a daemon that may read its configuration again.
func startReloading(t *testing.T, change func(dir string, cfg *config.Config), again reloading) (dir string, heard *told, ended <-chan error) {
	t.Helper()
	dir = t.TempDir()
	cfg := config.Default()
	cfg.Log.Format = "text"
	cfg.Sentinel.Paths = []string{filepath.Join(dir, "run", "reboot-required")}
	cfg.Sentinel.Settle = 0
	cfg.Metrics.Listen = []string{"unix:" + filepath.Join(dir, "metrics.sock")}
	cfg.Kubernetes.Kubeconfig = filepath.Join(dir, "kubelet.conf")
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	change(dir, &cfg)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "")
	p := testPlan(t, dir, "unix:path="+filepath.Join(dir, "no-bus"), "0123456789abcdef0123456789abcdef", cfg)
	heard = newTold()
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := systemd.Read(buffer)
			if err != nil {
				return
			}
			heard.add(string(buffer[:n]))
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	done, finished := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(finished)
		done <- p.run(ctx, again)
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
		if err := systemd.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, heard, done
}

// told is what the daemon has told systemd so far.
type told struct {
	mu      sync.Mutex
	states  []string
	changed chan struct{} // closed at the next state
}

func newTold() *told { return &told{changed: make(chan struct{})} }

func (s *told) add(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = append(s.states, state)
	close(s.changed)
	s.changed = make(chan struct{})
}

// count is how many states with the given part were told.
func (s *told) count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, state := range s.states {
		if strings.Contains(state, part) {
			n++
		}
	}
	return n
}

// await returns the first state that has the given part, now or later.
func await(t *testing.T, s *told, part string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		s.mu.Lock()
		states, changed := s.states, s.changed
		s.mu.Unlock()
		for _, state := range states {
			if strings.Contains(state, part) {
				return state
			}
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("systemd was told %q and never %q", states, part)
		}
	}
}

// Without a kubeconfig the daemon starts, says what is missing and what to
// do, and keeps trying: the node may join a cluster later.
func TestRunWithoutKubeconfig(t *testing.T) {
	dir, told, ended := start(t, func(string, *config.Config) {})
	await(t, told, "READY=1")
	line := await(t, told, "STATUS=starting: kubeconfig")
	for _, part := range []string{"kubelet.conf not found", "join the node to a cluster"} {
		if !strings.Contains(line, part) {
			t.Errorf("%q does not say %q", line, part)
		}
	}
	s, err := control.Client{Path: filepath.Join(dir, "kured.sock")}.Status(t.Context())
	if err != nil || s.Reason != status.NoCredential || s.Next == nil || s.Version != version {
		t.Errorf("status %+v, %v", s, err)
	}
	select {
	case err := <-ended:
		t.Errorf("ended: %v", err)
	default:
	}
}

// A kubeconfig that is garbage may be half-written: that is told, and tried again.
func TestRunWithBadKubeconfig(t *testing.T) {
	_, told, _ := start(t, func(_ string, cfg *config.Config) {
		if err := os.WriteFile(cfg.Kubernetes.Kubeconfig, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	await(t, told, "cannot be used")
}

// A second daemon, started by hand, leaves the first alone: also the reboot that this has announced.
func TestRunBesideAnother(t *testing.T) {
	login := fakelogin1.Start(t)
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Log.Format = "text"
	cfg.Reboot.Delay = config.Duration(time.Hour)
	p := testPlan(t, dir, login.Address(), "0123456789abcdef0123456789abcdef", cfg)
	p.login.ScheduleFile = login.ScheduleFile()
	if err := p.login.Announce(t.Context(), time.Now().Add(time.Hour), "soon"); err != nil {
		t.Fatal(err)
	}
	if _, err := control.New(t.Context(), p.socket(), control.Daemon{Status: &control.Feed{}}); err != nil {
		t.Fatal(err)
	}
	if err := p.run(t.Context(), reloading{}); !errors.Is(err, control.ErrInUse) {
		t.Errorf("it ended with %v", err)
	}
	if kind, _, _ := login.Scheduled(); kind != "reboot" {
		t.Errorf("scheduled is %q", kind)
	}
}

// Something in the way that trying again does not mend ends the daemon, with one line.
func TestRunCannotServe(t *testing.T) {
	_, _, ended := start(t, func(dir string, _ *config.Config) {
		if err := os.WriteFile(filepath.Join(dir, "kured.sock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	err := <-ended
	var coded *exitError
	if err == nil || errors.As(err, &coded) || !strings.Contains(err.Error(), "kured.sock") {
		t.Errorf("a file in the way of the socket: %v", err)
	}
}
