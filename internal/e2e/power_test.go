//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// The power of a node fails in the midst of its cycle, while the two others
// wait for the lock. It comes back as after any reboot, which it was, and the
// others get their turn.
func TestPowerIsCut(t *testing.T) {
	for _, fall := range []struct {
		name, node string
		arrive     func(*ordeal, *nodes.Node)
	}{
		{"during the drain", "node-b", func(o *ordeal, n *nodes.Node) {
			work := o.burden(n, forever)
			o.queueUp(n)
			o.awaitEvicted(work)
		}},
		{"after logind accepted", "node-c", func(o *ordeal, n *nodes.Node) {
			o.inhibitDelay(n, time.Minute)
			o.inhibit(n, "delay", "database", "saving what is left to save")
			o.queueUp(n)
			o.awaitAccepted(n)
		}},
		{"during the shutdown", "node-a", func(o *ordeal, n *nodes.Node) {
			const slow = "e2e-slow-stop.service"
			o.unit(n, slow, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=sleep 60\n")
			_, err := n.Exec(o.ctx, "systemctl", "start", slow)
			o.must(err)
			o.queueUp(n)
			o.tells(n, "kured stopped") // nothing else but the shutdown stops it
		}},
	} {
		t.Run(fall.name, func(t *testing.T) {
			o := beginOrdeal(t, 3*time.Minute)
			n := o.Node(fall.node)
			fall.arrive(o, n)
			if ok, err := o.stayedUp(n); !ok {
				t.Fatalf("too late for a power cut (%v)", err)
			}
			o.must(n.PowerCut(true))
			o.allReturn(o.Room.Nodes()...)
			if b := o.endOfFirstBoot(n); b.Ending != nodes.Died {
				t.Errorf("the boot ended otherwise: %+v", b)
			}
			o.checkOrder(n)
		})
	}
}

// A node goes down for its reboot and does not come back. It keeps the lock
// for as long as it takes, and the waiting nodes say who holds it. When it is
// repaired all goes on by itself.
func TestNodeNeverComesBack(t *testing.T) {
	o := beginOrdeal(t, 4*time.Minute)
	lost, waiting := o.Node("node-a"), []*nodes.Node{o.Node("node-b"), o.Node("node-c")}
	lost.HoldOff(true)
	o.queueUp(lost)
	ctx, cancel := cluster.Within(o.ctx, time.Minute, "power off of "+lost.Name)
	defer cancel()
	o.must(lost.WaitOff(ctx))

	o.staysSo(10*time.Second, "held by the node that is lost alone", func() (bool, error) {
		s := o.Recorder.State()
		if !slices.Equal(s.Holders(), []string{lost.Name}) || len(s.Waiters()) != 2 || !slices.Equal(s.Cordoned(), []string{lost.Name}) {
			return false, nil
		}
		for _, n := range waiting {
			if ok, err := o.stayedUp(n); !ok {
				return false, err
			}
		}
		return true, nil
	})
	for _, n := range waiting {
		now, err := o.says(o.ctx, n)
		o.must(err)
		if now.Phase != status.Queued || now.Reason != status.LockFull || now.Queue == nil || !slices.Equal(now.Queue.Holders, []string{lost.Name}) {
			t.Errorf("%s says: %+v, queue %+v", n.Name, now, now.Queue)
		}
		text, err := answer(o.ctx, n, "kured", "status")
		o.must(err)
		if !strings.Contains(text, lost.Name+" hold") {
			t.Errorf("kured status on %s does not say who holds:\n%s", n.Name, text)
		}
		t.Logf("kured status on %s:\n%s", n.Name, text)
	}

	lost.HoldOff(false)
	o.allReturn(o.Room.Nodes()...)
	o.checkOrder(lost)
}

// queueUp lets one node take the lock and the others wait for it.
func (o *ordeal) queueUp(first *nodes.Node) {
	o.t.Helper()
	o.queue(first)
	for _, n := range o.Room.Nodes() {
		if n != first {
			o.queue(n)
		}
	}
}

// checkOrder checks that all three had their turn and who was first.
func (o *ordeal) checkOrder(first *nodes.Node) {
	o.t.Helper()
	spans := o.history().HolderSpans()
	if len(spans) != 3 || spans[0].Node != first.Name {
		o.t.Errorf("held the lock: %v, want all three, %s first", spans, first.Name)
	}
}

// endOfFirstBoot is the boot of a node in which the story began.
func (o *ordeal) endOfFirstBoot(n *nodes.Node) nodes.Boot {
	boots := n.Boots()
	return boots[slices.IndexFunc(boots, func(b nodes.Boot) bool { return b.ID == o.before[n.Name] })]
}
