package telemetry

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Notifier tells systemd how the service does (sd_notify(3)). Without a socket
// every method does nothing and returns nil.
type Notifier struct {
	socket string
}

// NewNotifier takes the value of $NOTIFY_SOCKET: a path, or a name in the
// abstract namespace that begins with "@".
func NewNotifier(socket string) *Notifier { return &Notifier{socket} }

// Ready says that the service has started.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Stopping says that the service has begun to stop.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Status is the line that "systemctl status" shows.
func (n *Notifier) Status(text string) error {
	// A line end would begin another assignment.
	return n.send("STATUS=" + strings.Join(strings.Fields(text), " "))
}

// WatchdogInterval reads $WATCHDOG_USEC and $WATCHDOG_PID as
// sd_watchdog_enabled(3) does: 0 means that nobody expects a sign of life from
// the process self.
func WatchdogInterval(usec, pid string, self int) (time.Duration, error) {
	if usec == "" || pid != "" && pid != strconv.Itoa(self) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC %q is not a number of microseconds", usec)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Watchdog gives a sign of life at every half of interval until ctx ends, while
// alive returns nil. alive should ask the part that must not hang; if it blocks
// or fails no sign is given and systemd restarts the service. An interval of 0
// waits for ctx only.
func (n *Notifier) Watchdog(ctx context.Context, interval time.Duration, alive func(context.Context) error) {
	if n.socket == "" || interval < 2 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if alive(ctx) == nil {
			// A lost sign is followed by another one before the interval ends.
			_ = n.send("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Notifier) send(state string) error {
	if n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
