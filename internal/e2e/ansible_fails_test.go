//go:build e2e

package e2e

import (
	"strings"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
)

// fails runs the playbook site, which must not go through on this node, and say why.
func (r *rollout) fails(what string, n *nodes.Node, why string, args ...string) {
	r.Helper()
	ctx, cancel := cluster.Within(r.ctx, 3*time.Minute, what)
	defer cancel()
	p, err := r.control.Play(ctx, append(args, "--limit", n.Name, "kured_host.kured.site")...)
	r.must(err)
	r.Logf("%s: %v", what, p.Hosts)
	if !p.Failed || p.Sum("failed") != 1 || !strings.Contains(p.Output, why) {
		r.Fatalf("%s: want it to fail, and to say %q:\n%s", what, why, p.Output)
	}
}

const wrong = `{"kured_config_host": {"drain": {"timeout": "soon"}}}`

// beginsWrong begins with a configuration that is wrong: kured is installed by then, and must not go by its defaults, neither
// now nor after a boot.
func (r *rollout) beginsWrong(n *nodes.Node) {
	r.Helper()
	r.fails("a first run that is wrong", n, "drain.timeout", "-e", wrong)
	out := r.sh(n, "kured version | cut -d, -f1; systemctl is-enabled "+daemon+"; systemctl is-active "+daemon+"; true")
	if want := "kured " + cluster.Release + "\nmasked\ninactive\n"; out != want {
		r.Errorf("%s: %q, want %q", n.Name, out, want)
	}
}

// goesOn has a run fail behind the new configuration, where Ansible forgets to tell the daemon. The next one tells it.
func (r *rollout) goesOn(n *nodes.Node) {
	r.Helper()
	const cautious = `{"kured_config_host": {"reboot": {"max_per_day": 48, "delay": "1s"}}}`
	told := func() string {
		// A reload changes it, too (org.freedesktop.systemd1(5)).
		return r.sh(n, "systemctl show --property=StateChangeTimestampMonotonic --value "+daemon)
	}
	before := told()
	r.fails("a run that fails", n, "nobody-of-that-name", "-e", cautious, "-e", `{"kured_group_members": ["nobody-of-that-name"]}`)
	if toml := r.config(n); !strings.Contains(toml, `delay = "1s"`) {
		r.Errorf("%s: it failed before it wrote kured.toml:\n%s", n.Name, toml)
	}
	if told() != before {
		r.Error("the daemon was told in a run that failed: this shows nothing")
	}
	r.play("the run after it", something, "-e", cautious, "--limit", n.Name)
	if told() == before {
		r.Errorf("%s: the daemon goes on with the configuration of before", n.Name)
	}
}

// staysWhileReturning has kured removed from a node that comes back from its reboot while there is no API server: kured cannot
// give back what it holds and has to stay, and goes on when the API server is there.
func (r *rollout) staysWhileReturning(n *nodes.Node) {
	r.Helper()
	before, err := n.BootID()
	r.must(err)
	n.HoldOff(true)
	defer n.HoldOff(false)
	r.must(cluster.Want(n))
	ctx, cancel := cluster.Within(r.ctx, 2*time.Minute, "the return without an API server")
	defer cancel()
	r.must(n.WaitOff(ctx))
	r.must(r.Plane.StopAPIServer())
	n.HoldOff(false)
	_, err = n.WaitBooted(ctx, before)
	r.must(err)
	returning := func() (bool, error) {
		state, err := n.UnitState(ctx, wayBack)
		return state == "activating", err
	}
	r.must(nodes.Poll(ctx, 50*time.Millisecond, returning))
	r.fails("the removal from a node that returns", n, "kured is not removed", "-e", "kured_state=absent", "-e", "kured_abandon_timeout=3s")
	r.must(nodes.Poll(ctx, 50*time.Millisecond, returning))
	if state, err := n.UnitState(ctx, daemon); err != nil || state != "active" {
		r.Errorf("%s: the daemon is %s, %v", n.Name, state, err)
	}
	r.must(r.Plane.StartAPIServer(ctx))
}
