//go:build e2e

package e2e

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// envOlder names a .deb of an older kured, for TestUpgradeMidCycle instead of the next release.
const envOlder = "KURED_E2E_OLDER"

// A node gets another version of the package, and then the first one again, in
// each state of one and the same cycle: queued, draining, rebooting, and after
// the boot while it has not proved its health. The lock and the cordon are
// never given up, and it reboots once. A node leaves the waiting room when its
// daemon stops, and while apt forbids a shutdown; the new daemon comes back to
// the old place.
func TestUpgradeMidCycle(t *testing.T) {
	o := beginOrdeal(t, 5*time.Minute)
	first, n := o.Node("node-a"), o.Node("node-b")
	own, err := cluster.Package(cluster.Release, "deb")
	o.must(err)
	other := os.Getenv(envOlder)
	if other == "" {
		other, err = cluster.Package(cluster.NextRelease, "deb")
		o.must(err)
	}
	o.afterwards("install the first version again", func(ctx context.Context) error { return o.put(ctx, n, own) })

	// What an administrator has written stays: a drop-in, and the configuration that is not the shipped one.
	const dropIn = "/etc/kured/kured.toml.d/50-e2e.toml"
	o.must(n.WriteFile(dropIn, []byte("# The administrator's.\n"), 0o644))
	o.afterwards("remove the drop-in", func(context.Context) error { return n.Remove(dropIn) })
	written := o.configured(n)

	const check, oneshot, disease = "e2e-health.service", "kured-uncordon.service", "/etc/e2e-sick"
	o.unit(n, check, brokenHealth)
	_, err = n.Exec(o.ctx, "systemctl", "enable", "--quiet", check)
	o.must(err)
	o.must(n.Touch(disease))
	before, work := o.burden(first, forever), o.burden(n, forever)
	o.inhibitDelay(n, time.Minute)
	down := o.inhibit(n, "delay", "database", "saving what is left to save")

	o.queue(first)
	o.awaitEvicted(before)
	o.queue(n)
	since := o.Recorder.State().QueuedSince(n.Name)
	o.replace(n, other, status.Queued, func(s cluster.State) bool {
		return slices.Equal(s.Holders(), []string{first.Name}) && !s.IsCordoned(n.Name)
	})
	o.until("the new daemon to wait", func() (bool, error) { return slices.Contains(o.Recorder.State().Waiters(), n.Name), nil })
	// One that is older than the memory begins anew.
	if again := o.Recorder.State().QueuedSince(n.Name); again != since && os.Getenv(envOlder) == "" || since == "" {
		t.Errorf("it waited since %q, and after the upgrade since %q", since, again)
	}

	cordoned := func(s cluster.State) bool { return s.Holds(n.Name) && s.IsCordoned(n.Name) && s.Mark(n.Name) != "" }
	o.letStop(before)
	o.awaitEvicted(work)
	o.replace(n, own, status.Draining, cordoned)

	o.letStop(work)
	o.awaitAccepted(n)
	o.replace(n, other, status.Rebooting, cordoned)
	if ok, err := o.stayedUp(n); !ok {
		t.Errorf("rebooted too early (%v)", err)
	}
	down.release(o.story)

	ctx, cancel := cluster.Within(o.ctx, time.Minute, "the reboot")
	defer cancel()
	after, err := n.WaitBooted(ctx, o.before[n.Name])
	o.must(err)
	o.must(n.WaitSystemState(ctx, "degraded"))
	o.await(o.Recorder.Now(), "the kubelet of the new boot", func(s cluster.State) bool { return s.BootID(n.Name) == after && s.IsReady(n.Name) })
	o.replace(n, own, status.Returning, cordoned)
	if id, err := n.BootID(); id != after {
		t.Errorf("another boot (%v)", err)
	}

	o.must(n.Remove(disease))
	_, err = n.Exec(o.ctx, "systemctl", "start", oneshot)
	o.must(err)
	o.allReturn(first, n)
	if undone := o.told(n, "rolled back"); len(undone) > 0 {
		t.Errorf("rolled back: %v", undone)
	}
	if now := o.configured(n); now != written {
		t.Errorf("the configuration was\n%s\nand is\n%s", written, now)
	}
}

// configured is all that is configured on a node.
func (o *ordeal) configured(n *nodes.Node) string {
	o.t.Helper()
	out, err := n.Exec(o.ctx, "sh", "-c", "cd /etc/kured && grep -r . kured.toml kured.toml.d")
	o.must(err)
	return out
}

// replace installs a package in a state of the cycle, and checks that a new
// daemon is in the same one, and that nothing has been given up meanwhile.
func (o *ordeal) replace(n *nodes.Node, deb string, phase status.Phase, kept func(cluster.State) bool) {
	o.t.Helper()
	const unit = "kured.service"
	says := func(pidWas uint32) func() (bool, error) {
		return func() (bool, error) {
			var line string
			var pid uint32
			if err := n.UnitProperty(o.ctx, unit, "MainPID", &pid); err != nil || pid == 0 || pid == pidWas {
				return false, err
			}
			err := n.UnitProperty(o.ctx, unit, "StatusText", &line)
			return strings.HasPrefix(line, string(phase)), err
		}
	}
	o.until(n.Name+" to be "+string(phase), says(0))
	from := o.Recorder.Now()
	if s := o.Recorder.State(); !kept(s) {
		o.t.Fatalf("too late for %s: %s", phase, s)
	}
	var pid uint32
	o.must(n.UnitProperty(o.ctx, unit, "MainPID", &pid))
	o.must(o.put(o.ctx, n, deb))
	o.until("another daemon to be "+string(phase), says(pid))
	o.must(o.Recorder.Sync(o.ctx))
	if h := o.Recorder.Since(from); h.Ever(func(s cluster.State) bool { return !kept(s) }) {
		o.t.Errorf("with %s installed while %s, something was given up:\n%s", filepath.Base(deb), phase, h)
	}
	if !kept(o.Recorder.State()) {
		o.t.Errorf("with %s installed while %s: %s", filepath.Base(deb), phase, o.Recorder.State())
	}
}

// put installs a package with apt, whatever version is there.
func (o *ordeal) put(ctx context.Context, n *nodes.Node, deb string) error {
	text, err := os.ReadFile(deb)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.Room.Share, filepath.Base(deb)), text, 0o644); err != nil {
		return err
	}
	_, err = n.Exec(ctx, "apt-get", "install", "-y", "-qq", "--allow-downgrades", "-o", "Dpkg::Use-Pty=0",
		"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", path.Join("/srv/share", filepath.Base(deb)))
	return err
}
