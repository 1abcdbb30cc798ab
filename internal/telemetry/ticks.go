package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Ticks calls tick every so often until it returns false or ctx ends; the first
// time is after one period.
type Ticks func(ctx context.Context, every time.Duration, tick func() (again bool)) error

// KernelTicks are [Ticks] by timerfd_create(2). A timer of Go would do the same
// and wake a resting process far more often: the runtime waits for it by
// epoll_wait(2), which the kernel ends up to 0.1 % late, and its monitor thread,
// which knows what is due, looks every 20 µs to 10 ms until then.
//
// An error says which call the kernel refused; nothing ticks then.
func KernelTicks(ctx context.Context, every time.Duration, tick func() (again bool)) error {
	// Without TFD_NONBLOCK the file would be read by a thread of its own, and closing it would not end that.
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("ticks: timerfd_create: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close() //nolint:errcheck // nothing is written to it
	period := unix.NsecToTimespec(every.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: period, Value: period}, nil); err != nil {
		return fmt.Errorf("ticks: timerfd_settime: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = timer.Close() })()
	var expired [8]byte // how many periods are over; more than one after a suspended machine, and one tick is enough
	for {
		switch _, err := timer.Read(expired[:]); {
		case errors.Is(err, os.ErrClosed):
			return nil // ctx ended
		case err != nil:
			return fmt.Errorf("ticks: %w", err)
		}
		if ctx.Err() != nil || !tick() {
			return nil
		}
	}
}
