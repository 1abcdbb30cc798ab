package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// member is a node of a cluster with kured on it, which a reboot is wanted of.
// The daemon is real and has the kubelet's credential, the kubelet is a
// stand-in, logind a fake.
type member struct {
	*cluster // with the directory of this node's files
	node     *testenv.Node
	login    *fakelogin1.Login1
	boot     string
	change   func(*program) // before the daemon starts; nil: nothing
	logged   *journal       // of all daemons, one after the other
	rebooted chan struct{}
	stop     func() // ends the daemon, as systemd does
}

// join adds a node with this configuration, in which DIR is the directory of its
// files. The daemon is not started yet.
func (c *cluster) join(name, toml string) *member {
	c.t.Helper()
	m := &member{
		cluster: &cluster{c.ControlPlane, c.t, c.t.TempDir()}, login: fakelogin1.Start(c.t),
		logged: &journal{}, rebooted: make(chan struct{}), stop: func() {},
	}
	c.t.Cleanup(func() {
		m.stop()
		work() // the memory settings of a daemon that rests are those of this process
		if c.t.Failed() {
			c.t.Logf("journal of %s:\n%s", name, m.logged)
		}
	})
	m.node = testenv.NewNode(c.t, c.ControlPlane, standin.Options{NodeName: name})
	m.login.OnReboot(func() { close(m.rebooted) })
	m.write("run/reboot-required", "")
	m.write("run/reboot-required.pkgs", "linux-image-6.1.0-40\n")
	m.write("kured.toml", fmt.Sprintf(`
kubernetes.kubeconfig = %q
sentinel.paths = [%q]
sentinel.settle = "0s"
gates.recheck = "1s"
retry = {initial = "1s", max = "1s"}
log.format = "text"
`, m.as(testenv.NodeSubject(name)), filepath.Join(m.dir, "run", "reboot-required"))+strings.ReplaceAll(toml, "DIR", m.dir))
	m.newBoot()
	return m
}

// newBoot is of the boot that the kubelet is in.
func (m *member) newBoot() {
	m.t.Helper()
	var err error
	if m.boot, err = node.NormalizeBootID(m.node.BootID()); err != nil {
		m.t.Fatal(err)
	}
}

// write gives one of the node's files another content, at once as editors do.
func (m *member) write(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// remove takes a file away.
func (m *member) remove(path string) {
	m.t.Helper()
	if err := os.Remove(path); err != nil {
		m.t.Fatal(err)
	}
}

// program is what a process of this boot makes of kured.toml.
func (m *member) program() *program {
	m.t.Helper()
	cfg, err := config.Load(filepath.Join(m.dir, "kured.toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	p := testPlan(m.t, m.dir, m.login.Address(), m.boot, cfg)
	p.log = slog.New(slog.NewTextHandler(m.logged, nil))
	if err := p.planNotices(); err != nil { // with that log
		m.t.Fatal(err)
	}
	if m.change != nil {
		m.change(p)
	}
	return p
}

// start starts the daemon of this boot.
func (m *member) start() {
	m.t.Helper()
	p := m.program()
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.run(ctx, reloading{}); err != nil {
			m.t.Errorf("the daemon of %s: %v", m.node.Name(), err)
		}
	}()
	m.stop = func() {
		cancel()
		<-ended
	}
}

// status is what the daemon answers; the zero one while there is none.
func (m *member) status() status.Status {
	s, err := control.Client{Path: filepath.Join(m.dir, "kured.sock")}.Status(m.t.Context())
	if err != nil {
		return status.Status{}
	}
	return s
}

// await waits until the daemon is in this phase for this reason, and says so.
func (m *member) await(phase status.Phase, reason status.Reason, detail string) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Logf("the status is %+v", m.status())
		}
	}()
	m.eventually(fmt.Sprintf("%s is %s for %q with %q", m.node.Name(), phase, reason, detail), func() bool {
		s := m.status()
		return s.Phase == phase && s.Reason == reason && strings.Contains(s.Detail, detail)
	})
}

// awaitHeldDrain waits until the drain is at the pod of blockDrain.
func (m *member) awaitHeldDrain() {
	m.t.Helper()
	m.eventually(m.node.Name()+" is in the midst of its drain", func() bool {
		s := m.status()
		return s.Phase == status.Draining && s.Drain != nil && len(s.Drain.Held) > 0
	})
	if !m.cordoned() {
		m.t.Fatal("drained and not cordoned")
	}
}

// cordoned reports whether the Node carries our cordon.
func (m *member) cordoned() bool {
	m.t.Helper()
	n := m.cluster.node(m.node.Name())
	if marked := n.Annotations[node.MarkAnnotation] != ""; marked != n.Spec.Unschedulable {
		m.t.Errorf("cordoned: %v, mark: %v", n.Spec.Unschedulable, marked)
	}
	return n.Spec.Unschedulable
}

// awaitRolledBack waits until a try was rolled back, the nth of this node.
func (m *member) awaitRolledBack(nth int) {
	m.t.Helper()
	m.eventually("rolled back", func() bool {
		return strings.Count(m.logged.String(), "rolled back: uncordoned, lock released") == nth
	})
	if m.cordoned() {
		m.t.Error("rolled back, and still cordoned")
	}
	if left := m.entries(); len(left) != 0 {
		m.t.Errorf("rolled back, and left in the lock: %v", left)
	}
	if n := m.login.Calls(); n != 0 {
		m.t.Errorf("rolled back, and logind was called %d times", n)
	}
}

// awaitReboot waits until logind would reboot the machine.
func (m *member) awaitReboot() {
	m.t.Helper()
	select {
	case <-m.rebooted:
	case <-time.After(time.Minute):
		m.t.Fatalf("no reboot: %+v", m.status())
	}
}

// goDown is the end of a boot: of the daemon, of the kubelet, and of /run.
func (m *member) goDown() {
	m.t.Helper()
	m.awaitReboot()
	m.stop()
	if err := m.node.PowerOff(); err != nil {
		m.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(m.dir, "run")); err != nil {
		m.t.Fatal(err)
	}
	if err := m.login.Restart(); err != nil {
		m.t.Fatal(err)
	}
}

// comeBack is kured uncordon of this boot, until ctx ends.
func (m *member) comeBack(ctx context.Context) (now func() status.Status, done <-chan error) {
	m.t.Helper()
	p := m.program()
	var newest atomic.Pointer[status.Status]
	newest.Store(&status.Status{})
	runner := cycle.Runner{Mode: cycle.Return, Boot: p.boot, Parts: p.parts(nil), Publish: func(s status.Status) { newest.Store(&s) }}
	ended := make(chan error, 1)
	go func() { ended <- runner.Do(ctx) }()
	return func() status.Status { return *newest.Load() }, ended
}

// uncordon runs kured uncordon of this boot as a process of its own, and returns its log.
func (m *member) uncordon(env ...string) (log string) {
	m.t.Helper()
	command := exec.CommandContext(m.t.Context(), "kured", "uncordon", "--config", filepath.Join(m.dir, "kured.toml")) // see TestMain
	command.Env = append(env, "DBUS_SYSTEM_BUS_ADDRESS="+m.login.Address(), "RUNTIME_DIRECTORY="+m.dir, "STATE_DIRECTORY="+m.dir,
		"CONFIGURATION_DIRECTORY="+m.dir, "KURED_BOOT_ID="+m.boot)
	out, err := command.CombinedOutput()
	if err != nil {
		m.t.Fatalf("kured uncordon: %v\n%s", err, out)
	}
	return string(out)
}

// entries are what is in the lock.
func (c *cluster) entries() map[string]string {
	c.t.Helper()
	cm, err := c.Admin().CoreV1().ConfigMaps("kube-system").Get(c.t.Context(), "kured-lock", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return cm.Data
}

// systemd hears what the daemons of this test say, and wants a sign of life every 20 ms.
func systemd(t *testing.T) *told {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", "")
	heard := newTold()
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			heard.add(string(buffer[:n]))
		}
	}()
	return heard
}

// noSystemd lets the daemons of this test speak to nobody.
func noSystemd(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		t.Setenv(name, "")
	}
}
