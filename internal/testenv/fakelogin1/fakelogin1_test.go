package fakelogin1

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// client is a plain D-Bus client that sees what a program sees of logind.
type client struct {
	*testing.T
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

func newClient(t *testing.T, l *Login1) *client {
	t.Helper()
	conn, err := dbus.Connect(l.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &client{T: t, conn: conn, signals: make(chan *dbus.Signal, 64)}
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(objectPath)); err != nil {
		t.Fatal(err)
	}
	conn.Signal(c.signals)
	return c
}

func (c *client) reboot() error {
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	return c.conn.Object(busName, objectPath).CallWithContext(ctx, managerName+".Reboot", 0, false).Err
}

// signal waits for the next signal and returns its name without the interface.
func (c *client) signal() (name string, body []any) {
	c.Helper()
	for {
		select {
		case signal, ok := <-c.signals:
			if !ok {
				c.Fatal("the connection is closed")
			}
			if signal.Path == objectPath {
				return signal.Name[strings.LastIndex(signal.Name, ".")+1:], signal.Body
			}
		case <-time.After(20 * time.Second):
			c.Fatal("no signal")
		}
	}
}

func (c *client) wantPrepare(active bool) {
	c.Helper()
	if name, body := c.signal(); name != "PrepareForShutdown" || !slices.Equal(body, []any{active}) {
		c.Errorf("signal %s %v, want PrepareForShutdown %t", name, body, active)
	}
}

func wait(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

func TestStoryOfAReboot(t *testing.T) {
	l := Start(t)
	c := newClient(t, l)
	rebooted := make(chan struct{}, 2)
	l.OnReboot(func() { rebooted <- struct{}{} })
	release := l.Inhibit("kubelet", "shutdown", "delay", "pods first")
	if name, body := c.signal(); name != "PropertiesChanged" || body[1].(map[string]dbus.Variant)["DelayInhibited"].Value() != "shutdown" {
		t.Errorf("signal %s %v", name, body)
	}
	if err := c.reboot(); err != nil {
		t.Fatal(err)
	}
	c.wantPrepare(true)
	if !l.Preparing() || l.Reboots() != 0 {
		t.Errorf("preparing %t with %d reboots, want that the inhibitor holds it back", l.Preparing(), l.Reboots())
	}
	var reply dbus.Error
	if err := c.reboot(); !errors.As(err, &reply) || reply.Name != errorOperationInProgress {
		t.Errorf("second call: %v", err)
	}
	release()
	wait(t, rebooted, "reboot")
	if l.Reboots() != 1 || l.Calls() != 2 {
		t.Errorf("%d reboots after %d calls", l.Reboots(), l.Calls())
	}
	if err := l.Restart(); err != nil {
		t.Fatal(err)
	}
	if l.Preparing() {
		t.Error("still preparing after the restart")
	}
	if err := c.reboot(); err != nil {
		t.Errorf("the next boot: %v", err)
	}
}

func TestCancelKeepsTheMachineUp(t *testing.T) {
	l := Start(t)
	c := newClient(t, l)
	release := l.Inhibit("kubelet", "shutdown", "delay", "")
	c.signal()
	if err := c.reboot(); err != nil {
		t.Fatal(err)
	}
	c.wantPrepare(true)
	l.Cancel()
	c.wantPrepare(false)
	release()
	if l.Reboots() != 0 {
		t.Error("rebooted all the same")
	}
}

func TestDelayMax(t *testing.T) {
	l := Start(t)
	c := newClient(t, l)
	rebooted := make(chan struct{})
	l.OnReboot(func() { close(rebooted) })
	l.SetDelayMax(time.Millisecond)
	release := l.Inhibit("stubborn", "shutdown", "delay", "")
	if err := c.reboot(); err != nil {
		t.Fatal(err)
	}
	wait(t, rebooted, "reboot in spite of the inhibitor")
	release()
	if l.Reboots() != 1 {
		t.Errorf("%d reboots", l.Reboots())
	}
}

func TestRestartInOnReboot(t *testing.T) {
	l := Start(t)
	booted := make(chan struct{})
	l.OnReboot(func() {
		if err := l.Restart(); err != nil {
			t.Error(err)
		}
		close(booted)
	})
	_ = newClient(t, l).reboot() // The reply may be lost, as on a real machine.
	wait(t, booted, "boot")
	if l.Preparing() || l.Reboots() != 1 {
		t.Errorf("preparing %t, %d reboots", l.Preparing(), l.Reboots())
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, l)
	l.AnswerReboot(Answer{Loss: NeverAnswered})
	arrived := make(chan struct{})
	l.OnCall(func() { close(arrived) })
	result := make(chan error, 1)
	go func() { result <- c.reboot() }()
	wait(t, arrived, "call")
	l.Close()
	if err := <-result; err == nil {
		t.Error("the call was answered")
	}
	if _, err := os.Stat(l.bus.dir); !os.IsNotExist(err) {
		t.Errorf("directory of the bus: %v", err)
	}
	select {
	case <-l.bus.exited:
	default:
		t.Error("dbus-daemon still runs")
	}
	if err := l.Arrive(); err == nil {
		t.Error("logind came back to a bus that is closed")
	}
	l.Close()
}
