package fakelogin1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// busConfig lets every caller own every name, as no test is about the bus's own policy.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// Bus is a real dbus-daemon of its own on unix sockets in a temporary directory.
//
// Clients reach it through a relay in this process, so that a test can cut their connections while the daemon and
// what else is connected to it live on.
type Bus struct {
	dir     string
	direct  string // address of dbus-daemon itself
	relay   net.Listener
	kill    func()
	exited  <-chan struct{}
	relayed sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	clients map[net.Conn]struct{}
}

// StartBus starts dbus-daemon (Debian package dbus-daemon), which has to be installed.
func StartBus() (bus *Bus, err error) {
	// Not a test's own directory: the path of a unix socket may have 107 bytes only (unix(7)).
	dir, err := os.MkdirTemp("", "fakelogin1-")
	if err != nil {
		return nil, fmt.Errorf("start private bus: %w", err)
	}
	bus = &Bus{dir: dir, clients: map[net.Conn]struct{}{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start private bus: %w", err)
			bus.Close()
		}
	}()
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, filepath.Join(dir, "bus")), 0o600); err != nil {
		return bus, err
	}
	if bus.direct, err = bus.startDaemon(config); err != nil {
		return bus, err
	}
	if bus.relay, err = net.Listen("unix", filepath.Join(dir, "clients")); err != nil {
		return bus, err
	}
	bus.relayed.Add(1)
	go bus.accept()
	return bus, nil
}

// startDaemon returns the address that dbus-daemon prints when it is ready.
func (b *Bus) startDaemon(config string) (string, error) {
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--print-address", "--nofork", "--nopidfile")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	// If this process dies without a chance to clean up, the daemon shall die too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The signal comes when the thread that started the daemon ends (prctl(2), PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return "", err
	}
	b.kill = func() { _ = cmd.Process.Kill() }
	b.exited = exited
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Kill()
		return "", fmt.Errorf("dbus-daemon gave no address: %w; it said: %s", err, stderr.String())
	}
	return strings.TrimSpace(line), nil
}

// Address is the D-Bus address for clients.
func (b *Bus) Address() string { return "unix:path=" + filepath.Join(b.dir, "clients") }

// Direct is the D-Bus address for services: CutClients leaves their connections alone.
func (b *Bus) Direct() string { return b.direct }

// Kill ends dbus-daemon at once and waits until it is gone. New connections are refused from then on.
func (b *Bus) Kill() {
	b.closeRelay()
	b.kill()
	<-b.exited
}

// CutClients closes the connections of all clients. They may connect again.
func (b *Bus) CutClients() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for conn := range b.clients {
		_ = conn.Close()
	}
}

// Close ends the daemon and removes its directory.
func (b *Bus) Close() {
	b.closeRelay()
	if b.kill != nil {
		b.kill()
		<-b.exited
	}
	b.CutClients()
	b.relayed.Wait()
	_ = os.RemoveAll(b.dir)
}

func (b *Bus) closeRelay() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	if b.relay != nil {
		_ = b.relay.Close()
	}
}

func (b *Bus) accept() {
	defer b.relayed.Done()
	for {
		conn, err := b.relay.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		b.relayed.Add(1)
		go b.serve(conn)
	}
}

// serve copies both ways until one side ends. The daemon sees the credentials of this process, which are the
// clients' too.
func (b *Bus) serve(client net.Conn) {
	defer b.relayed.Done()
	defer client.Close()
	server, err := net.Dial("unix", filepath.Join(b.dir, "bus"))
	if err != nil {
		return
	}
	defer server.Close()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.clients[client] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.clients, client)
		b.mu.Unlock()
	}()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, client)
	_ = server.Close()
	<-back
}
