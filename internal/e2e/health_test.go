//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/status"
)

// brokenHealth is a health check as systemd.special(7) describes them for
// boot-complete.target. It fails where a certain file is.
const brokenHealth = `[Unit]
Description=Health check of the end-to-end tests
Before=boot-complete.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=test ! -e /etc/e2e-sick
[Install]
RequiredBy=boot-complete.target
`

// A node comes back from its reboot sick. It stays cordoned and keeps the
// lock, so that no other node reboots into the same, until a person has cured
// it.
func TestHealthCheckFailsAfterBoot(t *testing.T) {
	o := beginOrdeal(t, 3*time.Minute)
	sick, waiting := o.Node("node-b"), o.Node("node-c")
	const check, oneshot, disease = "e2e-health.service", "kured-uncordon.service", "/etc/e2e-sick"
	o.unit(sick, check, brokenHealth)
	_, err := sick.Exec(o.ctx, "systemctl", "enable", "--quiet", check)
	o.must(err)
	o.must(sick.Touch(disease))

	o.queue(sick)
	o.queue(waiting)
	ctx, cancel := cluster.Within(o.ctx, time.Minute, "the reboot")
	defer cancel()
	_, err = sick.WaitBooted(ctx, o.before[sick.Name])
	o.must(err)
	o.must(sick.WaitSystemState(ctx, "degraded"))
	after, err := sick.BootID()
	o.must(err)
	o.await(o.Recorder.Now(), "the kubelet of the new boot", func(s cluster.State) bool {
		return s.BootID(sick.Name) == after && s.IsReady(sick.Name)
	})
	o.awaitSays(sick, status.Returning, status.AwaitingReturn)
	o.staysSo(10*time.Second, "cordoned and held by the sick node", func() (bool, error) {
		s := o.Recorder.State()
		ok, err := o.stayedUp(waiting)
		return ok && slices.Equal(s.Holders(), []string{sick.Name}) && slices.Equal(s.Waiters(), []string{waiting.Name}) &&
			slices.Equal(s.Cordoned(), []string{sick.Name}) && s.Mark(sick.Name) == o.before[sick.Name], err
	})
	for unit, want := range map[string]string{check: "failed", "boot-complete.target": "inactive", oneshot: "inactive"} {
		if state, err := sick.UnitState(o.ctx, unit); state != want {
			t.Errorf("%s is %s, %v, want %s", unit, state, err, want)
		}
	}
	if started := o.told(sick, "rebooted: the boot id changed"); len(started) > 0 {
		t.Errorf("%s ran all the same: %v", oneshot, started)
	}

	o.must(sick.Remove(disease))
	_, err = sick.Exec(o.ctx, "systemctl", "start", oneshot)
	o.must(err)
	o.allReturn(sick, waiting)
}
