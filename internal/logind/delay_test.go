package logind

import (
	"math"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

func TestInhibitDelayMax(t *testing.T) {
	login := fakelogin1.Start(t)
	m := Manager{Address: login.Address()}
	for raw, want := range map[uint64]time.Duration{0: 0, 5_000_000: 5 * time.Second, math.MaxUint64: math.MaxInt64} {
		login.SetRawProperty("InhibitDelayMaxUSec", raw)
		if got, err := m.InhibitDelayMax(t.Context()); err != nil || got != want {
			t.Errorf("%d: %s, %v, want %s", raw, got, err, want)
		}
	}
	login.SetRawProperty("InhibitDelayMaxUSec", "5s")
	if got, err := m.InhibitDelayMax(t.Context()); err == nil {
		t.Errorf("text is %s", got)
	}
	if got, err := m.SystemdVersion(t.Context()); err != nil || got != "252.39-1~deb12u2" {
		t.Errorf("version %q, %v", got, err)
	}
}
