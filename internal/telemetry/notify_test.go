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

	"github.com/coreos/go-systemd/v22/daemon"
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
		t.Setenv("NOTIFY_SOCKET", socket)
		n := Notifier(daemon.SdNotify)
		for _, err := range []error{n.Ready(), n.Status("queued: place 2\nREADY=0"), n.Stopping()} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := told(t, conn); got != "READY=1|STATUS=queued: place 2 READY=0|STOPPING=1" {
			t.Errorf("%s: got %s", name, got)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notifier(daemon.SdNotify).Ready(); err != nil {
		t.Errorf("without a socket: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "missing"))
	if err := Notifier(daemon.SdNotify).Ready(); err == nil || !strings.HasPrefix(err.Error(), "notify systemd: ") {
		t.Errorf("with a socket that is gone: %v", err)
	}
}

// Signs of life come at every half of the interval, and only while alive.
func TestWatchdog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", socket)
	conn := manager(t, socket)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var stuck atomic.Bool
		var asked atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			err := Notifier(daemon.SdNotify).Watchdog(ctx, time.Minute, goTicks, func(context.Context) error {
				asked.Add(1)
				if stuck.Load() {
					return errors.New("stuck")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
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

// Without anybody to tell there are no ticks, without an interval not even a look.
func TestWatchdogThatNobodyAskedFor(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	for interval, want := range map[time.Duration]int{0: 0, -time.Microsecond: 0, time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			asked := 0
			err := Notifier(daemon.SdNotify).Watchdog(ctx, interval, goTicks, func(context.Context) error { asked++; return nil })
			if err != nil {
				t.Error(err)
			}
			if asked != want || ctx.Err() == nil {
				t.Errorf("every %v: asked %d times, want %d; %v", interval, asked, want, ctx.Err())
			}
		})
	}
}

// Without ticks there is one sign and an error, so that nobody waits for the watchdog to find out.
func TestWatchdogWithoutTicks(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", socket)
	manager(t, socket)
	refused := errors.New("refused")
	none := func(context.Context, time.Duration, func() bool) error { return refused }
	err := Notifier(daemon.SdNotify).Watchdog(t.Context(), time.Minute, none, func(context.Context) error { return nil })
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// goTicks are Ticks in the time of synctest.
func goTicks(ctx context.Context, every time.Duration, tick func() bool) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !tick() {
			return nil
		}
	}
}
