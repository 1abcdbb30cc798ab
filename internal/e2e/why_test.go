//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/explain"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/prometheus"
)

// because is what `kured why` says is in the way.
type because struct {
	code   int             // exit code
	kind   explain.Kind    // now, or only after something else
	reason status.Reason   // "" for a pod that holds up the drain
	says   []string        // parts of the sentence
	help   []string        // parts of what helps
	line   []explain.Point // all that is in the way, as found
}

// found reports whether an answer names it, and nothing else before it if it is in the way now.
func (b *because) found(points []explain.Point, code int) bool {
	b.line = slices.DeleteFunc(points, func(p explain.Point) bool { return p.Kind != explain.Blocks && p.Kind != explain.Also })
	i := slices.IndexFunc(b.line, func(p explain.Point) bool { return p.Kind == b.kind && p.Reason == b.reason })
	if i < 0 || code != b.code || b.kind == explain.Blocks && i > 0 {
		return false
	}
	mentions := func(text string, parts []string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
	}
	return mentions(b.line[i].Text, b.says) && mentions(b.line[i].Do, b.help)
}

// why is the answer of `kured why` on a node, and its exit code.
func (s *story) why(ctx context.Context, n *nodes.Node) (points []explain.Point, code int, err error) {
	out, err := n.Exec(ctx, "kured", "why", "--output=json")
	if exit, ok := errors.AsType[*nodes.ExitError](err); ok && exit.Result == "exit-code" {
		out, code, err = exit.Stdout, exit.Code, nil
	}
	if err != nil || code > 4 {
		return nil, code, err
	}
	var answer struct{ Points []explain.Point }
	err = json.Unmarshal([]byte(out), &answer)
	return answer.Points, code, err
}

// awaitWhy waits until `kured why` on a node says so.
func (s *story) awaitWhy(n *nodes.Node, want because) {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, fmt.Sprintf("kured why on %s to name %q", n.Name, want.reason))
	defer cancel()
	code := 0
	var failure error
	err := nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		points, got, err := s.why(ctx, n)
		if failure = err; err != nil {
			return false, nil
		}
		code = got
		return want.found(points, code), nil
	})
	if err != nil {
		s.t.Fatalf("%v (%v), with %q and %q and code %d: it has code %d, and in the way is %+v", err, failure, want.says, want.help, want.code, code, want.line)
	}
}

// obstacle is one thing that keeps a node from rebooting, for as long as somebody wants it to.
type obstacle struct {
	because
	begin, end func()
}

// Everything that can be in the way of a reboot is, one thing after the other, and each time `kured why` names it and what
// helps: the next one as what comes after that, and then as what is in the way now. When there is nothing left the node
// reboots.
func TestWhyNamesTheBlocker(t *testing.T) {
	s := begin(t, 4*time.Minute)
	n, holder, last := s.Node("node-b"), s.Node("node-a"), s.Node("node-c")
	before := s.bootIDs()
	person := s.personOn(n)
	alerts := prometheus.NewExporter(t)
	server := prometheus.New(t, prometheus.Options{Target: alerts, Rules: "  - {alert: DiskFails, expr: disk_fails > 0}\n"})
	s.amend(n, "50-e2e.toml", fmt.Sprintf("[gates]\nrecheck = \"1s\"\nblocking_pods = [\"job=payroll\"]\n"+
		"[compat]\ndaemonset = \"kube-system/kured\"\n[[prometheus]]\nurls = [%q]\n", s.reachable(server.URL)))
	s.amend(holder, "50-e2e.toml", "[drain]\ntimeout = \"5m\"\n")

	all := s.obstacles(n, person, alerts)
	all[0].begin()
	s.want(n)
	for i, o := range all {
		if i > 0 {
			all[i-1].end()
		}
		s.awaitWhy(n, o.because)
		if next := i + 1; next < len(all) {
			all[next].begin()
			if next < len(all)-1 { // the policy is not looked at before the node's own gates are open
				s.awaitWhyAnyhow(n, all[next].because)
			}
		}
	}
	for _, other := range s.Room.Nodes() {
		s.neverAsked(other, "")
	}

	// The lock: another one holds it, and cannot drain.
	apt := s.inhibit(n, "block", "apt", "installs a kernel")
	all[len(all)-1].end()
	s.awaitWhy(n, because{code: 3, kind: explain.Blocks, reason: status.Inhibited})
	stuck := cluster.Workload{Name: "needed", Replicas: 1, MinAvailable: 1, On: holder.Name}
	s.deploy(stuck)
	pods, err := s.Pods(s.ctx, stuck)
	s.must(err)
	s.want(holder)
	s.awaitWhy(holder, because{
		code: 2, kind: explain.Blocks, says: []string{"pod default/" + pods[0].Name, "PodDisruptionBudget default/needed: needs 1"},
		help: []string{`"kubectl -n default describe pdb needed"`},
	})
	apt.release(s)
	s.awaitWhy(n, because{
		code: 1, kind: explain.Blocks, reason: status.LockFull,
		says: []string{"place 1 of 1 behind node-a (draining, holds the lock for ", "1 allowed at a time"}, help: []string{`"kubectl delete node node-a"`},
	})
	s.want(last)
	s.awaitWhy(last, because{code: 1, kind: explain.Blocks, reason: status.LockFull, says: []string{"place 2 of 2 behind node-a (draining, ", " and node-b"}})

	s.must(s.Client.PolicyV1().PodDisruptionBudgets("default").Delete(s.ctx, stuck.Name, metav1.DeleteOptions{}))
	at := s.awaitBack(s.from, holder, before[holder.Name])
	at = s.awaitBack(at, n, before[n.Name])
	s.awaitBack(at, last, before[last.Name])
	s.atRest()
	s.rebootedOnce(before, holder, n, last)
	points, code, err := s.why(s.ctx, n)
	if err != nil || code != 0 || slices.ContainsFunc(points, func(p explain.Point) bool { return p.Kind == explain.Blocks || p.Kind == explain.Also }) {
		t.Errorf("kured why after the reboot: code %d, %v: %+v", code, err, points)
	}
}

// awaitWhyAnyhow is awaitWhy, wherever in the answer it is named.
func (s *story) awaitWhyAnyhow(n *nodes.Node, want because) {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, fmt.Sprintf("kured why on %s to name %q, too", n.Name, want.reason))
	defer cancel()
	err := nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		points, _, err := s.why(ctx, n)
		if err != nil {
			return false, nil
		}
		want.line = points
		return slices.ContainsFunc(points, func(p explain.Point) bool { return p.Reason == want.reason && p.Kind != explain.Now }), nil
	})
	if err != nil {
		s.t.Fatalf("%v; it says %+v", err, want.line)
	}
}

// obstacles are all that the gates of a node look at, and the policy of the cluster.
func (s *story) obstacles(n *nodes.Node, person string, alerts *prometheus.Exporter) []obstacle {
	now := s.clock(n)
	blocked := func(reason status.Reason, help string, says ...string) because {
		return because{code: 3, kind: explain.Blocks, reason: reason, says: says, help: []string{help}}
	}
	configured := func(b because, text string) obstacle {
		return obstacle{b, func() { s.dropIn(n, "60-obstacle-"+string(b.reason)+".toml", text) },
			func() { s.dropIn(n, "60-obstacle-"+string(b.reason)+".toml", "") }}
	}
	run := func(command ...string) func() {
		return func() {
			s.t.Helper()
			_, err := n.Exec(s.ctx, command...)
			s.must(err)
		}
	}
	annotation := func(text any) func() {
		return func() { s.must(s.annotate(s.ctx, n, "kured.dev/pause", text)) }
	}
	var apt inhibitor
	var stopPod func()
	rival := s.rival()
	s.afterwards("end the pauses", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "kured resume; kured resume --all --kubeconfig "+person)
		return errors.Join(err, s.annotate(ctx, n, "kured.dev/pause", nil))
	})
	window := now.Add(2 * time.Hour)
	return []obstacle{
		configured(blocked(status.OutsideWindow, `"kured config show"`, "the window opens ", " in 1 h 5"),
			fmt.Sprintf("[[window]]\nstart = %q\nend = %q\ntime_zone = \"UTC\"\n", window.Format("15:04"), window.Add(time.Hour).Format("15:04"))),
		configured(blocked(status.Frozen, "", "release week"),
			fmt.Sprintf("[[freeze]]\nfrom = %q\nuntil = %q\nreason = \"release week\"\n", now.Format(time.DateOnly), now.AddDate(0, 0, 2).Format(time.DateOnly))),
		{blocked(status.Paused, `"kured resume" ends it.`, localPause, "e2e changes a disk"),
			run("kured", "pause", "--until", "2h", "--reason", "e2e changes a disk"), run("kured", "resume")},
		{blocked(status.Paused, `"kubectl annotate node node-b kured.dev/pause-" ends it.`, "annotation kured.dev/pause", "ask alice first"),
			annotation("ask alice first"), annotation(nil)},
		{blocked(status.Inhibited, `"systemd-inhibit --list"`, "dpkg", "blocks shutdown", "upgrades libc6"),
			func() { apt = s.inhibit(n, "block", "dpkg", "upgrades libc6") }, func() { apt.release(s) }},
		{blocked(status.BlockingPods, "", "default/payroll-"),
			func() {
				pod := s.payroll(n)
				stopPod = func() { s.must(s.kill(s.ctx, pod)) }
			}, func() { stopPod() }},
		{blocked(status.ShutdownScheduled, `"shutdown -c" cancels it.`, "somebody has scheduled a poweroff at "),
			run("shutdown", "-P", "+120"), run("shutdown", "-c")},
		{blocked(status.AlertsFiring, "", "DiskFails"),
			func() { alerts.Set("disk_fails", 1) }, func() { alerts.Set("disk_fails", 0) }},
		{blocked(status.RivalHolds, "", "DaemonSet kured", "node-y since "),
			func() {
				rival.lock(`{"nodeID":"node-y","metadata":{"unschedulable":false},"created":"2026-11-22T12:00:00Z","TTL":0}`)
			}, func() { rival.lock(nil) }},
		{because{code: 4, kind: explain.Blocks, reason: status.RebootBudget, says: []string{"1 reboots in 24 hours", "the sentinel stands again"}},
			func() {
				s.must(n.WriteFile(ledger, fmt.Appendf(nil, `{"reboots":[%q]}`, now.Add(-time.Hour).Format(time.RFC3339)), 0o600))
				s.dropIn(n, "60-obstacle-budget.toml", "[reboot]\nmax_per_day = 1\n")
			},
			func() { s.dropIn(n, "60-obstacle-budget.toml", "") }},
		{blocked(status.Paused, `"kured resume --all" ends it.`, "paused for the whole cluster: e2e incident 4711; by alice"),
			run("kured", "pause", "--all", "--reason", "e2e incident 4711", "--kubeconfig", person),
			run("kured", "resume", "--all", "--kubeconfig", person)},
	}
}

// personOn puts an administrator's kubeconfig on a node until the end of the story, and returns its path there.
func (s *story) personOn(n *nodes.Node) string {
	s.t.Helper()
	credential, err := s.Plane.Issue(testenv.Subject{User: "alice", Groups: []string{"system:masters"}})
	s.must(err)
	text, err := credential.Kubeconfig()
	s.must(err)
	const file = "/root/alice.kubeconfig"
	s.must(n.WriteFile(file, text, 0o600))
	s.afterwards("remove "+file, func(context.Context) error { return n.Remove(file) })
	return file
}

// dropIn writes a drop-in of the configuration that amend has not made, or removes it if it is empty, and lets the daemon
// read it.
func (s *story) dropIn(n *nodes.Node, name, text string) {
	s.t.Helper()
	if text == "" {
		s.must(n.Remove(dropIns + "/" + name))
		s.reread(n)
		return
	}
	s.amend(n, name, text)
}

// reachable lets the nodes reach a server on the loopback interface of the test, and returns its address for them.
func (s *story) reachable(base string) string {
	s.t.Helper()
	to, err := url.Parse(base)
	s.must(err)
	listener, err := net.Listen("tcp", net.JoinHostPort(nodes.HostAddr().String(), "0"))
	s.must(err)
	server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(to), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // until it is closed
	s.t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}
