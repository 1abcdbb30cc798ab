package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

// What a person has scheduled keeps the node where it is, unless it is a reboot, which comes with a drain then. An
// announcement needs its place.
func TestScheduledByAPerson(t *testing.T) {
	for _, test := range []struct {
		kind      string
		announced bool
		want      status.Reason
	}{
		{"poweroff", false, status.ShutdownScheduled},
		{"reboot", true, status.ShutdownScheduled},
		{"reboot", false, ""},
	} {
		login := fakelogin1.Start(t)
		login.SetVersion("252.39")
		login.Schedule(test.kind, time.Now().Add(time.Hour))
		cfg := config.Default()
		if test.announced {
			cfg.Reboot.Delay = config.Duration(time.Minute)
		}
		p := testPlan(t, t.TempDir(), login.Address(), "0123456789abcdef0123456789abcdef", cfg)
		for _, s := range p.nearGates().Ask(t.Context(), gate.Within) {
			if s.Gate == status.GateInhibitors && (s.Reason != test.want || s.Open != (test.want == "")) {
				t.Errorf("%+v: %+v", test, s)
			}
		}
		if test.want != "" {
			continue
		}
		var journal bytes.Buffer
		h := host{p.login, logind.Normal, "", slog.New(slog.NewTextHandler(&journal, nil))}
		if err := h.Reboot(t.Context(), time.Minute); err != nil {
			t.Error(err)
		}
		if told := journal.String(); !strings.Contains(told, "this reboot comes instead of another: somebody has scheduled a reboot at ") {
			t.Errorf("told %q", told)
		}
	}
}
