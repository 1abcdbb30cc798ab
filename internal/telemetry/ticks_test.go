package telemetry

import (
	"context"
	"strings"
	"testing"
	"time"
)

// The kernel's ticks come until nobody wants more.
func TestKernelTicks(t *testing.T) {
	begin, ticked := time.Now(), 0
	err := KernelTicks(t.Context(), 5*time.Millisecond, func() bool { ticked++; return ticked < 4 })
	if err != nil || ticked != 4 {
		t.Errorf("%d ticks, %v", ticked, err)
	}
	if early := 20*time.Millisecond - time.Since(begin); early > 0 {
		t.Errorf("%v too early", early)
	}
}

// A wait ends with its context, not with the next tick, and a tick that comes with the end is none.
func TestKernelTicksEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- KernelTicks(ctx, 24*time.Hour, func() bool { t.Error("ticked"); return true })
	}()
	time.Sleep(10 * time.Millisecond) // most likely it reads by now; the outcome is the same if not
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := KernelTicks(ctx, time.Nanosecond, func() bool { t.Error("ticked"); return true }); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

// What the kernel refuses is said.
func TestKernelTicksRefused(t *testing.T) {
	err := KernelTicks(t.Context(), -time.Second, func() bool { t.Error("ticked"); return false })
	if err == nil || !strings.HasPrefix(err.Error(), "ticks: timerfd_settime: ") {
		t.Errorf("got %v", err)
	}
}
