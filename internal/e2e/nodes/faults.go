package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// PowerOn boots a node that is off; it has no effect on one that is on.
func (n *Node) PowerOn() {
	n.mu.Lock()
	on := n.process != nil
	n.mu.Unlock()
	if !on {
		n.setPower(func(p *power) { p.on = true })
	}
}

// PowerCut kills the node at once, as a pulled plug does, except that what it wrote without sync survives.
// With comeBack the power returns and it boots, else it stays off until PowerOn.
func (n *Node) PowerCut(comeBack bool) error {
	leader, err := n.Leader()
	if err != nil {
		return err
	}
	n.setPower(func(p *power) { p.on = comeBack })
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
		return fmt.Errorf("%s: power cut: %w", n.Name, err)
	}
	return nil
}

// HoldOff keeps the node from booting once it is down, whatever the reason; with false it may boot again,
// and does if it was rebooting or switched on meanwhile.
func (n *Node) HoldOff(hold bool) { n.setPower(func(p *power) { p.holdOff = hold }) }

// BootDelay makes every later boot take that much longer, like slow firmware.
func (n *Node) BootDelay(d time.Duration) { n.setPower(func(p *power) { p.delay = d }) }

// Freeze stops every process of the node, like a machine that hangs.
func (n *Node) Freeze() error { return n.freeze("1") }

// Thaw lets a frozen node go on.
func (n *Node) Thaw() error { return n.freeze("0") }

func (n *Node) freeze(state string) error {
	if err := os.WriteFile(filepath.Join(n.cgroup(), "cgroup.freeze"), []byte(state), 0); err != nil {
		return fmt.Errorf("%s: freeze %s: %w", n.Name, state, err)
	}
	return nil
}

// Partition pulls the node's network cable.
func (n *Node) Partition(ctx context.Context) error {
	return ip(ctx, "link set "+port(n.Name)+" down")
}

// Heal plugs it in again.
func (n *Node) Heal(ctx context.Context) error {
	return ip(ctx, "link set "+port(n.Name)+" up")
}

// stop ends the node and its supervisor for ever.
func (n *Node) stop() {
	n.setPower(func(p *power) { p.stopped = true })
	n.mu.Lock()
	started := n.started
	n.mu.Unlock()
	if !started {
		return
	}
	for {
		// Takes everything, frozen or not (kernel 5.14 and later).
		err := os.WriteFile(filepath.Join(n.cgroup(), "cgroup.kill"), []byte("1"), 0)
		if errors.Is(err, fs.ErrNotExist) {
			_ = n.Thaw()
			if leader, err := n.Leader(); err == nil {
				_ = syscall.Kill(leader, syscall.SIGKILL)
			}
		}
		select {
		case <-n.done:
			removeCgroup(n.cgroup(), time.Second)
			return
		case <-time.After(50 * time.Millisecond): // it was just starting
		}
	}
}
