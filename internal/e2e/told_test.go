//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/history"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// update writes what a terminal shows during a roll where the documentation takes it from.
var update = flag.Bool("update", false, "write "+sessionFile)

// sessionFile is read by make docs.
const sessionFile = "testdata/watch.txt"

// Three nodes reboot, one of them because a person asks for it, and everything that tells people about it does: a terminal
// with `kured status --all --watch`, a Prometheus with the dashboard's queries, the journal with its catalog, `kured history`
// and the Events of the Nodes.
func TestRollAsItIsTold(t *testing.T) {
	s := begin(t, 4*time.Minute)
	asked, held, last := s.Node("node-c"), s.Node("node-a"), s.Node("node-b")
	before := s.bootIDs()
	for _, n := range s.Room.Nodes() {
		s.amend(n, "50-e2e.toml", "[metrics]\nlisten = [\"0.0.0.0:9788\"]\n[drain]\ntimeout = \"5m\"\n")
	}
	scraped := s.scrape()
	verified := scraped.verified()
	work := cluster.Workload{Name: "web", Replicas: 6, MinAvailable: 4, StopAfter: 2 * time.Second}
	s.deploy(work)
	stuck := cluster.Workload{Name: "db", Replicas: 1, MinAvailable: 1, On: held.Name}
	s.deploy(stuck)
	watch := s.watchAll()
	asked.BootDelay(3 * time.Second) // long enough to be seen
	s.afterwards("boot as fast as ever", func(context.Context) error { asked.BootDelay(0); return nil })

	_, err := asked.Exec(s.ctx, "kured", "request", "--reason", "new firmware")
	s.must(err)
	at := s.await(s.from, asked.Name+" to hold", func(c cluster.State) bool { return c.Holds(asked.Name) })
	s.want(held)
	at = s.await(at, held.Name+" to wait", func(c cluster.State) bool { return slices.Contains(c.Waiters(), held.Name) })
	s.want(last)
	at = s.awaitBack(at, asked, before[asked.Name])
	s.awaitStatus(held, "the pod that is held", func(now status.Status) bool { return now.Drain != nil && len(now.Drain.Held) > 0 })
	scraped.has(held, "kured_pods_held == 1")
	s.must(s.Client.PolicyV1().PodDisruptionBudgets("default").Delete(s.ctx, stuck.Name, metav1.DeleteOptions{}))
	at = s.awaitBack(at, held, before[held.Name])
	s.awaitBack(at, last, before[last.Name])
	s.atRest()
	s.rebootedOnce(before, s.Room.Nodes()...)

	s.watched(watch)
	scraped.rebooted(verified)
	scraped.dashboard()
	for _, n := range s.Room.Nodes() {
		reason := "linux-image-e2e"
		if n == asked {
			reason = "new firmware"
		}
		s.journalExplains(n, before[n.Name])
		s.remembered(n, before[n.Name], reason)
		s.eventsTell(n)
		s.annotated(n)
	}
}

// watched checks what the terminal showed, and keeps it for the documentation.
func (s *story) watched(w *watcher) {
	s.t.Helper()
	frames := w.end()
	busy := []string{"locked", "draining", "rebooting", "returning"}
	var kept []string
	shows := func(c, a, b string) func(map[string]string) bool { // in the order in which they go
		return func(phase map[string]string) bool {
			return phase["node-c"] == c && phase["node-a"] == a && phase["node-b"] == b
		}
	}
	keep := []func(map[string]string) bool{
		shows("draining", "queued", "queued"), shows("rebooting", "queued", "queued"),
		shows("idle", "draining", "queued"), shows("idle", "idle", "draining"), shows("idle", "idle", "idle"),
	}
	for _, frame := range frames {
		phase, working := map[string]string{}, 0
		for line := range strings.Lines(frame) {
			if cells := strings.Fields(line); len(cells) == 8 && strings.HasPrefix(cells[0], "node-") {
				phase[cells[0]] = cells[1]
				if slices.Contains(busy, cells[1]) {
					working++
				}
			}
		}
		if working > 1 {
			s.t.Errorf("the terminal shows that more than one node is in a cycle:\n%s", frame)
		}
		switch n := len(kept); {
		case n < len(keep) && keep[n](phase):
			kept = append(kept, frame)
		case n > 0 && keep[n-1](phase):
			kept[n-1] = frame // the last one of a moment says most
		}
	}
	if len(kept) < len(keep) {
		s.t.Errorf("the terminal showed only %d of %d moments: in all\n%s", len(kept), len(keep), strings.Join(frames, "\n"))
	}
	text := "$ kured status --all --watch\n" + strings.Join(kept, "\n")
	if *update && !s.t.Failed() {
		s.must(os.MkdirAll(filepath.Dir(sessionFile), 0o755))
		s.must(os.WriteFile(sessionFile, []byte(text), 0o644))
	}
}

// journalExplains fails the test unless journalctl tells of the lines of a cycle what they mean.
func (s *story) journalExplains(n *nodes.Node, cycle string) {
	s.t.Helper()
	out, err := n.Exec(s.ctx, "journalctl", "-x", "--no-pager", "KURED_CYCLE="+cycle)
	s.must(err)
	explained := strings.Join(strings.Fields(strings.NewReplacer("\n-- ", " ", "\n░░", " ").Replace(out)), " ")
	for _, p := range []status.Phase{status.Draining, status.Rebooting, status.Returning} {
		contains(s.t, "journalctl -x on "+n.Name, explained, "Subject: kured: "+string(p), p.Help().Means, p.Help().Do)
	}
}

// remembered fails the test unless `kured history` tells of the cycle.
func (s *story) remembered(n *nodes.Node, cycle, reason string) {
	s.t.Helper()
	out, err := n.Exec(s.ctx, "kured", "history", "--number=1", "--output=json")
	s.must(err)
	var log struct {
		Cycles []struct {
			Cycle    string         `json:"cycle"`
			Result   history.Result `json:"result"`
			Tries    int            `json:"tries"`
			Packages []string       `json:"packages"`
			Phases   []struct {
				Phase   status.Phase `json:"phase"`
				Seconds float64      `json:"seconds"`
			} `json:"phases"`
		} `json:"cycles"`
	}
	s.must(json.Unmarshal([]byte(out), &log))
	if len(log.Cycles) != 1 {
		s.t.Errorf("kured history on %s: %s", n.Name, out)
		return
	}
	one := log.Cycles[0]
	if one.Cycle != cycle || one.Result != history.Verified || one.Tries != 1 || !strings.HasPrefix(strings.Join(one.Packages, ", "), reason) {
		s.t.Errorf("kured history on %s, want %s verified for %s: %s", n.Name, cycle, reason, out)
	}
	spent := map[status.Phase]float64{}
	for _, p := range one.Phases {
		spent[p.Phase] = p.Seconds
	}
	if spent[status.Draining] <= 0 || spent[status.Rebooting] <= 0 {
		s.t.Errorf("kured history on %s: no time spent for drain or reboot: %s", n.Name, out)
	}
}

// eventsTell fails the test unless the Events about a Node tell its cycle in the order in which it went.
func (s *story) eventsTell(n *nodes.Node) {
	s.t.Helper()
	list, err := s.Client.CoreV1().Events(metav1.NamespaceDefault).List(s.ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=Node,involvedObject.name=" + n.Name,
	})
	s.must(err)
	events := slices.DeleteFunc(list.Items, func(e corev1.Event) bool {
		return e.Source.Component != "kured" || e.LastTimestamp.Time.Before(s.began.Truncate(time.Second))
	})
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	var reasons []string
	for _, e := range events {
		reasons = append(reasons, e.Reason)
	}
	told := strings.Join(reasons, " ")
	position := -1
	for _, phase := range []status.Phase{status.Locked, status.Draining, status.Rebooting, status.Idle} {
		i := slices.Index(reasons, node.ConditionReason(status.Reason(phase)))
		if i <= position {
			s.t.Errorf("%s: the Events do not tell %s after that: %s", n.Name, phase, told)
			return
		}
		position = i
	}
}

// annotated fails the test unless the Node tells of the reboot that was verified.
func (s *story) annotated(n *nodes.Node) {
	s.t.Helper()
	object, err := s.Client.CoreV1().Nodes().Get(s.ctx, n.Name, metav1.GetOptions{})
	s.must(err)
	var says struct {
		Phase    status.Phase `json:"phase"`
		Boot     string       `json:"boot"`
		Rebooted time.Time    `json:"rebooted"`
	}
	text := object.Annotations[node.StatusAnnotation]
	boot, bootErr := n.BootID()
	s.must(bootErr)
	if err := json.Unmarshal([]byte(text), &says); err != nil || says.Phase != status.Idle || says.Boot != boot || says.Rebooted.Before(s.began.Truncate(time.Second)) {
		s.t.Errorf("%s: the annotation %s is %q, %v; want boot %s", n.Name, node.StatusAnnotation, text, err, boot)
	}
}

// A healthy node has nothing for `kured doctor` to complain about but what belongs to this environment.
func TestDoctorOnHealthyNodes(t *testing.T) {
	s := begin(t, 2*time.Minute)
	expected := map[string]string{"sentinel": "nothing that is known asks for a reboot"} // the nodes have no unattended-upgrades
	for _, n := range s.Room.Nodes() {
		out, err := answer(s.ctx, n, "kured", "doctor", "--output=json")
		s.must(err)
		var all struct {
			Worst    string `json:"worst"`
			Findings []struct{ Check, Level, Text, Remedy string }
		}
		s.must(json.Unmarshal([]byte(out), &all))
		if len(all.Findings) < 15 {
			t.Errorf("%s: only %d findings: %s", n.Name, len(all.Findings), out)
		}
		for _, f := range all.Findings {
			part, known := expected[f.Check]
			if f.Level == "fail" || f.Level != "ok" && (!known || !strings.Contains(f.Text, part)) {
				t.Errorf("%s: %s %s: %s (%s)", n.Name, f.Level, f.Check, f.Text, f.Remedy)
			}
		}
	}
}

// The metrics answer where the configuration says: on loopback as shipped, at a unix socket, and at a socket that systemd
// opens, which starts a daemon that was stopped.
func TestWhereMetricsAre(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-a") // systemd 247
	const path = "/run/kured/metrics.sock"
	answers := func(where, target string) {
		t.Helper()
		ctx, cancel := cluster.Within(s.ctx, 20*time.Second, "metrics at "+where)
		defer cancel()
		var said string
		err := nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
			said, _ = n.Exec(ctx, "perl", "-MIO::Socket", "-e", askMetrics, target)
			return strings.Contains(said, "kured_build_info{") && strings.Contains(said, `kured_reboot_required{node="node-a"} 0`), nil
		})
		if err != nil {
			t.Errorf("%v; it said %.300q", err, said)
		}
	}
	answers("the address as shipped", "127.0.0.1:9788")
	s.amend(n, "50-e2e.toml", fmt.Sprintf("[metrics]\nlisten = [\"unix:%s\"]\n", path))
	answers("a unix socket", path)
	if said, err := n.Exec(s.ctx, "perl", "-MIO::Socket", "-e", askMetrics, "127.0.0.1:9788"); err == nil {
		t.Errorf("the address that is not configured any more answers: %.100q", said)
	}

	s.afterwards("close the socket", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "systemctl", "disable", "--quiet", "--now", "kured-metrics.socket")
		return err
	})
	s.amend(n, "50-e2e.toml", "[metrics]\nlisten = [\"systemd\"]\n")
	_, err := n.Exec(s.ctx, "sh", "-c", "systemctl stop kured && systemctl enable --quiet --now kured-metrics.socket && systemctl start kured")
	s.must(err)
	answers("the socket of systemd", "127.0.0.1:9788")
	_, err = n.Exec(s.ctx, "systemctl", "stop", "--quiet", "kured.service")
	s.must(err)
	answers("the socket of systemd, with the daemon stopped", "127.0.0.1:9788")
	s.must(n.WaitUnit(s.ctx, "kured.service", "active"))
}

// askMetrics scrapes a path or host:port: the nodes have no curl.
const askMetrics = `my $to = shift; my $s = $to =~ m{^/} ? IO::Socket::UNIX->new($to) : IO::Socket::INET->new($to);
$s or die "$to: $!"; print $s "GET /metrics HTTP/1.0\r\nHost: kured\r\n\r\n"; print while <$s>;`

// `kured plan` says with the node's own credential what a drain would do, and touches nothing; and where the daemon is down
// `kured status` says so, and what the API server knows.
func TestAskedWithoutTheDaemon(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-c")
	free := cluster.Workload{Name: "free", Replicas: 1, On: n.Name}
	stuck := cluster.Workload{Name: "planned", Replicas: 1, MinAvailable: 1, On: n.Name}
	s.deploy(free)
	s.deploy(stuck)
	s.afterwards("start the daemon", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "systemctl", "start", "kured.service")
		return err
	})
	_, err := n.Exec(s.ctx, "systemctl", "stop", "--quiet", "kured.service")
	s.must(err)

	ask := func(code int, line ...string) *nodes.ExitError {
		t.Helper()
		_, err := n.Exec(s.ctx, line...)
		exit, ok := errors.AsType[*nodes.ExitError](err)
		if !ok || exit.Code != code {
			t.Fatalf("%v: %v, want exit code %d", line, err, code)
		}
		return exit
	}
	plan := ask(3, "kured", "plan").Stdout
	for _, w := range []cluster.Workload{free, stuck} {
		pods, err := s.Pods(s.ctx, w)
		s.must(err)
		contains(t, "kured plan", plan, "default/"+pods[0].Name)
		if len(pods) != 1 || pods[0].DeletionTimestamp != nil {
			t.Errorf("kured plan has touched %+v", pods)
		}
	}
	contains(t, "kured plan", plan, "PodDisruptionBudget default/planned")

	for _, command := range []string{"status", "why"} {
		contains(t, "kured "+command, ask(69, "kured", command).Stderr, "kured is not running here")
	}
	known := ask(69, "kured", "status").Stdout
	contains(t, "kured status", known, "node-c, as the API server knows it", "Ready")
}
