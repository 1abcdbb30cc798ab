package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// manager receives what a service tells systemd.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// told is all that was sent so far.
func told(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	var all []string
	buf := make([]byte, 4096)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return strings.Join(all, "|")
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(buf[:n]))
	}
}

func TestNotify(t *testing.T) {
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@kured-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
	} {
		conn := manager(t, socket)
		n := NewNotifier(socket)
		for _, err := range []error{n.Ready(), n.Status("queued: place 2\nREADY=0"), n.Stopping()} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := told(t, conn); got != "READY=1|STATUS=queued: place 2 READY=0|STOPPING=1" {
			t.Errorf("%s: got %s", name, got)
		}
	}
	if err := NewNotifier("").Ready(); err != nil {
		t.Errorf("without a socket: %v", err)
	}
	if err := NewNotifier(filepath.Join(t.TempDir(), "missing")).Ready(); err == nil || !strings.HasPrefix(err.Error(), "notify systemd: ") {
		t.Errorf("with a socket that is gone: %v", err)
	}
}

// Signs of life come at every half of the interval, and only while alive.
func TestWatchdog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn := manager(t, socket)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var stuck atomic.Bool
		var asked atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewNotifier(socket).Watchdog(ctx, time.Minute, func(context.Context) error {
				asked.Add(1)
				if stuck.Load() {
					return errors.New("stuck")
				}
				return nil
			})
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times at once", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times within a minute", n)
		}
		stuck.Store(true)
		time.Sleep(time.Hour)
		cancel()
		<-done
	})
	if got := told(t, conn); got != "WATCHDOG=1|WATCHDOG=1|WATCHDOG=1" {
		t.Errorf("got %s", got)
	}
}

func TestWatchdogThatNobodyAskedFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fail := func(context.Context) error { t.Error("asked"); return nil }
	NewNotifier("").Watchdog(ctx, time.Minute, fail)
	NewNotifier("/nonexistent").Watchdog(ctx, 0, fail)
}

func TestWatchdogInterval(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"120000000", "", 2 * time.Minute, false},
		{"120000000", "42", 2 * time.Minute, false},
		{"120000000", "43", 0, false},
		{"x", "", 0, true},
		{"-1", "42", 0, true},
		{"0", "", 0, true},
		{"9223372036854775807", "", 0, true},
	} {
		got, err := WatchdogInterval(c.usec, c.pid, 42)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%q for %q: %v, %v", c.usec, c.pid, got, err)
		}
	}
}
