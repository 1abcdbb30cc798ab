package nodes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrDown is wrapped by errors of operations that need a running node.
var ErrDown = errors.New("node is down")

// Node is one machine. Its methods may be called at any time, from any goroutine.
type Node struct {
	Name  string
	IP    netip.Addr
	Image Image

	room *Room
	dir  string
	wake chan struct{} // cap 1: the power settings changed
	done chan struct{} // closed when the supervisor has ended

	mu      sync.Mutex
	power   power
	boots   []Boot
	started bool        // the supervisor runs or has run
	process *os.Process // systemd-nspawn, while the node is on
	leader  int         // its pid 1, once seen
}

// power is what the supervisor heeds between two boots.
type power struct {
	on      bool // boot when off; a reboot sets it
	holdOff bool // but not yet
	delay   time.Duration
	stopped bool // never again
}

// Ending tells how a boot ended.
type Ending string

// The endings of a boot; it is empty while the boot lasts.
const (
	Rebooted   Ending = "rebooted"    // pid 1 asked the kernel for a reboot
	PoweredOff Ending = "powered off" // pid 1 asked for power off or halt
	Died       Ending = "died"        // pid 1 was killed (see PowerCut), or the node could not start
)

// Boot is one life of a node as its firmware saw it.
type Boot struct {
	ID     string    // boot id, 32 hex digits; empty if it died before it had one
	Start  time.Time // when it was switched on
	End    time.Time // zero while it lasts
	Ending Ending
}

// exitReboot is systemd-nspawn's exit code after a reboot with --keep-unit (EXIT_FORCE_RESTART).
const exitReboot = 133

func newNode(r *Room, s Spec, addr netip.Addr) *Node {
	return &Node{
		Name: s.Name, IP: addr, Image: s.Image,
		room: r, dir: filepath.Join(workDir, "nodes", s.Name),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

func (n *Node) root() string   { return filepath.Join(n.dir, "root") }
func (n *Node) cgroup() string { return filepath.Join(os.Getenv(envCgroup), n.Name) }

// start starts the supervisor and switches the node on.
func (n *Node) start() {
	n.mu.Lock()
	n.started = true
	n.mu.Unlock()
	go n.supervise()
	n.PowerOn()
}

// supervise is the power supply and the firmware: it boots the node whenever it is to be on.
func (n *Node) supervise() {
	defer close(n.done)
	for n.awaitPower() {
		ending, err := n.boot()
		if err != nil {
			n.room.journal("e2e: node %s: %v", n.Name, err)
		}
		n.mu.Lock()
		last := &n.boots[len(n.boots)-1]
		last.End, last.Ending = time.Now(), ending
		n.process, n.leader = nil, 0
		n.power.on = n.power.on || ending == Rebooted
		n.mu.Unlock()
	}
}

// awaitPower returns true when the node is to boot and false when it never will again.
func (n *Node) awaitPower() bool {
	var since time.Time // when power and permission came together
	for {
		n.mu.Lock()
		p := n.power
		var due <-chan time.Time
		switch {
		case p.stopped:
			n.mu.Unlock()
			return false
		case !p.on || p.holdOff:
			since = time.Time{}
		default:
			if since.IsZero() {
				since = time.Now()
			}
			left := p.delay - time.Since(since)
			if left <= 0 {
				n.power.on = false
				n.mu.Unlock()
				return true
			}
			due = time.After(left)
		}
		n.mu.Unlock()
		select {
		case <-n.wake:
		case <-due:
		}
	}
}

func (n *Node) setPower(change func(*power)) {
	n.mu.Lock()
	change(&n.power)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// boot runs the node once, until its pid 1 is gone.
func (n *Node) boot() (Ending, error) {
	n.mu.Lock()
	n.boots = append(n.boots, Boot{Start: time.Now()})
	n.mu.Unlock()
	console, err := os.OpenFile(n.consolePath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Died, err
	}
	defer func() { _ = console.Close() }()
	if err := os.MkdirAll(n.cgroup(), 0o755); err != nil {
		return Died, err
	}
	cgroup, err := os.Open(n.cgroup())
	if err != nil {
		return Died, err
	}
	defer func() { _ = cgroup.Close() }()

	cmd := exec.Command("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
		"--directory="+n.root(), "--machine="+n.Name, "--network-namespace-path=/run/netns/"+n.Name,
		"--console=read-only", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		// Without these, units with IPAddressDeny= run silently without it.
		"--capability=CAP_BPF,CAP_PERFMON", "--system-call-filter=bpf",
		"--bind-ro="+n.room.Share+":/srv/share")
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1") // a pure cgroup2 inside, also on a hybrid host
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if err := cmd.Start(); err != nil {
		return Died, fmt.Errorf("start systemd-nspawn: %w", err)
	}
	n.mu.Lock()
	n.process = cmd.Process
	n.mu.Unlock()
	gone := make(chan struct{})
	seen := make(chan struct{})
	go func() { defer close(seen); n.noteBootID(gone) }()
	err = cmd.Wait()
	close(gone)
	<-seen
	switch code := cmd.ProcessState.ExitCode(); code {
	case exitReboot:
		return Rebooted, nil
	case 0:
		return PoweredOff, nil
	default:
		if n.hasBooted() {
			return Died, nil
		}
		return Died, fmt.Errorf("systemd-nspawn: %w: %s", err, tail(n.Console(), 500))
	}
}

// hasBooted tells whether the present boot has got as far as a boot id.
func (n *Node) hasBooted() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.boots[len(n.boots)-1].ID != ""
}

// noteBootID enters the boot id into the history as soon as there is one.
func (n *Node) noteBootID(gone <-chan struct{}) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if id, err := n.readBootID(); err == nil {
			n.mu.Lock()
			n.boots[len(n.boots)-1].ID = id
			n.mu.Unlock()
			return
		}
		select {
		case <-gone:
			return
		case <-ticker.C:
		}
	}
}

// Leader returns the pid, in the caller's pid namespace, of the node's pid 1.
func (n *Node) Leader() (int, error) {
	n.mu.Lock()
	process, leader := n.process, n.leader
	n.mu.Unlock()
	if process == nil {
		return 0, fmt.Errorf("%s: %w", n.Name, ErrDown)
	}
	if leader != 0 {
		return leader, nil
	}
	// nspawn's child that is pid 1 of a pid namespace below ours; an intermediate child is not.
	processes, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return 0, err
	}
	for _, path := range processes {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		var parent, namespaces string
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "PPid:"); ok {
				parent = strings.TrimSpace(value)
			} else if value, ok := strings.CutPrefix(line, "NSpid:"); ok {
				namespaces = value
			}
		}
		ids := strings.Fields(namespaces)
		if parent != strconv.Itoa(process.Pid) || len(ids) < 2 || ids[len(ids)-1] != "1" {
			continue
		}
		if leader, err = strconv.Atoi(ids[0]); err != nil {
			return 0, err
		}
		n.mu.Lock()
		if n.process == process {
			n.leader = leader
		}
		n.mu.Unlock()
		return leader, nil
	}
	return 0, fmt.Errorf("%s: no pid 1 yet: %w", n.Name, ErrDown)
}

// readBootID reads it from outside: a process of ours inside the node's pid namespace could block its
// shutdown.
func (n *Node) readBootID() (string, error) {
	leader, err := n.Leader()
	if err != nil {
		return "", err
	}
	inside, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/proc/sys/kernel/random/boot_id", leader))
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", n.Name, ErrDown, err)
	}
	outside, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	if string(inside) == string(outside) { // nspawn has not covered the machine's own yet
		return "", fmt.Errorf("%s: not set up yet: %w", n.Name, ErrDown)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(inside)), "-", ""), nil
}

// BootID returns the id of the present boot as 32 hex digits, or an error that wraps ErrDown.
func (n *Node) BootID() (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || n.boots[len(n.boots)-1].ID == "" {
		return "", fmt.Errorf("%s: %w", n.Name, ErrDown)
	}
	return n.boots[len(n.boots)-1].ID, nil
}

// Boots returns the history of boots, the present one last.
func (n *Node) Boots() []Boot {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.boots)
}

// BootCount is the number of boots that got as far as a boot id.
func (n *Node) BootCount() int {
	count := 0
	for _, b := range n.Boots() {
		if b.ID != "" {
			count++
		}
	}
	return count
}

// WaitOff waits until the node is down.
func (n *Node) WaitOff(ctx context.Context) error {
	return n.poll(ctx, "wait for power off", func() (bool, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.process == nil, nil
	})
}

// WaitBooted waits for a boot whose id is not the given one (which may be empty) and that has reached
// basic.target with D-Bus and logind answering, and returns its id. Services may still be starting.
func (n *Node) WaitBooted(ctx context.Context, not string) (string, error) {
	var id string
	err := n.poll(ctx, "wait for boot", func() (bool, error) {
		var err error
		if id, err = n.BootID(); err != nil || id == not {
			return false, nil
		}
		return n.reachedBasic(ctx), nil
	})
	return id, err
}

// WaitSystemState waits for a state of the system manager such as "running" (all units started).
func (n *Node) WaitSystemState(ctx context.Context, want string) error {
	var state string
	err := n.poll(ctx, "wait for system state "+want, func() (bool, error) {
		now, err := n.SystemState(ctx)
		if err == nil {
			state = now
		}
		return err == nil && state == want, nil
	})
	if err != nil && state != "" {
		err = fmt.Errorf("%w (it is %s)", err, state)
	}
	if err != nil && state == "degraded" {
		// Many at once that watch paths or mounts: fs.inotify.max_user_instances, which all nodes of all
		// runs share, is used up.
		err = fmt.Errorf("%w; failed units: %s", err, strings.Join(n.failedUnits(), " "))
	}
	return err
}

func (n *Node) poll(ctx context.Context, what string, check func() (bool, error)) error {
	if err := Poll(ctx, 20*time.Millisecond, check); err != nil {
		return fmt.Errorf("%s: %s: %w", n.Name, what, err)
	}
	return nil
}
