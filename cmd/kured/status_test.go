package main

import (
	"reflect"
	"testing"

	"github.com/kured-host/kured/internal/status"
)

// Every phase has a code of its own kind, and none that means an error.
func TestStateCode(t *testing.T) {
	got := map[int][]status.Phase{}
	for _, p := range status.Phases() {
		code := stateCode(status.Status{Phase: p})
		got[code] = append(got[code], p)
	}
	want := map[int][]status.Phase{
		0: {status.Idle},
		1: {status.Starting, status.Queued, status.BackingOff},
		2: {status.Locked, status.Draining, status.Rebooting, status.Returning, status.RollingBack},
		3: {status.Blocked},
		4: {status.Held},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if code := stateCode(status.Status{Phase: status.Rebooting, Reason: status.RebootOverdue}); code != 4 {
		t.Errorf("a reboot that does not come: %d", code)
	}
}
