//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/e2e/typed"
	"github.com/kured-host/kured/internal/status"
)

// Commands that README has to name, because of what they say. The others are typed, too, and have to end well.
const (
	readmeAsks   = "touch /run/reboot-required"
	readmeDoctor = "kured doctor"
	readmeStatus = "kured status"
	readmeWhy    = "kured why"
	readmeLock   = "kured lock"
	readmeStory  = "journalctl -x -u kured -u kured-uncordon"
)

// reply is what a command on a node has to answer.
type reply struct {
	code int
	says []string
}

// newcomer has a cluster of fresh Debian nodes with pods on them, the package, a checkout and its README.
type newcomer struct {
	*cluster.Cluster
	*testing.T
	ctx   context.Context
	began time.Time
	times strings.Builder // of the steps, a table
}

// From nothing to proved reboots of two nodes, one after the other, by what README tells its reader to type and nothing
// else. What stands up to the request for a reboot is typed once, in that order; what stands behind it looks, so it is typed
// while one node drains and the other one waits, and again when both are back.
func TestReadme(t *testing.T) {
	alone(t)
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	commands, err := typed.Commands(string(text), "Install")
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	for _, command := range []string{readmeAsks, readmeDoctor, readmeStatus, readmeWhy, readmeLock, readmeStory} {
		if !slices.ContainsFunc(commands, func(c typed.Command) bool { return c.Text == command && c.Place == typed.Node }) {
			t.Fatalf("README.md: the section Install does not tell to type %q on a node", command)
		}
	}
	ask := slices.IndexFunc(commands, func(c typed.Command) bool { return c.Text == readmeAsks })

	ctx, cancel := cluster.Within(t.Context(), 5*time.Minute, "what README promises")
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{
		WithoutKured: true, WithoutManifests: true, Out: os.Stderr,
		Nodes: []nodes.Spec{{Name: "node-a", Image: nodes.Debian12}, {Name: "node-b", Image: nodes.Debian12}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.DumpOnFailure(t, t.Name())
	p := &newcomer{Cluster: c, T: t, ctx: ctx}
	before := p.given()

	p.began = time.Now()
	from := p.Recorder.Now()
	for _, command := range commands[:ask+1] {
		p.step(fmt.Sprintf("%s: %s", command.Place, command.Text), func() {
			switch {
			case command.Place == typed.Admin:
				p.administer(command)
			case command.Text == readmeDoctor:
				p.examined(command)
			default:
				p.everywhere(command, nil)
			}
		})
	}
	p.reboots(from, before, commands[ask+1:])
	p.step("again, node: "+readmeDoctor, func() { p.examined(typed.Command{Text: readmeDoctor}) })
	p.Logf("from nothing to %d proved reboots:\n  took     at\n%s", len(before), p.times.String())
}

// given is what a newcomer has: pods that take a while to stop, and the package in root's home. It returns the boot ids.
func (p *newcomer) given() map[string]string {
	p.Helper()
	p.must(p.Deploy(p.ctx, cluster.Workload{Name: "web", Replicas: 4, MinAvailable: 2, StopAfter: 10 * time.Second}))
	file, err := cluster.Package(cluster.Release, "deb")
	p.must(err)
	text, err := os.ReadFile(file)
	p.must(err)
	ids := map[string]string{}
	for _, n := range p.Room.Nodes() {
		p.must(n.WriteFile("/root/"+filepath.Base(file), text, 0o644))
		if ids[n.Name], err = n.BootID(); err != nil {
			p.Fatal(err)
		}
	}
	return ids
}

// reboots checks that the nodes reboot one after the other, and what the commands that look say meanwhile and afterwards.
func (p *newcomer) reboots(from cluster.Position, before map[string]string, looks []typed.Command) {
	p.Helper()
	var first, second *nodes.Node
	at := p.await(from, "one node to drain and the other one to wait", func(s cluster.State) bool {
		if len(s.Holders()) != 1 || len(s.Waiters()) != 1 {
			return false
		}
		first, second = p.Node(s.Holders()[0]), p.Node(s.Waiters()[0])
		return s.IsCordoned(first.Name) && strings.Contains(s.Lock["holder."+first.Name], string(status.Draining))
	})
	p.noted("one node drains, the other one waits")
	during := map[string]map[string]reply{
		readmeStatus: {
			first.Name:  {2, []string{"phase: draining", "pods gone", "by /run/reboot-required"}},
			second.Name: {1, []string{"phase: queued", "held by " + first.Name + "; 1 allowed; place 1 of 1"}},
		},
		readmeWhy: {
			first.Name: {2, []string{first.Name + " is draining", "by itself:"}},
			second.Name: {1, []string{"in the way now: place 1 of 1 behind " + first.Name + " (draining", "it looks again",
				"kubectl delete node " + first.Name}},
		},
		readmeLock: {},
		readmeStory: {
			first.Name:  {0, []string{"reboot required (path=/run/reboot-required", "lock taken", "node cordoned", status.Draining.Help().Means}},
			second.Name: {0, []string{"waiting for the lock: place 1 of 1; " + first.Name + " holds", status.LockFull.Help().Means}},
		},
	}
	afterwards := map[string]map[string]reply{readmeStatus: {}, readmeWhy: {}, readmeLock: {}, readmeStory: {}}
	for _, n := range p.Room.Nodes() {
		during[readmeLock][n.Name] = reply{0, []string{"1 held, 1 allowed, 1 waiting", first.Name + " draining", "1 " + second.Name}}
		afterwards[readmeStatus][n.Name] = reply{0, []string{"phase: idle"}}
		afterwards[readmeWhy][n.Name] = reply{0, []string{n.Name + " is idle"}}
		afterwards[readmeLock][n.Name] = reply{0, []string{"0 held, 1 allowed, 0 waiting"}}
		afterwards[readmeStory][n.Name] = reply{0, []string{
			"rebooting: everything checked", "-- Boot ", "rebooted: the boot id changed (boot_before=" + before[n.Name],
			"node is well in this boot", "back in service: lock released (uncordoned=true", status.MessageVerified.Help().Means}}
	}
	for _, command := range looks {
		p.step("meanwhile, node: "+command.Text, func() { p.everywhere(command, during[command.Text]) })
	}

	for _, n := range []*nodes.Node{first, second} {
		at = p.await(at, n.Name+" back", func(s cluster.State) bool {
			return s.BootID(n.Name) != before[n.Name] && s.IsReady(n.Name) && !s.Holds(n.Name) && s.Mark(n.Name) == "" && !s.IsCordoned(n.Name)
		})
		p.noted(n.Name + " has rebooted, is verified and in service")
	}
	p.must(p.AtRest(p.ctx))
	for _, n := range p.Room.Nodes() {
		p.must(nodes.Poll(p.ctx, 100*time.Millisecond, func() (bool, error) { // the daemon learns from systemd that the way back is done
			var line string
			err := n.UnitProperty(p.ctx, daemon, "StatusText", &line)
			return strings.HasPrefix(line, string(status.Idle)), err
		}))
	}
	for _, command := range looks {
		p.step("afterwards, node: "+command.Text, func() { p.everywhere(command, afterwards[command.Text]) })
	}

	h := p.Recorder.Since(from)
	if h.MaxHolders() != 1 || h.MaxCordoned() != 1 {
		p.Errorf("%d held the lock at once and %d were cordoned, want 1 and 1:\n%s", h.MaxHolders(), h.MaxCordoned(), h)
	}
	for _, n := range p.Room.Nodes() {
		if ids := h.BootIDs(n.Name); len(ids) != 2 || ids[0] != before[n.Name] {
			p.Errorf("%s: boot ids %v, want %s and one more", n.Name, ids, before[n.Name])
		}
	}
}

// administer types a command in the checkout.
func (p *newcomer) administer(command typed.Command) {
	p.Helper()
	kubectl, err := cluster.Kubectl()
	p.must(err)
	cmd := exec.CommandContext(p.ctx, "sh", "-c", command.Text)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.Plane.AdminKubeconfig(), "PATH="+filepath.Dir(kubectl)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	p.Logf("$ %s\n%s", command.Text, out)
	if err != nil {
		p.Fatalf("README.md:%d: %s: %v", command.Line, command.Text, err)
	}
}

// everywhere types a command on each node. Without a reply that is wanted it has to end well.
func (p *newcomer) everywhere(command typed.Command, want map[string]reply) {
	p.Helper()
	for _, n := range p.Room.Nodes() {
		out, code := p.on(n, command)
		contains(p.T, fmt.Sprintf("README.md:%d: %s on %s", command.Line, command.Text, n.Name), plain(out), want[n.Name].says...)
		if code != want[n.Name].code {
			p.Fatalf("README.md:%d: %s on %s: exit code %d, want %d", command.Line, command.Text, n.Name, code, want[n.Name].code)
		}
	}
}

// examined types kured doctor on each node. All that it may warn of on a fresh Debian is that nothing there asks for reboots.
// It may take the API server seconds to heed a wall that was just built.
func (p *newcomer) examined(command typed.Command) {
	p.Helper()
	for _, n := range p.Room.Nodes() {
		var out string
		var code int
		ctx, cancel := cluster.Within(p.ctx, 15*time.Second, "the API server to heed the wall")
		defer cancel()
		p.must(nodes.Poll(ctx, 500*time.Millisecond, func() (bool, error) {
			out, code = p.on(n, command)
			return !strings.Contains(plain(out), "warning wall"), nil
		}))
		for line := range strings.Lines(out) {
			if words := strings.Fields(line); len(words) > 1 && (words[0] == "fail" || words[0] == "warning" && words[1] != "sentinel") {
				p.Errorf("kured doctor on %s: %s", n.Name, line)
			}
		}
		contains(p.T, "kured doctor on "+n.Name, plain(out), "warning sentinel", "-> systemctl enable --now kured-kernel.path", " ok, 1 warning, 0 failed")
		if code != 1 {
			p.Errorf("kured doctor on %s: exit code %d, want 1", n.Name, code)
		}
	}
}

// on types a command in root's home on a node.
func (p *newcomer) on(n *nodes.Node, command typed.Command) (out string, code int) {
	p.Helper()
	line := strings.ReplaceAll(command.Text, "_amd64.", "_"+runtime.GOARCH+".")
	out, err := n.Exec(p.ctx, "sh", "-c", "cd && "+line)
	stderr := ""
	if exit, ok := errors.AsType[*nodes.ExitError](err); ok && exit.Result == "exit-code" {
		code, stderr, err = exit.Code, exit.Stderr, nil
	}
	p.Logf("%s# %s\n%s%s[%d]", n.Name, line, out, stderr, code)
	if err != nil {
		p.Fatalf("README.md:%d: %v", command.Line, err)
	}
	return out, code
}

// plain is text without its lines and columns, and without the signs that journalctl puts in front of what it explains.
func plain(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n░░", " ")), " ")
}

func (p *newcomer) await(from cluster.Position, what string, ok func(cluster.State) bool) cluster.Position {
	p.Helper()
	ctx, cancel := cluster.Within(p.ctx, 2*time.Minute, what)
	defer cancel()
	at, err := p.Recorder.Await(ctx, from, what, ok)
	p.must(err)
	return at
}

// step does a line of the table of times.
func (p *newcomer) step(what string, do func()) {
	p.Helper()
	start := time.Now()
	do()
	fmt.Fprintf(&p.times, "%5.1f s %5.1f s  %s\n", time.Since(start).Seconds(), time.Since(p.began).Seconds(), what)
}

// noted is a line of that table for what happened by itself.
func (p *newcomer) noted(what string) {
	fmt.Fprintf(&p.times, "%7s %5.1f s  %s\n", "", time.Since(p.began).Seconds(), what)
}

func (p *newcomer) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}
