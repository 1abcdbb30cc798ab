package gate

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/status"
)

// Uptime is open when the machine has been up for a while: it may have been
// rebooted a moment ago by somebody else, and its pods have just come back.
type Uptime struct {
	Min time.Duration                 // since boot
	Up  func() (time.Duration, error) // how long it has been up: SinceBoot
	Now func() time.Time              // for people only: the wall clock may be wrong
}

// SinceBoot is how long the kernel has been up, times of suspend included
// (CLOCK_BOOTTIME, clock_gettime(2)). Nobody can set that clock.
func SinceBoot() (time.Duration, error) {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return 0, fmt.Errorf("read the time since boot: %w", err)
	}
	return time.Duration(since.Nano()), nil
}

// Name implements Gate.
func (Uptime) Name() status.Gate { return status.GateUptime }

// Check asks how long the machine is up.
func (g Uptime) Check(context.Context, Moment) Verdict {
	up, err := g.Up()
	if err != nil {
		return Verdict{Reason: status.UptimeShort, Detail: err.Error(), Unsure: true}
	}
	if up >= g.Min {
		return Verdict{Open: true}
	}
	next := g.Now().Add(g.Min - up).Round(time.Second)
	return Verdict{
		Reason: status.UptimeShort,
		Detail: fmt.Sprintf("this machine has to be up for %s before it reboots again, at %s", g.Min, next.UTC().Format(time.RFC3339)),
		Next:   next,
	}
}

// Watch signals when the machine has been up for long enough.
func (g Uptime) Watch(ctx context.Context) (<-chan struct{}, error) {
	if _, err := g.Up(); err != nil {
		return nil, err
	}
	// The alarm goes by the time since boot: its clock begins with the Unix epoch.
	now := func() time.Time {
		up, err := g.Up()
		if err != nil {
			return time.Time{} // long before: looked at again after a while
		}
		return time.Unix(0, 0).Add(up)
	}
	enough := time.Unix(0, 0).Add(g.Min)
	return alarm(ctx, now, func(now time.Time) time.Time {
		if now.Before(enough) {
			return enough
		}
		return time.Time{}
	}), nil
}
