package telemetry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Notifier tells systemd how the service does (sd_notify(3)). It is
// daemon.SdNotify: without $NOTIFY_SOCKET nothing is told, and that is no error.
type Notifier func(unsetEnvironment bool, state string) (told bool, err error)

// Ready says that the service has started.
func (n Notifier) Ready() error { return n.tell(daemon.SdNotifyReady) }

// Stopping says that the service has begun to stop.
func (n Notifier) Stopping() error { return n.tell(daemon.SdNotifyStopping) }

// Reloading says that the configuration is being read again; Ready ends it
// (sd_notify(3): since systemd 253 it needs the time, too).
func (n Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify systemd: read the clock: %w", err)
	}
	return n.tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// Status is the line that "systemctl status" shows.
func (n Notifier) Status(text string) error {
	// A line end would begin another assignment.
	return n.tell("STATUS=" + strings.Join(strings.Fields(text), " "))
}

func (n Notifier) tell(state string) error {
	if _, err := n(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog gives a sign of life at once and at every half of interval, counted by
// ticks, until ctx ends, while alive returns nil. alive should ask the part that
// must not hang; if it blocks or fails no sign is given and systemd restarts the
// service. With an interval of 0 (see daemon.SdWatchdogEnabled), or nobody to
// tell, it only waits for ctx. An error is that of ticks.
func (n Notifier) Watchdog(ctx context.Context, interval time.Duration, ticks Ticks, alive func(context.Context) error) error {
	sign := func() (again bool) {
		if alive(ctx) != nil {
			return true
		}
		// A sign that is lost with an error is followed by another one before the interval ends.
		told, err := n(false, daemon.SdNotifyWatchdog)
		return told || err != nil
	}
	if interval >= 2 && sign() {
		if err := ticks(ctx, interval/2, sign); err != nil {
			return fmt.Errorf("watchdog: %w", err)
		}
	}
	<-ctx.Done()
	return nil
}
