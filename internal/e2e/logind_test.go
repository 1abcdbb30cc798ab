//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// A package manager blocks the shutdown of a node. The node says who it waits
// for, stays out of the queue while another one goes, and goes when it may.
func TestInhibitorBeforeTheCycle(t *testing.T) {
	s := begin(t, 2*time.Minute)
	busy, other := s.Node("node-b"), s.Node("node-c")
	before := s.bootIDs()
	apt := s.inhibit(busy, "block", "unattended-upgrades", "installing updates")

	s.want(busy, other)
	now := s.awaitSays(busy, status.Blocked, status.Inhibited)
	contains(t, "kured status", now.Detail, "unattended-upgrades", "blocks shutdown", "installing updates")
	contains(t, "StatusText", s.statusText(busy), "blocked: unattended-upgrades")
	contains(t, "the journal", s.awaitTold(busy, status.Inhibited).Message, "unattended-upgrades", "installing updates")
	back := s.awaitBack(s.from, other, before[other.Name])
	s.awaitSays(busy, status.Blocked, status.Inhibited)
	if s.history().Ever(func(c cluster.State) bool {
		return c.Holds(busy.Name) || len(c.Waiters()) > 0 || c.IsCordoned(busy.Name)
	}) {
		t.Errorf("%s took a place or a cordon although its shutdown is blocked", busy.Name)
	}

	apt.release(s)
	s.awaitBack(back, busy, before[busy.Name])
	s.atRest()
	s.rebootedOnce(before, busy, other)
}

// The package manager starts while the node is drained. The drain goes on, the
// reboot waits. systemd 247 and 252 would let root reboot all the same, 257
// would refuse: kured does the same on all.
func TestInhibitorWhileDraining(t *testing.T) {
	for _, name := range []string{"node-a", "node-c"} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, 2*time.Minute)
			n := s.Node(name)
			slow := cluster.Workload{Name: "slow", Replicas: 1, On: name, StopAfter: time.Minute}
			s.deploy(slow)
			s.afterwards("end "+slow.Name, func(ctx context.Context) error { return s.end(ctx, slow) })
			before := s.bootIDs()

			s.want(n)
			draining := s.await(s.from, "its pod to stop", func(c cluster.State) bool { return c.Mark(name) != "" })
			s.awaitEvicted(slow)
			apt := s.inhibit(n, "block", "apt", "installs a kernel")
			s.letStop(slow)
			s.awaitEntry(n, "the end of the drain", func(e nodes.Entry) bool { return strings.HasPrefix(e.Message, "drained: 1 pod gone") })
			now := s.awaitSays(n, status.Draining, status.Inhibited)
			contains(t, "kured status", now.Detail, "apt", "installs a kernel")
			contains(t, "StatusText", s.statusText(n), "draining: apt")
			contains(t, "the journal", s.awaitTold(n, status.Inhibited).Message, "apt", "installs a kernel")
			s.must(s.Recorder.Sync(s.ctx))
			if c := s.Recorder.State(); !c.Holds(name) || !strings.Contains(c.Lock["holder."+name], `"draining"`) || !c.IsCordoned(name) {
				t.Errorf("while it waits, drained: %s", c)
			}

			released := apt.release(s)
			s.awaitBack(draining, n, before[name])
			if asked := s.awaitEntry(n, "the reboot", isReboot); asked.Time.Before(released) {
				t.Errorf("asked to reboot %s before the inhibitor was released", released.Sub(asked.Time))
			}
			s.atRest()
			s.rebootedOnce(before, n)
			if spans := s.history().HolderSpans(); len(spans) != 1 {
				t.Errorf("held %v, want once", spans)
			}
		})
	}
}

// An administrator has masked what a reboot needs. logind refuses: each node
// gives everything back and claims nothing.
func TestRebootRefused(t *testing.T) {
	s := begin(t, 2*time.Minute)
	// systemd 257 says beforehand that it cannot, if reboot.target itself is masked; see below.
	s.mask(s.Node("node-a"), "reboot.target")
	s.mask(s.Node("node-b"), "reboot.target")
	s.mask(s.Node("node-c"), "systemd-reboot.service")
	before := s.bootIDs()

	for _, n := range s.Room.Nodes() {
		s.want(n)
		s.awaitGivenBack(s.from, n, before[n.Name])
		told := s.awaitTold(n, status.RebootRefused)
		contains(t, "the journal", told.Message, "rolling-back", "logind said no to Reboot")
		now := s.awaitSays(n, status.BackingOff, status.RebootRefused)
		contains(t, "StatusText", now.Line(), "backing-off: ", "logind said no", "next try at")
		s.must(cluster.Unwant(n))
		s.awaitSays(n, status.Idle, "")
		spent, err := n.ReadFile(ledger)
		if s.must(err); strings.Contains(string(spent), "20") {
			t.Errorf("%s counts a reboot that it did not get: %s", n.Name, spent)
		}
	}
	s.atRest()
	s.rebootedOnce(before)
	for _, n := range s.Room.Nodes() {
		s.toldNoSuccess(n, "")
	}

	// What logind knows beforehand keeps the node out of the queue.
	last := s.Node("node-c")
	s.mask(last, "reboot.target")
	writes := s.history().LockWrites()
	s.must(cluster.Want(last))
	now := s.awaitSays(last, status.Blocked, status.LogindUnavailable)
	contains(t, "kured status", now.Detail, `"no"`, "whether this machine can reboot")
	if n := s.history().LockWrites() - writes; n != 0 {
		t.Errorf("%d writes of the lock for a node that cannot reboot", n)
	}
}

// logind accepts, waits for a delay inhibitor, and then cannot do it: it takes
// its word back, and so does the node.
func TestRebootCancelled(t *testing.T) {
	for _, name := range []string{"node-a", "node-b", "node-c"} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, 2*time.Minute)
			n := s.Node(name)
			before := s.bootIDs()
			s.inhibitDelay(n, time.Minute)
			saver := s.inhibit(n, "delay", "saver", "saves state")
			s.mask(n, "systemd-reboot.service")
			preparing := s.watchShutdown(n)

			s.want(n)
			s.awaitShutdown(preparing, true)
			s.awaitSays(n, status.Rebooting, "")
			if s.history().Ever(func(c cluster.State) bool { return c.Holds(name) && len(c.Holders()) > 1 }) || !s.Recorder.State().Holds(name) {
				t.Errorf("the lock while logind waits: %v", s.Recorder.State().Holders())
			}
			saver.release(s)
			s.awaitShutdown(preparing, false)
			s.awaitGivenBack(s.from, n, before[name])
			contains(t, "the journal", s.awaitTold(n, status.RebootCancelled).Message, "rolling-back")
			s.must(cluster.Unwant(n))
			s.awaitSays(n, status.Idle, "")
			s.atRest()
			s.rebootedOnce(before)
			s.toldNoSuccess(n, "")
		})
	}
}

// A delay inhibitor is respected: the machine goes down when it is released
// and not before, and until then the lock stays where it is.
func TestDelayInhibitorReleased(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n, other := s.Node("node-b"), s.Node("node-a")
	before := s.bootIDs()
	s.inhibitDelay(n, time.Minute)
	saver := s.inhibit(n, "delay", "saver", "saves state")
	preparing := s.watchShutdown(n)

	s.want(n)
	s.awaitShutdown(preparing, true)
	s.want(other)
	waits := s.await(s.from, other.Name+" to wait for its turn", func(c cluster.State) bool {
		return c.Holds(n.Name) && c.IsCordoned(n.Name) && len(c.Waiters()) == 1 && c.Waiters()[0] == other.Name
	})
	s.awaitSays(n, status.Rebooting, "")
	if id, err := n.BootID(); err != nil || id != before[n.Name] {
		t.Errorf("the machine went down under the inhibitor: %s, %v", id, err)
	}
	released := saver.release(s)
	s.awaitBack(waits, n, before[n.Name])
	s.awaitBack(waits, other, before[other.Name])
	s.atRest()

	if end := s.endOf(n, before[n.Name]); end.Before(released) {
		t.Errorf("went down %s before the inhibitor was released", released.Sub(end))
	}
	s.rebootedOnce(before, n, other)
	s.heldThroughout(n, before[n.Name])
}

// A delay inhibitor that nobody releases delays for InhibitDelayMaxSec.
func TestDelayInhibitorExpires(t *testing.T) {
	const most = 2 * time.Second
	for _, name := range []string{"node-a", "node-c"} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, 2*time.Minute)
			n := s.Node(name)
			before := s.bootIDs()
			s.inhibitDelay(n, most)
			s.inhibit(n, "delay", "saver", "never saves state")
			preparing := s.watchShutdown(n)

			s.want(n)
			announced := s.awaitShutdown(preparing, true)
			s.awaitBack(s.from, n, before[name])
			s.atRest()
			if delay := s.endOf(n, before[name]).Sub(announced); delay < most-100*time.Millisecond {
				t.Errorf("went down %s after it was announced, the inhibitor delays for %s", delay, most)
			}
			s.rebootedOnce(before, n)
			s.heldThroughout(n, before[name])
		})
	}
}

// heldThroughout fails the test unless a node that rebooted took the lock once,
// in the boot before, and let go in the new one.
func (s *story) heldThroughout(n *nodes.Node, before string) {
	s.t.Helper()
	spans := spansOf(n, s.history().HolderSpans())
	if len(spans) != 1 || spans[0].To.IsZero() {
		s.t.Fatalf("%s held %v, want once", n.Name, spans)
	}
	if end := s.endOf(n, before); spans[0].From.After(end) || spans[0].To.Before(end) {
		s.t.Errorf("%s held from %s to %s, and went down at %s", n.Name, spans[0].From, spans[0].To, end)
	}
}

// endOf is when the machine of a boot was off.
func (s *story) endOf(n *nodes.Node, boot string) time.Time {
	s.t.Helper()
	for _, b := range n.Boots() {
		if b.ID == boot {
			return b.End
		}
	}
	s.t.Fatalf("%s has no boot %s", n.Name, boot)
	return time.Time{}
}

// inhibitor is a program on a node that holds an inhibitor against shutdown.
type inhibitor struct {
	node *nodes.Node
	unit string
}

// inhibit starts systemd-inhibit(1) on a node, until it is released or the
// story ends.
func (s *story) inhibit(n *nodes.Node, mode, who, why string) inhibitor {
	s.t.Helper()
	i := inhibitor{n, "e2e-" + who + ".service"}
	s.afterwards("release "+who, func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "systemctl stop --quiet "+i.unit+" || test $? = 5") // 5: not loaded
		return err
	})
	_, err := n.Exec(s.ctx, "systemd-run", "--quiet", "--collect", "--unit="+i.unit,
		"systemd-inhibit", "--what=shutdown", "--mode="+mode, "--who="+who, "--why="+why, "sleep", "infinity")
	s.must(err)
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, who+" to take its inhibitor")
	defer cancel()
	s.must(nodes.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		list, err := n.Exec(ctx, "systemd-inhibit", "--list", "--no-pager")
		return strings.Contains(list, who), err
	}))
	return i
}

// release ends the program and returns a moment right before that.
func (i inhibitor) release(s *story) time.Time {
	s.t.Helper()
	now := time.Now()
	s.must(i.node.Kill(s.ctx, i.unit, syscall.SIGTERM))
	return now
}

// inhibitDelay sets how long logind of a node waits for delay inhibitors, for
// the rest of this boot or story.
func (s *story) inhibitDelay(n *nodes.Node, most time.Duration) {
	s.t.Helper()
	const dropIn = "/run/systemd/logind.conf.d/e2e.conf"
	s.afterwards("InhibitDelayMaxSec", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "rm -f "+dropIn+"; systemctl restart systemd-logind.service")
		return err
	})
	s.must(n.WriteFile(dropIn, fmt.Appendf(nil, "[Login]\nInhibitDelayMaxSec=%d\n", int(most.Seconds())), 0o644))
	_, err := n.Exec(s.ctx, "systemctl", "restart", "systemd-logind.service")
	s.must(err)
}

// mask masks a unit on a node for the rest of this boot or story.
func (s *story) mask(n *nodes.Node, unit string) {
	s.t.Helper()
	s.afterwards("unmask "+unit, func(ctx context.Context) error {
		_, err := n.Exec(ctx, "systemctl", "unmask", "--runtime", "--quiet", unit)
		return err
	})
	_, err := n.Exec(s.ctx, "systemctl", "mask", "--runtime", "--quiet", unit)
	s.must(err)
}

// watchShutdown listens to what logind of a node announces.
func (s *story) watchShutdown(n *nodes.Node) <-chan *dbus.Signal {
	s.t.Helper()
	conn, err := n.SystemBus(s.ctx)
	s.must(err)
	s.t.Cleanup(func() { _ = conn.Close() })
	s.must(conn.AddMatchSignalContext(s.ctx, dbus.WithMatchInterface("org.freedesktop.login1.Manager"),
		dbus.WithMatchMember("PrepareForShutdown")))
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	return signals
}

// awaitShutdown waits until logind announces a shutdown, or takes it back, and
// returns when it did.
func (s *story) awaitShutdown(signals <-chan *dbus.Signal, active bool) time.Time {
	s.t.Helper()
	for {
		select {
		case signal, ok := <-signals:
			if !ok {
				s.t.Fatalf("the bus ended without PrepareForShutdown(%v)", active)
			}
			if strings.HasSuffix(signal.Name, ".PrepareForShutdown") && len(signal.Body) == 1 && signal.Body[0] == active {
				return time.Now()
			}
		case <-s.ctx.Done():
			s.t.Fatalf("no PrepareForShutdown(%v): %v", active, context.Cause(s.ctx))
		}
	}
}

// awaitEvicted waits until all pods of a workload on its node are told to stop.
func (s *story) awaitEvicted(w cluster.Workload) {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, "the eviction of "+w.Name)
	defer cancel()
	s.must(nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		pods, err := s.Pods(ctx, w)
		stopping := 0
		for _, p := range pods {
			if p.DeletionTimestamp != nil {
				stopping++
			}
		}
		return stopping == int(w.Replicas), err
	}))
}

// letStop ends the pods of a workload that stop, at once.
func (s *story) letStop(w cluster.Workload) {
	s.t.Helper()
	pods, err := s.Pods(s.ctx, w)
	s.must(err)
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			s.must(s.kill(s.ctx, p))
		}
	}
}

// end leaves no pod of a workload, however long they take to stop.
func (s *story) end(ctx context.Context, w cluster.Workload) error {
	none := []byte(`{"spec":{"replicas":0}}`)
	_, err := s.Client.AppsV1().Deployments("default").Patch(ctx, w.Name, types.MergePatchType, none, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	return nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		pods, err := s.Pods(ctx, w)
		for _, p := range pods {
			err = errors.Join(err, s.kill(ctx, p))
		}
		return len(pods) == 0, err
	})
}

// kill removes a pod at once.
func (s *story) kill(ctx context.Context, p corev1.Pod) error {
	now := int64(0)
	err := s.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
