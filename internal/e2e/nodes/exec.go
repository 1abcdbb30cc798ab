package nodes

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// ExitError is a command that ran in a node and did not end with exit code 0.
type ExitError struct {
	Command        []string
	Code           int    // exit code, or the signal's number
	Result         string // systemd's word for it: exit-code, signal, timeout …
	Stdout, Stderr string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: %s %d: %s", strings.Join(e.Command, " "), e.Result, e.Code,
		tail(strings.TrimSpace(e.Stdout+e.Stderr), 1500))
}

// Exec runs a command in the node as root, with an empty stdin, and returns its stdout. The error is an
// *ExitError if the command ran and failed; anything else means that it did not run or that its end was not
// seen, for instance because the node went down.
//
// The node's own systemd runs it, as a transient unit: a process that entered from outside would hang in
// the node's shutdown and block it for ever.
func (n *Node) Exec(ctx context.Context, command ...string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := n.SystemBus(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	stdout, err := newCapture()
	if err != nil {
		return "", err
	}
	defer stdout.close()
	stderr, err := newCapture()
	if err != nil {
		return "", err
	}
	defer stderr.close()

	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerIface), dbus.WithMatchMember("JobRemoved")); err != nil {
		return "", fmt.Errorf("%s: %w", n.Name, err)
	}
	unit := "e2e-" + strings.ToLower(rand.Text()[:12]) + ".service"
	manager := conn.Object(systemdName, systemdPath)
	var job dbus.ObjectPath
	call := manager.CallWithContext(ctx, managerIface+".StartTransientUnit", 0, unit, "fail",
		execProperties(command, stdout, stderr), []auxUnit{})
	if err := call.Store(&job); err != nil {
		return "", fmt.Errorf("%s: start %q: %w", n.Name, command, err)
	}
	stdout.started()
	stderr.started()
	if err := awaitJob(ctx, signals, job); err != nil {
		return "", fmt.Errorf("%s: %q: %w", n.Name, command, err)
	}
	object, err := loadUnit(ctx, conn, unit)
	if err != nil {
		return "", fmt.Errorf("%s: %w", n.Name, err)
	}
	failure := &ExitError{Command: command}
	var status int32
	for name, value := range map[string]any{"Result": &failure.Result, "ExecMainStatus": &status} {
		if err := property(ctx, object, serviceIface, name, value); err != nil {
			return "", fmt.Errorf("%s: result of %q: %w", n.Name, command, err)
		}
	}
	failure.Stdout, failure.Stderr, failure.Code = stdout.text(), stderr.text(), int(status)
	if failure.Result == "success" {
		return failure.Stdout, nil
	}
	_ = manager.CallWithContext(ctx, managerIface+".ResetFailedUnit", 0, unit).Err // else the node stays "degraded"
	return failure.Stdout, fmt.Errorf("%s: %w", n.Name, failure)
}

// The D-Bus structures of StartTransientUnit (org.freedesktop.systemd1(5)).
type (
	unitProperty struct {
		Name  string
		Value dbus.Variant
	}
	auxUnit struct {
		Name       string
		Properties []unitProperty
	}
	execStart struct {
		Path          string
		Args          []string
		IgnoreFailure bool
	}
)

func execProperties(command []string, stdout, stderr *capture) []unitProperty {
	args := []string{"env"} // for the search in PATH
	for _, arg := range command {
		args = append(args, strings.ReplaceAll(arg, "$", "$$")) // else systemd would put its own variables in
	}
	properties := map[string]any{
		"Description": "e2e: " + strings.Join(command, " "),
		"Type":        "oneshot",
		"AddRef":      true, // keeps the unit for reading its result until we disconnect
		"ExecStart":   []execStart{{"/usr/bin/env", args, false}},
		"Environment": []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
			"DEBIAN_FRONTEND=noninteractive",
		},
		"StandardOutputFileDescriptor": dbus.UnixFD(stdout.write.Fd()),
		"StandardErrorFileDescriptor":  dbus.UnixFD(stderr.write.Fd()),
	}
	var list []unitProperty
	for name, value := range properties {
		list = append(list, unitProperty{name, dbus.MakeVariant(value)})
	}
	return list
}

func awaitJob(ctx context.Context, signals <-chan *dbus.Signal, job dbus.ObjectPath) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s, ok := <-signals:
			if !ok {
				return fmt.Errorf("lost its system bus: %w", ErrDown)
			}
			// JobRemoved(u id, o job, s unit, s result)
			if s.Name == managerIface+".JobRemoved" && len(s.Body) == 4 && s.Body[1] == job {
				return nil
			}
		}
	}
}

// capture collects one output of a command through a pipe.
type capture struct {
	read, write *os.File
	buffer      bytes.Buffer
	done        chan struct{}
}

func newCapture() (*capture, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &capture{read: read, write: write, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_, _ = c.buffer.ReadFrom(read)
	}()
	return c, nil
}

// started lets go of our own writing end: the node has its copy.
func (c *capture) started() { _ = c.write.Close() }

// text returns what was written. A background process may keep the pipe open beyond the command's end; it
// is not waited for.
func (c *capture) text() string {
	_ = c.read.SetReadDeadline(time.Now().Add(time.Second))
	<-c.done
	return c.buffer.String()
}

func (c *capture) close() {
	_ = c.write.Close()
	_ = c.read.Close()
	<-c.done
}
