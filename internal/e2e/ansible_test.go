//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// rollout is a cluster in which nothing of kured is, and a host from which an administrator rolls it out.
type rollout struct {
	*cluster.Cluster
	*testing.T
	ctx     context.Context
	control *cluster.Control
	members []*nodes.Node
}

// fleetHosts is an inventory in the form of packaging/ansible/inventory.
const fleetHosts = `all:
  children:
    kured:
      children:
        web:
          hosts:
            node-a:
        gpu:
          hosts:
            node-b:
            node-c:
              # Goes before the others of its pool.
              kured_priority: 10
  vars:
    ansible_user: root
`

// The address is that of what make repo makes.
const fleetVars = `kured_apt_url: "%s/apt"
kured_repository_key: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/../kured.asc') }}"
kured_cluster: true
kured_doctor: fail
kured_group_members: [nobody]
kured_hooks:
  - phase: post-boot
    name: 10-tell
    content: |
      #!/bin/sh
      touch /var/lib/told
kured_config:
  sentinel:
    settle: 200ms
  reboot:
    max_per_day: 48
  retry:
    initial: 3s
    max: 6s
`

// pooled is what comes later: pools, each with a lock of its own.
const pooled = `kured_pools:
  - name: web
    selector: pool=web
  - name: gpu
    selector: pool=gpu
`

// TestAnsible rolls kured out over ssh on Debian 11, 12 and 13 at once by the playbook kured_host.kured.site: looks, does,
// changes, upgrades, has nodes rebooted, and removes; with an rpm, too. Then it moves the nodes from the DaemonSet kured.
func TestAnsible(t *testing.T) {
	alone(t)
	ctx, cancel := cluster.Within(t.Context(), 20*time.Minute, "the rollout")
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{WithoutKured: true, WithoutManifests: true, Out: os.Stderr, Nodes: []nodes.Spec{
		{Name: "node-a", Image: nodes.Debian11},
		{Name: "node-b", Image: nodes.Debian12},
		{Name: "node-c", Image: nodes.Debian13},
		{Name: rpmNode, Image: nodes.Debian12RPM},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.DumpOnFailure(t, t.Name())
	r := &rollout{Cluster: c, T: t, ctx: ctx, members: c.Room.Nodes()[:3]}
	rpm := c.Node(rpmNode)
	r.control, err = c.StartControl(ctx)
	r.must(err)
	a, b, d := r.members[0], r.members[1], r.members[2]
	for n, pool := range map[*nodes.Node]string{a: "web", b: "gpu", d: "gpu"} {
		r.label(n, "pool", pool)
	}
	packages := newRepository(t)
	packages.add(ctx, t, cluster.Release)
	key, err := os.ReadFile(filepath.Join(packages.dir, "kured.asc"))
	r.must(err)
	r.must(r.control.WriteFile(path.Join(cluster.InventoryDir, "../kured.asc"), key, 0o644))
	vars := fmt.Sprintf(fleetVars, packages.url)
	r.must(r.control.Inventory(map[string]string{"hosts.yml": fleetHosts, "group_vars/kured.yml": vars}))

	r.looksOnly()
	r.beginsWrong(d)
	r.play("the first run", something)
	r.installed(cluster.Release)
	r.play("the second run", nothing)
	r.play("check mode after it", nothing, "--check", "--diff")

	r.refusesInvalid()
	r.goesOn(b)
	r.must(r.control.Inventory(map[string]string{
		"group_vars/kured.yml": vars + pooled,
		"group_vars/web.yml":   "kured_pool: web\nkured_config_group: {lock: {max_concurrent: 2}}\n",
		"group_vars/gpu.yml":   "kured_pool: gpu\n",
	}))
	r.byDnf(rpm, packages, func() { packages.add(ctx, t, cluster.NextRelease) })
	// Nobody has asked for the next version yet.
	r.play("pools", something)
	r.pools()
	r.installed(cluster.Release)

	// From the repository that the nodes have by now, as where somebody else sets it up.
	out := r.play("the upgrade", something, "-e", "kured_serial=1", "-e", "kured_version="+cluster.NextRelease, "-e", "kured_apt_url=")
	if n := strings.Count(out, "PLAY [Roll out kured]"); n != len(r.members) {
		t.Errorf("with serial 1 there were %d batches", n)
	}
	r.installed(cluster.NextRelease)
	r.reboots(a, "kured-lock-web", func() { r.staysWhileReturning(a) })

	// One is removed at rest, one in the midst of a drain, for which a third one of its pool waits.
	r.stuck(b)
	r.must(cluster.Want(d))
	r.lockHas("kured-lock-gpu", "waiter."+d.Name, "")
	bootB, err := b.BootID()
	r.must(err)
	r.reboots(d, "kured-lock-gpu", func() {
		r.play("the removal", something, "-e", "kured_state=absent", "--limit", a.Name+","+b.Name)
	})
	if now, err := b.BootID(); err != nil || now != bootB {
		t.Errorf("%s rebooted (%v)", b.Name, err)
	}
	r.removed(a, b)
	r.play("the removal again", nothing, "-e", "kured_state=absent", "-e", "kured_purge=false", "--limit", a.Name+","+b.Name)
	if toml := r.config(a); !strings.Contains(toml, "kured-lock-web") {
		r.Errorf("%s: the configuration does not stay without kured_purge:\n%s", a.Name, toml)
	}

	r.identity(d)
	r.play("the removal of all that it has", something, "-e", "kured_state=absent", "-e", "kured_purge=true", "--limit", d.Name)
	if left := r.sh(d, "find / /run /tmp -xdev -iname '*kured*' -not -path '/var/cache/apt/*'"); left != "" {
		r.Errorf("%s still has %s", d.Name, left)
	}
	r.migrates(a)
}

func (r *rollout) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// What a run is to change.
const (
	nothing   = false
	something = true
)

// play runs the playbook site, which has to go through.
func (r *rollout) play(what string, change bool, args ...string) string {
	r.Helper()
	return r.run(what, change, "kured_host.kured.site", args...)
}

func (r *rollout) run(what string, change bool, book string, args ...string) string {
	r.Helper()
	ctx, cancel := cluster.Within(r.ctx, 3*time.Minute, what)
	defer cancel()
	start := time.Now()
	p, err := r.control.Play(ctx, slices.Concat([]string{"-e", "kured_serial=100%"}, args, []string{book})...)
	r.must(err)
	if strings.Contains(p.Output, "DEPRECATION") {
		r.Errorf("%s: a version of Ansible that is to come will not take it:\n%s", what, p.Output)
	}
	r.Logf("%s: %s, %v", what, time.Since(start).Round(time.Second), p.Hosts)
	if p.Failed || change != (p.Sum("changed") > 0) {
		r.Fatalf("%s: want it to go through, and a change to be %v:\n%s", what, change, p.Output)
	}
	return p.Output
}

// sh runs a shell command on a node and returns what it wrote to standard output.
func (r *rollout) sh(n *nodes.Node, command string) string {
	r.Helper()
	out, err := n.Exec(r.ctx, "sh", "-c", command)
	r.must(err)
	return out
}

func (r *rollout) label(n *nodes.Node, key, value string) {
	r.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
	_, err := r.Client.CoreV1().Nodes().Patch(r.ctx, n.Name, "application/merge-patch+json", patch, metav1.PatchOptions{})
	r.must(err)
}

// looksOnly runs check mode before anything is there.
func (r *rollout) looksOnly() {
	r.Helper()
	r.play("check mode before anything is there", something, "--check", "--diff")
	r.removed(r.members...)
	for _, n := range r.members {
		if left := r.sh(n, "find / /run /tmp -xdev -iname '*kured*'"); left != "" {
			r.Errorf("%s: check mode has made %s", n.Name, left)
		}
	}
	if _, err := r.lock(cluster.LockName); !apierrors.IsNotFound(err) {
		r.Errorf("check mode changed the cluster: %v", err)
	}
}

// installed checks that this version runs everywhere as the inventory says.
func (r *rollout) installed(version string) {
	r.Helper()
	if _, err := r.lock(cluster.LockName); err != nil {
		r.Error(err)
	}
	for _, n := range r.members {
		if out := r.sh(n, "kured version"); !strings.HasPrefix(out, "kured "+version) {
			r.Errorf("%s has %s", n.Name, out)
		}
		for _, unit := range []string{daemon, "kured-kernel.path"} {
			if state, err := n.UnitState(r.ctx, unit); err != nil || state != "active" {
				r.Errorf("%s: %s is %s, %v", n.Name, unit, state, err)
			}
		}
		out := r.sh(n, "systemctl is-enabled "+daemon+" "+wayBack+"; id -Gn nobody; ls /etc/kured/hooks/post-boot.d")
		if want := "enabled\nenabled\nnogroup kured\n10-tell\n"; out != want {
			r.Errorf("%s: %q, want %q", n.Name, out, want)
		}
		if toml := r.config(n); !strings.Contains(toml, "max_per_day = 48\n") {
			r.Errorf("%s has another configuration:\n%s", n.Name, toml)
		}
	}
}

func (r *rollout) config(n *nodes.Node) string {
	r.Helper()
	text, err := n.ReadFile(confFile)
	r.must(err)
	return string(text)
}

// refusesInvalid shows that kured.toml is judged before it replaces the one that is there.
func (r *rollout) refusesInvalid() {
	r.Helper()
	before := make(map[*nodes.Node]string)
	for _, n := range r.members {
		before[n] = r.config(n)
	}
	p, err := r.control.Play(r.ctx, "-e", "kured_serial=100%", "-e", wrong, "kured_host.kured.site")
	r.must(err)
	if !p.Failed || p.Sum("failed") != len(r.members) || p.Sum("changed") != 0 || !strings.Contains(p.Output, "drain.timeout") {
		r.Errorf("a configuration that is wrong is taken: %v\n%s", p.Hosts, p.Output)
	}
	for n, text := range before {
		if now := r.config(n); now != text {
			r.Errorf("%s: it replaced the file:\n%s", n.Name, now)
		}
		if state, err := n.UnitState(r.ctx, daemon); err != nil || state != "active" {
			r.Errorf("%s: the daemon is %s, %v", n.Name, state, err)
		}
	}
}

// pools checks that each pool has a lock, and that each node is told that of its pool.
func (r *rollout) pools() {
	r.Helper()
	for i, want := range [][]string{
		{`name = "kured-lock-web"`, `node_selector = "pool=web"`, "max_concurrent = 2"},
		{`name = "kured-lock-gpu"`, `node_selector = "pool=gpu"`},
		{`name = "kured-lock-gpu"`, `node_selector = "pool=gpu"`, "priority = 10"},
	} {
		toml := r.config(r.members[i])
		for _, line := range want {
			if !strings.Contains(toml, line+"\n") {
				r.Errorf("%s: no %q in\n%s", r.members[i].Name, line, toml)
			}
		}
	}
	for _, name := range []string{"kured-lock-web", "kured-lock-gpu"} {
		if _, err := r.lock(name); err != nil {
			r.Error(err)
		}
	}
}

// lock is the data of a lock.
func (r *rollout) lock(name string) (map[string]string, error) {
	object, err := r.Client.CoreV1().ConfigMaps(cluster.LockNamespace).Get(r.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return object.Data, nil
}

// lockHas waits until a lock has an entry with these words.
func (r *rollout) lockHas(name, key, words string) {
	r.Helper()
	ctx, cancel := cluster.Within(r.ctx, time.Minute, key+" in "+name)
	defer cancel()
	r.must(nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		data, err := r.lock(name)
		entry, ok := data[key]
		return ok && strings.Contains(entry, words), err
	}))
}

// stuck brings a node into a drain that does not end: a budget forbids to evict its pod.
func (r *rollout) stuck(n *nodes.Node) {
	r.Helper()
	r.must(r.Deploy(r.ctx, cluster.Workload{Name: "stuck", Replicas: 1, MinAvailable: 1, On: n.Name}))
	r.must(cluster.Want(n))
	r.lockHas("kured-lock-gpu", "holder."+n.Name, string(status.Draining))
}

// reboots checks that what is done makes a node reboot under the lock of its pool, and come back proved: its hook ran, it
// takes pods again, and the lock is free.
func (r *rollout) reboots(n *nodes.Node, lock string, do func()) {
	r.Helper()
	before, err := n.BootID()
	r.must(err)
	from := r.Recorder.Now()
	do()
	ctx, cancel := cluster.Within(r.ctx, time.Minute, "the reboot of "+n.Name)
	defer cancel()
	after, err := n.WaitBooted(ctx, before)
	r.must(err)
	_, err = r.Recorder.Await(ctx, from, "the return", func(s cluster.State) bool {
		return s.BootID(n.Name) == after && s.IsReady(n.Name) && !s.IsCordoned(n.Name) && s.Mark(n.Name) == ""
	})
	r.must(err)
	r.must(n.WaitSystemState(ctx, "running"))
	r.must(nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		data, err := r.lock(lock)
		return len(data) == 0, err
	}))
	r.must(r.Recorder.Sync(ctx))
	h := r.Recorder.Since(from)
	if !h.Ever(func(s cluster.State) bool { return s.IsCordoned(n.Name) && s.Mark(n.Name) != "" }) {
		r.Errorf("%s rebooted without having been cordoned", n.Name)
	}
	if took := h.MaxHolders() > 0; took != (lock == cluster.LockName) {
		r.Errorf("whether the lock of those without a pool was taken: %v\n%s", took, h)
	}
	if told, err := n.Exists("/var/lib/told"); err != nil || !told {
		r.Errorf("%s: the hook did not run (%v)", n.Name, err)
	}
}

// removed checks that the program and its units are gone, and that the nodes take pods.
func (r *rollout) removed(all ...*nodes.Node) {
	r.Helper()
	for _, n := range all {
		if there, err := n.Exists("/usr/bin/kured"); err != nil || there {
			r.Errorf("%s has kured (%v)", n.Name, err)
		}
		if state, err := n.UnitState(r.ctx, daemon); err != nil || state != "inactive" {
			r.Errorf("%s: %s is %s, %v", n.Name, daemon, state, err)
		}
	}
	r.must(r.Recorder.Sync(r.ctx))
	s := r.Recorder.State()
	for _, n := range all {
		if s.IsCordoned(n.Name) || s.Mark(n.Name) != "" {
			r.Errorf("%s is left as it was in its cycle: %s", n.Name, s)
		}
	}
}
