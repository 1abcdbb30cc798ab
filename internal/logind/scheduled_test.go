package logind

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

func TestMayReboot(t *testing.T) {
	at := time.Now().Add(time.Hour)
	for _, test := range []struct {
		name  string
		setUp func(*testing.T, *fakelogin1.Login1, Manager)
		other string // that somebody else has scheduled
		text  string // "": it may
	}{
		{"nothing scheduled", func(*testing.T, *fakelogin1.Login1, Manager) {}, "", ""},
		{"cannot", func(_ *testing.T, f *fakelogin1.Login1, _ Manager) { f.SetCanReboot("na") }, "", `logind answers "na"`},
		{"power-off", func(_ *testing.T, f *fakelogin1.Login1, _ Manager) { f.Schedule("poweroff", at) }, "poweroff", "somebody has scheduled a poweroff at 20"},
		{"reboot", func(_ *testing.T, f *fakelogin1.Login1, _ Manager) { f.Schedule("reboot", at) }, "reboot", "somebody has scheduled a reboot at 20"},
		{"both is in the way", func(_ *testing.T, f *fakelogin1.Login1, _ Manager) {
			f.SetCanReboot("no")
			f.Schedule("reboot", at)
		}, "", `logind answers "no"`},
		{"cancelled", func(_ *testing.T, f *fakelogin1.Login1, _ Manager) {
			f.Schedule("poweroff", at)
			f.Unschedule()
		}, "", ""},
		{"our own announcement", func(t *testing.T, _ *fakelogin1.Login1, m Manager) {
			if err := m.Announce(t.Context(), at, message); err != nil {
				t.Error(err)
			}
		}, "", ""},
		{"under way", func(t *testing.T, f *fakelogin1.Login1, m Manager) {
			f.Schedule("poweroff", time.Now())
			until(t, "to begin", f.Preparing)
		}, "poweroff", "somebody has scheduled a poweroff at 20"},
		{"under way for long", func(t *testing.T, f *fakelogin1.Login1, m Manager) {
			f.Inhibit("kubelet", "shutdown", "delay", "pods first")
			f.Schedule("poweroff", time.Now().Add(-time.Minute))
			until(t, "to begin", f.Preparing)
		}, "poweroff", "somebody shuts this machine down (poweroff)"},
		{"another one's that was taken back", func(t *testing.T, f *fakelogin1.Login1, m Manager) {
			if err := m.Reboot(t.Context(), long); err != nil {
				t.Error(err)
			}
			f.Cancel()
		}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, m := announcer(t, "252.39")
			test.setUp(t, f, m)
			var other *ScheduledError
			err := m.MayReboot(t.Context())
			if (err == nil) != (test.text == "") || err != nil && !strings.HasPrefix(err.Error(), test.text) || errors.As(err, &other) != (test.other != "") ||
				other != nil && (other.Type != test.other || other.Reboots() != (other.Type == "reboot")) {
				t.Errorf("got %v", err)
			}
		})
	}
}
