package fakelogin1

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func (c *client) call(method string, args ...any) error {
	return c.conn.Object(busName, objectPath).CallWithContext(c.Context(), managerName+"."+method, 0, args...).Err
}

func (c *client) scheduled() schedule {
	c.Helper()
	v, err := c.conn.Object(busName, objectPath).GetProperty(managerName + ".ScheduledShutdown")
	if err != nil {
		c.Fatal(err)
	}
	var s schedule
	if err := dbus.Store([]any{v.Value()}, &s); err != nil {
		c.Fatal(err)
	}
	return s
}

// A restart of logind makes a dry run real since systemd 251, and forgets it before. The real ones of Debian 11, 12
// and 13 were seen to do the same.
func TestRestartAndDryRun(t *testing.T) {
	for version, want := range map[string]int{"247.3": 0, "252.39": 1, "257.13": 1} {
		t.Run(version, func(t *testing.T) {
			l := Start(t)
			l.SetVersion(version)
			c := newClient(t, l)
			usec := uint64(time.Now().Add(time.Hour).UnixMicro())
			if err := c.call("ScheduleShutdown", "dry-reboot", usec); err != nil {
				t.Fatal(err)
			}
			if got := c.scheduled(); got != (schedule{"reboot", usec}) {
				t.Errorf("scheduled %v: the dry run must not show", got)
			}
			if text, err := os.ReadFile(l.ScheduleFile()); err != nil || !strings.Contains(string(text), "\nMODE=reboot\n") {
				t.Errorf("the file says %q, %v", text, err)
			}
			l.Leave()
			if err := l.Arrive(); err != nil {
				t.Fatal(err)
			}
			rebooted := make(chan struct{})
			l.OnReboot(func() { close(rebooted) })
			l.SetClock(2 * time.Hour)
			if want > 0 {
				wait(t, rebooted, "the reboot")
			} else if kind, _, _ := l.Scheduled(); kind != "" {
				t.Errorf("a %s is still scheduled", kind)
			}
			if l.Reboots() != want {
				t.Errorf("%d reboots, want %d", l.Reboots(), want)
			}
		})
	}
}

func TestDryRunElapses(t *testing.T) {
	l := Start(t)
	l.SetVersion("257.13")
	c := newClient(t, l)
	if err := c.call("SetWallMessage", "why", true); err != nil {
		t.Fatal(err)
	}
	if err := c.call("ScheduleShutdown", "dry-reboot", uint64(time.Now().Add(20*time.Millisecond).UnixMicro())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"reboot", ""} {
		name, body := c.signal()
		var got schedule
		if err := dbus.Store([]any{body[1].(map[string]dbus.Variant)["ScheduledShutdown"].Value()}, &got); err != nil || name != "PropertiesChanged" || got.Type != want {
			t.Errorf("%s %v, %v; want %q scheduled", name, body, err, want)
		}
	}
	if l.Reboots() != 0 || l.Preparing() {
		t.Error("the dry run reboots")
	}
	if _, err := os.Stat(l.ScheduleFile()); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	// A real one does.
	rebooted := make(chan struct{})
	l.OnReboot(func() { close(rebooted) })
	if err := c.call("ScheduleShutdown", "reboot", uint64(time.Now().UnixMicro())); err != nil {
		t.Fatal(err)
	}
	wait(t, rebooted, "the scheduled reboot")
}
