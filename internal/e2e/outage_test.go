//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/status"
)

// The API server is down when the daemon starts and when a reboot becomes
// necessary. The daemon says so, keeps running, and goes on by itself.
func TestOutageAtTheStart(t *testing.T) {
	o := beginOrdeal(t, 3*time.Minute)
	n := o.Node("node-a")
	o.stopAPIServer()
	_, err := n.Exec(o.ctx, "systemctl", "restart", "kured.service")
	o.must(err)
	o.awaitSays(n, status.Starting, status.APIUnreachable)
	o.want(n)
	o.tells(n, "reboot required")
	o.staysSo(3*time.Second, "up", func() (bool, error) { return o.stayedUp(n) })
	o.awaitSays(n, status.Starting, status.APIUnreachable)
	if state, err := n.UnitState(o.ctx, "kured.service"); state != "active" {
		t.Errorf("kured.service is %s, %v", state, err)
	}
	if starts := o.told(n, "kured started"); len(starts) != 1 {
		t.Errorf("the daemon was started %d times, want once, by us", len(starts))
	}
	o.startAPIServer()
	o.allReturn(n)
}

// The API server is away in the middle of the drain, first silent and then
// down, and comes back: the drain goes on where it was.
func TestOutageDuringTheDrain(t *testing.T) {
	o := beginOrdeal(t, 3*time.Minute)
	n, rival := o.Node("node-b"), o.Node("node-c")
	o.configure(n, `timeout = "20s"`, `timeout = "2m"`) // an API server may take long to start
	work := o.burden(n, forever)
	o.queue(n)
	o.queue(rival)
	o.awaitEvicted(work)
	o.pauseAPIServer()
	o.staysSo(2*time.Second, "up", func() (bool, error) { return o.stayedUp(n) })
	o.stopAPIServer()
	o.staysSo(6*time.Second, "up", func() (bool, error) { return o.stayedUp(n) })
	if told := o.told(n, "rebooting"); len(told) > 0 {
		t.Errorf("went on without the API server: %v", told)
	}
	o.startAPIServer()
	o.letStop(work)
	o.allReturn(n, rival)
	if drained := o.told(n, "drained: 2 pods gone"); len(drained) != 1 {
		t.Errorf("the drain that was begun is not the one that ended: %v", o.told(n, "drain"))
	}
}

// The API server goes down when the node is drained and could reboot. Without
// the proof that it still holds the lock it does not.
func TestOutageAfterTheDrain(t *testing.T) {
	o := beginOrdeal(t, 3*time.Minute)
	n, rival := o.Node("node-c"), o.Node("node-a")
	work := o.burden(n, forever)
	o.queue(n)
	o.queue(rival)
	o.awaitEvicted(work)
	apt := o.inhibit(n, "block", "apt", "packages are being installed")
	o.letStop(work)
	o.awaitSays(n, status.Draining, status.Inhibited)

	unproven := func() (bool, error) {
		going, err := o.goingDown(n)
		if err != nil || going {
			return false, err
		}
		return o.stayedUp(n)
	}
	o.pauseAPIServer()
	apt.release(o.story)
	o.awaitSays(n, status.Draining, status.APIUnreachable) // it looks at the lock once more, and no answer comes
	o.staysSo(5*time.Second, "up while the API server is silent", unproven)
	o.stopAPIServer()
	o.staysSo(5*time.Second, "up while the API server is down", unproven)
	if told := o.told(n, "rebooting: everything checked"); len(told) > 0 {
		t.Errorf("rebooted without the proof: %v", told)
	}
	o.startAPIServer()
	o.allReturn(n, rival)
}

// The API server is down when the node comes back from its reboot. The node
// stays cordoned, keeps trying, and returns when the API server does.
func TestOutageAfterBoot(t *testing.T) {
	o := beginOrdeal(t, 3*time.Minute)
	n, rival := o.Node("node-a"), o.Node("node-b")
	n.HoldOff(true)
	o.queue(n)
	o.queue(rival)
	ctx, cancel := cluster.Within(o.ctx, time.Minute, "power off")
	defer cancel()
	o.must(n.WaitOff(ctx))
	o.stopAPIServer()
	n.HoldOff(false)
	ctx, cancel = cluster.Within(o.ctx, time.Minute, "the boot without an API server")
	defer cancel()
	_, err := n.WaitBooted(ctx, o.before[n.Name])
	o.must(err)
	o.until("kured-uncordon.service to be in trouble", func() (bool, error) {
		for _, e := range o.told(n, "cannot go on, trying again") {
			if e.Unit == "kured-uncordon.service" && e.Fields["KURED_REASON"] == string(status.APIUnreachable) {
				return true, nil
			}
		}
		return false, nil
	})
	o.staysSo(5*time.Second, "up and waiting", func() (bool, error) {
		state, err := n.UnitState(o.ctx, "kured-uncordon.service")
		if err != nil || state != "activating" {
			return false, err
		}
		return o.stayedUp(rival)
	})
	from := o.Recorder.Now()
	o.startAPIServer()
	o.await(from, "the node to be back in service", func(s cluster.State) bool {
		return !s.Holds(n.Name) && !s.IsCordoned(n.Name)
	})
	o.allReturn(n, rival)
}

// stopAPIServer takes the API server away, at the latest until the story ends.
func (o *ordeal) stopAPIServer() {
	o.t.Helper()
	o.must(o.Plane.StopAPIServer())
	o.down = true
	o.afterwards("start the API server", func(ctx context.Context) error {
		if !o.down {
			return nil
		}
		return o.Plane.StartAPIServer(ctx)
	})
}

// pauseAPIServer makes it accept requests and answer none.
func (o *ordeal) pauseAPIServer() {
	o.t.Helper()
	o.must(o.Plane.PauseAPIServer())
	o.afterwards("resume the API server", func(context.Context) error {
		if o.down {
			return nil // it was stopped since
		}
		return o.Plane.ResumeAPIServer()
	})
}

func (o *ordeal) startAPIServer() {
	o.t.Helper()
	o.must(o.Plane.StartAPIServer(o.ctx))
	o.down = false
}
