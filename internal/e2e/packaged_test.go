//go:build e2e

package e2e

import (
	"context"
	"errors"
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

// packaged is one node on which the packages live.
type packaged struct {
	*cluster.Cluster
	*testing.T
	ctx context.Context
	n   *nodes.Node
}

func packagedOn(ctx context.Context, t *testing.T, c *cluster.Cluster, name string) *packaged {
	c.DumpOnFailure(t, t.Name())
	return &packaged{Cluster: c, T: t, ctx: ctx, n: c.Node(name)}
}

// begin brings the node into a drain that does not end: a budget forbids to evict its pod.
func (p *packaged) begin() {
	p.Helper()
	p.must(p.Deploy(p.ctx, p.stuck()))
	from := p.Recorder.Now()
	p.must(cluster.Want(p.n))
	p.await(from, "a drain", func(s cluster.State) bool {
		return s.IsCordoned(p.n.Name) && s.Mark(p.n.Name) != "" &&
			strings.Contains(s.Lock["holder."+p.n.Name], string(status.Draining))
	})
}

func (p *packaged) stuck() cluster.Workload {
	return cluster.Workload{Name: "stuck-on-" + p.n.Name, Replicas: 1, MinAvailable: 1, On: p.n.Name}
}

// resumed checks that since then the node has always been the cordoned holder, and drains.
func (p *packaged) resumed(from cluster.Position) {
	p.Helper()
	p.poll("the drain to go on", func() (bool, error) {
		var line string
		err := p.n.UnitProperty(p.ctx, daemon, "StatusText", &line)
		return strings.HasPrefix(line, string(status.Draining)), err
	})
	p.must(p.Recorder.Sync(p.ctx))
	h := p.Recorder.Since(from)
	if h.Ever(func(s cluster.State) bool { return !s.Holds(p.n.Name) || !s.IsCordoned(p.n.Name) }) {
		p.Errorf("lock or cordon were given up meanwhile:\n%s", h)
	}
}

// finish lets the drain end, and waits until the node has rebooted and is back.
func (p *packaged) finish() {
	p.Helper()
	before, err := p.n.BootID()
	p.must(err)
	from := p.Recorder.Now()
	p.must(p.Undeploy(p.ctx, p.stuck()))
	ctx, cancel := cluster.Within(p.ctx, 2*time.Minute, "the reboot")
	defer cancel()
	after, err := p.n.WaitBooted(ctx, before)
	p.must(err)
	p.await(from, "the return", func(s cluster.State) bool {
		return s.BootID(p.n.Name) == after && s.IsReady(p.n.Name) && s.AtRest() && !s.IsCordoned(p.n.Name)
	})
	p.must(p.n.WaitSystemState(ctx, "running"))
}

// rolledBack checks that removal had given back lock and cordon before it ended.
func (p *packaged) rolledBack() {
	p.Helper()
	p.must(p.Recorder.Sync(p.ctx))
	if s := p.Recorder.State(); !s.AtRest() || s.IsCordoned(p.n.Name) {
		p.Errorf("after the removal: %s", s)
	}
	if n := p.n.BootCount(); n != 2 {
		p.Errorf("%d boots, want 2: the first and the one reboot before", n)
	}
	p.must(p.Undeploy(p.ctx, p.stuck()))
}

func (p *packaged) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// sh runs a shell command on the node and returns what it wrote to standard output.
func (p *packaged) sh(command string) string {
	p.Helper()
	ctx, cancel := cluster.Within(p.ctx, 2*time.Minute, command)
	defer cancel()
	out, err := p.n.Exec(ctx, "sh", "-c", command)
	p.must(err)
	return out
}

func (p *packaged) await(from cluster.Position, what string, ok func(cluster.State) bool) {
	p.Helper()
	ctx, cancel := cluster.Within(p.ctx, 2*time.Minute, what)
	defer cancel()
	_, err := p.Recorder.Await(ctx, from, what, ok)
	p.must(err)
}

func (p *packaged) poll(what string, check func() (bool, error)) {
	p.Helper()
	ctx, cancel := cluster.Within(p.ctx, time.Minute, what)
	defer cancel()
	p.must(nodes.Poll(ctx, 50*time.Millisecond, check))
}

// share puts a package where the nodes see it, and returns its path there.
func (p *packaged) share(version, format string) string {
	p.Helper()
	file, err := cluster.Package(version, format)
	p.must(err)
	text, err := os.ReadFile(file)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.Room.Share, filepath.Base(file)), text, 0o644))
	return path.Join("/srv/share", filepath.Base(file))
}

// changedRelease is a version whose shipped configuration differs.
const changedRelease = "0.1.2"

// nextDeb makes, on the node, a package of that version from another one. The program in it is the same.
func (p *packaged) nextDeb(from string) string {
	p.Helper()
	p.sh(`set -e; cd /root; dpkg-deb -R ` + from + ` next
		sed -i 's/^Version: .*/Version: ` + changedRelease + `/' next/DEBIAN/control
		echo '# Of a later version.' >>next` + confFile + `
		dpkg-deb -Znone -b next next.deb >/dev/null; rm -r next`)
	return "/root/next.deb"
}

// units checks whether the daemon is enabled and runs, and whether the way back is enabled.
func (p *packaged) units(enabled, active string) {
	p.Helper()
	for _, unit := range []string{daemon, wayBack} {
		out, err := p.n.Exec(p.ctx, "systemctl", "is-enabled", unit)
		if _, exited := errors.AsType[*nodes.ExitError](err); err != nil && !exited {
			p.Fatal(err)
		}
		if got := strings.TrimSpace(out); got != enabled {
			p.Errorf("%s is %q, want %q", unit, got, enabled)
		}
	}
	if state, err := p.n.UnitState(p.ctx, daemon); err != nil || state != active {
		p.Errorf("%s is %s, %v, want %s", daemon, state, err, active)
	}
}

func (p *packaged) unitsGone() {
	p.Helper()
	for _, unit := range []string{daemon, wayBack} {
		var state string
		if err := p.n.UnitProperty(p.ctx, unit, "LoadState", &state); err != nil || state != "not-found" {
			p.Errorf("%s is %s, %v", unit, state, err)
		}
	}
	if left := p.sh("pgrep -a kured || true; ls -d /run/kured 2>/dev/null || true; systemctl --failed --no-legend"); left != "" {
		p.Errorf("still there: %s", left)
	}
}

// runs waits until a daemon of that version answers.
func (p *packaged) runs(version string) {
	p.Helper()
	if version == changedRelease {
		version = cluster.Release // the program that it was made from
	}
	p.poll("kured "+version+" to answer", func() (bool, error) {
		out, err := answer(p.ctx, p.n, "kured", "status", "-o", "json")
		if _, exited := errors.AsType[*nodes.ExitError](err); exited {
			return false, nil // it has just been started
		}
		return strings.Contains(out, `"version": "`+version+`"`), err
	})
}

// editConfig changes the configuration as an administrator does, and returns it.
func (p *packaged) editConfig() string {
	p.Helper()
	text, err := p.n.ReadFile(confFile)
	p.must(err)
	edited := strings.Replace(string(text), "#max_per_day = 3", "max_per_day = 24 # edited", 1)
	if edited == string(text) {
		p.Fatal("the shipped configuration has no max_per_day")
	}
	p.must(p.n.WriteFile(confFile, []byte(edited), 0o644))
	return edited
}

func (p *packaged) config(when, want string) {
	p.Helper()
	got, err := p.n.ReadFile(confFile)
	p.must(err)
	if string(got) == want {
		return
	}
	now, before := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	i := 0
	for i < min(len(now), len(before)) && now[i] == before[i] {
		i++
	}
	p.Errorf("%s: from line %d on the configuration is\n%s\nwant\n%s", when, i+1, first(3, now[i:]), first(3, before[i:]))
}

func first(n int, lines []string) string { return strings.Join(lines[:min(n, len(lines))], "\n") }

// nothingLeft looks for traces on the whole disk and in /run.
func (p *packaged) nothingLeft(except ...string) {
	p.Helper()
	p.sh("rm -f /root/next.deb")
	for _, file := range strings.Fields(p.sh("find / /run /tmp -xdev -iname '*kured*'")) {
		if !slices.Contains(except, file) {
			p.Errorf("left behind: %s", file)
		}
	}
}
