package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// A machine is one node: a stand-in kubelet, a stand-in logind on a D-Bus
// daemon of its own, and the real kured, started as its units do.
type machine struct {
	name       string
	node       *testenv.Node
	login      *fakelogin1.Login1
	kured      string
	dir        string // the machine's own: run, state, sentinel
	sentinel   string
	kubeconfig string
	daemon     *process // nil while none runs
}

// The machines, which are Nodes of these names.
const (
	idleMachine   = "node-idle"
	takingMachine = "node-taker"
	cycleMachine  = "node-cycle"
)

// newMachine boots a machine. Its daemon does not run yet.
func (s *stage) newMachine(ctx context.Context, name string) (*machine, error) {
	m := &machine{name: name, kured: s.kured, dir: filepath.Join(s.dir, name)}
	m.sentinel = filepath.Join(m.dir, "sentinel", "reboot-required")
	var err error
	if m.kubeconfig, err = s.plane.Kubeconfig(name, testenv.NodeSubject(name)); err != nil {
		return nil, err
	}
	// No settle time: it is added on purpose, and would only hide what is measured.
	config := fmt.Sprintf("[kubernetes]\nkubeconfig = %q\n[sentinel]\npaths = [%q]\nsettle = \"0s\"\n[metrics]\nlisten = [%q]\n",
		m.kubeconfig, m.sentinel, "unix:"+m.path("metrics.sock"))
	if err := os.WriteFile(m.path("kured.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := m.listen(s); err != nil {
		return nil, err
	}
	if m.login, err = fakelogin1.New(); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, m.login.Close)
	if m.node, err = s.plane.StartNode(ctx, standin.Options{NodeName: name}); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = m.node.PowerOff() }, m.stop)
	return m, nil
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// listen takes what the daemon tells systemd, and forgets it.
func (m *machine) listen(s *stage) error {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path("notify"), Net: "unixgram"})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = socket.Close() })
	go func() {
		for message := make([]byte, 4096); ; {
			if _, err := socket.Read(message); err != nil {
				return // closed
			}
		}
	}()
	return nil
}

// command prepares a command of kured as in this machine's present boot. The
// environment is what systemd gives to the units and nothing else; above all
// no other bus than the machine's own can be reached.
func (m *machine) command(args ...string) *exec.Cmd {
	c := exec.Command(m.kured, args...)
	c.Dir = m.dir
	c.Env = []string{
		"DBUS_SYSTEM_BUS_ADDRESS=" + m.login.Address(),
		"KURED_BOOT_ID=" + m.node.BootID(),
		"RUNTIME_DIRECTORY=" + m.path("run"),
		"STATE_DIRECTORY=" + m.path("state"),
	}
	return c
}

// start starts the daemon, with the watchdog of the shipped unit.
func (m *machine) start() error {
	c := m.command("run", "--config", m.path("kured.toml"))
	c.Env = append(c.Env, "NOTIFY_SOCKET="+m.path("notify"), "WATCHDOG_USEC=300000000")
	var err error
	m.daemon, err = startProcess(c)
	return err
}

// stop ends the daemon as systemd does.
func (m *machine) stop() {
	if m.daemon != nil {
		m.daemon.end()
		m.daemon = nil
	}
}

// comeBack is what kured-uncordon.service does after boot.
func (m *machine) comeBack(ctx context.Context) error {
	p, err := startProcess(m.command("uncordon", "--config", m.path("kured.toml")))
	if err != nil {
		return err
	}
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		p.end()
		return context.Cause(ctx)
	}
}

func (m *machine) want() error { return os.WriteFile(m.sentinel, nil, 0o600) }

func (m *machine) unwant() error { return os.Remove(m.sentinel) }

// await waits until the daemon is in one of these phases.
func (m *machine) await(ctx context.Context, phases ...status.Phase) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	socket := control.Client{Path: m.path("run/kured.sock")}
	for {
		now, err := socket.Status(ctx)
		switch {
		case err == nil && slices.Contains(phases, now.Phase):
			return nil
		case !m.daemon.running():
			return fmt.Errorf("kured of %s ended: %w", m.name, m.daemon.err)
		}
		if pause(ctx, 5*time.Millisecond) != nil {
			return fmt.Errorf("kured of %s is not %v but %s (%v); it logged: %s", m.name, phases, now.Line(), err, m.daemon.log.tail())
		}
	}
}

// process is a child that dies with this process.
type process struct {
	child *os.Process
	log   *tail
	ended chan struct{} // closed when the child is gone
	err   error         // to be read after ended is closed
}

func startProcess(c *exec.Cmd) (*process, error) {
	p := &process{log: &tail{}, ended: make(chan struct{})}
	c.Stdout, c.Stderr = p.log, p.log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the child ends (prctl(2), PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			p.err = c.Wait()
			if p.err != nil {
				p.err = fmt.Errorf("%w; it logged: %s", p.err, p.log.tail())
			}
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.child = c.Process
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end asks the child to end, and after a while makes it.
func (p *process) end() {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		// Not by its number, which may be another's by now.
		if err := p.child.Signal(signal); errors.Is(err, os.ErrProcessDone) {
			return
		}
		select {
		case <-p.ended:
			return
		case <-time.After(20 * time.Second):
		}
	}
}

// tail keeps the last lines of a log.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = slices.Clone(t.text[extra:])
	}
	return len(p), nil
}

func (t *tail) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
