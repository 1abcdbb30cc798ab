//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
)

// ordeal is a story in which something breaks: a daemon, a machine or the API
// server. Whatever breaks, its end is the same, see [ordeal.allReturn].
type ordeal struct {
	*story
	before map[string]string // boot ids
	boots  map[string]int    // how often each node has booted

	work    cluster.Workload
	release func() // ends what keeps a node where it is
	down    bool   // the API server is
}

func beginOrdeal(t *testing.T, limit time.Duration) *ordeal {
	t.Helper()
	o := &ordeal{story: begin(t, limit), boots: map[string]int{}}
	o.before = o.bootIDs()
	for _, n := range o.Room.Nodes() {
		o.boots[n.Name] = n.BootCount()
	}
	// Of a story that fails, nothing may stay for the next one.
	o.afterwards("switch the nodes on", func(ctx context.Context) error {
		for _, n := range o.Room.Nodes() {
			n.HoldOff(false)
			n.PowerOn()
			if _, err := n.WaitBooted(ctx, ""); err != nil {
				return err
			}
		}
		return nil
	})
	return o
}

// until waits for something that no version of an object shows.
func (o *ordeal) until(what string, check func() (bool, error)) {
	o.t.Helper()
	ctx, cancel := cluster.Within(o.ctx, time.Minute, what)
	defer cancel()
	if err := nodes.Poll(ctx, 20*time.Millisecond, check); err != nil {
		o.t.Fatalf("%s: %v", what, err)
	}
}

// staysSo fails when something that must not happen does within a good while.
func (o *ordeal) staysSo(while time.Duration, what string, check func() (bool, error)) {
	o.t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok, err := check(); err != nil || !ok {
			o.t.Fatalf("no longer %s (%v): %s", what, err, o.Recorder.State())
		}
	}
}

// killDaemon ends the daemon as the kernel's out-of-memory killer does, and waits
// until systemd has started another one.
func (o *ordeal) killDaemon(n *nodes.Node) {
	o.t.Helper()
	const unit = "kured.service"
	var old, pid uint32
	o.must(n.UnitProperty(o.ctx, unit, "MainPID", &old))
	o.must(n.Kill(o.ctx, unit, syscall.SIGKILL))
	o.until("systemd to start kured again", func() (bool, error) {
		err := n.UnitProperty(o.ctx, unit, "MainPID", &pid)
		return err == nil && pid != 0 && pid != old, nil
	})
	o.must(n.WaitUnit(o.ctx, unit, "active"))
}

// queue lets nodes ask for a reboot and waits until each holds the lock or
// stands in the queue.
func (o *ordeal) queue(all ...*nodes.Node) {
	o.t.Helper()
	from := o.Recorder.Now()
	o.want(all...)
	o.await(from, "all to hold or wait", func(s cluster.State) bool {
		return !slices.ContainsFunc(all, func(n *nodes.Node) bool {
			return !s.Holds(n.Name) && !slices.Contains(s.Waiters(), n.Name)
		})
	})
}

// holderPhase is the phase in a node's lock entry, empty without one.
func (o *ordeal) holderPhase(s cluster.State, n *nodes.Node) string {
	o.t.Helper()
	var entry struct{ Phase string }
	if text, ok := s.Lock["holder."+n.Name]; ok {
		o.must(json.Unmarshal([]byte(text), &entry))
	}
	return entry.Phase
}

// forever is longer than any story: pods that take it to stop stop when the
// story says so.
const forever = 10 * time.Minute

// burden gives a node work, until the end of the story.
func (o *ordeal) burden(n *nodes.Node, stopAfter time.Duration) cluster.Workload {
	o.t.Helper()
	w := cluster.Workload{
		// The name is new each time: the Deployment of the story before may still be on its way out.
		Name: "work-" + strings.ToLower(rand.Text()[:6]), Replicas: 2, On: n.Name, StopAfter: stopAfter,
	}
	o.deploy(w)
	o.afterwards("end "+w.Name, func(ctx context.Context) error { return o.end(ctx, w) })
	return w
}

// goingDown asks logind whether a node prepares a shutdown.
func (o *ordeal) goingDown(n *nodes.Node) (yes bool, err error) {
	conn, err := n.SystemBus(o.ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	value, err := conn.Object("org.freedesktop.login1", "/org/freedesktop/login1").
		GetProperty("org.freedesktop.login1.Manager.PreparingForShutdown")
	if err != nil {
		return false, err
	}
	return yes, value.Store(&yes)
}

// unit installs a unit on a node's disk until the story ends.
func (o *ordeal) unit(n *nodes.Node, name, text string) {
	o.t.Helper()
	file := path.Join("/etc/systemd/system", name)
	o.must(n.WriteFile(file, []byte(text), 0o644))
	_, err := n.Exec(o.ctx, "systemctl", "daemon-reload")
	o.must(err)
	o.afterwards("remove "+name, func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "systemctl disable --quiet "+name+"; systemctl reset-failed "+name+
			"; rm "+file+"; systemctl daemon-reload")
		return err
	})
}

// told returns what kured's units wrote on a node since the story began and
// that contains a text.
func (o *ordeal) told(n *nodes.Node, text string) []nodes.Entry {
	o.t.Helper()
	return slices.DeleteFunc(o.journal(n, ""), func(e nodes.Entry) bool { return !strings.Contains(e.Message, text) })
}

// tells waits for a message in a node's journal.
func (o *ordeal) tells(n *nodes.Node, text string) {
	o.t.Helper()
	o.until(n.Name+" to tell: "+text, func() (bool, error) { return len(o.told(n, text)) > 0, nil })
}
