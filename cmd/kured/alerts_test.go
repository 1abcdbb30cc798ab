package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
	"github.com/kured-host/kured/internal/testenv/prometheus"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// member is a node of a cluster with kured on it, which a reboot is wanted of.
// The daemon is real and has the kubelet's credential, the kubelet is a
// stand-in, logind a fake.
type member struct {
	*cluster // with the directory of this node's files
	node     *testenv.Node
	login    *fakelogin1.Login1
	boot     string
	change   func(*plan) // before the daemon starts; nil: nothing
	logged   *journal    // of all daemons, one after the other
	rebooted chan struct{}
	stop     func() // ends the daemon, as systemd does
}

// join adds a node with this configuration, in which DIR is the directory of its
// files. The daemon is not started yet.
func (c *cluster) join(name, toml string) *member {
	c.t.Helper()
	m := &member{
		cluster: &cluster{c.ControlPlane, c.t, c.t.TempDir()}, login: fakelogin1.Start(c.t),
		logged: &journal{}, rebooted: make(chan struct{}), stop: func() {},
	}
	c.t.Cleanup(func() {
		m.stop()
		work() // the memory settings of a daemon that rests are those of this process
		if c.t.Failed() {
			c.t.Logf("journal of %s:\n%s", name, m.logged)
		}
	})
	m.node = testenv.NewNode(c.t, c.ControlPlane, standin.Options{NodeName: name})
	m.login.OnReboot(func() { close(m.rebooted) })
	m.write("run/reboot-required", "")
	m.write("run/reboot-required.pkgs", "linux-image-6.1.0-40\n")
	m.write("kured.toml", fmt.Sprintf(`
kubernetes.kubeconfig = %q
sentinel.paths = [%q]
sentinel.settle = "0s"
gates.recheck = "1s"
retry = {initial = "1s", max = "1s"}
log.format = "text"
`, m.as(testenv.NodeSubject(name)), filepath.Join(m.dir, "run", "reboot-required"))+strings.ReplaceAll(toml, "DIR", m.dir))
	m.newBoot()
	return m
}

// newBoot is of the boot that the kubelet is in.
func (m *member) newBoot() {
	m.t.Helper()
	var err error
	if m.boot, err = node.NormalizeBootID(m.node.BootID()); err != nil {
		m.t.Fatal(err)
	}
}

// write gives one of the node's files another content, at once as editors do.
func (m *member) write(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// plan is what a process of this boot makes of kured.toml.
func (m *member) plan() *plan {
	m.t.Helper()
	cfg, err := config.Load(filepath.Join(m.dir, "kured.toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	p := testPlan(m.t, m.dir, m.login.Address(), m.boot, cfg)
	p.log = slog.New(slog.NewTextHandler(m.logged, nil))
	if err := p.planNotices(); err != nil { // with that log
		m.t.Fatal(err)
	}
	if m.change != nil {
		m.change(p)
	}
	return p
}

// start starts the daemon of this boot.
func (m *member) start() {
	m.t.Helper()
	p := m.plan()
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.run(ctx, reloading{}); err != nil {
			m.t.Errorf("the daemon of %s: %v", m.node.Name(), err)
		}
	}()
	m.stop = func() {
		cancel()
		<-ended
	}
}

// status is what the daemon answers; the zero one while there is none.
func (m *member) status() status.Status {
	s, err := control.Client{Path: filepath.Join(m.dir, "kured.sock")}.Status(m.t.Context())
	if err != nil {
		return status.Status{}
	}
	return s
}

// await waits until the daemon is in this phase for this reason, and says so.
func (m *member) await(phase status.Phase, reason status.Reason, detail string) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Logf("the status is %+v", m.status())
		}
	}()
	m.eventually(fmt.Sprintf("%s is %s for %q with %q", m.node.Name(), phase, reason, detail), func() bool {
		s := m.status()
		return s.Phase == phase && s.Reason == reason && strings.Contains(s.Detail, detail)
	})
}

// awaitHeldDrain waits until the drain is at the pod of blockDrain.
func (m *member) awaitHeldDrain() {
	m.t.Helper()
	m.eventually(m.node.Name()+" is in the midst of its drain", func() bool {
		s := m.status()
		return s.Phase == status.Draining && s.Drain != nil && len(s.Drain.Held) > 0
	})
	if !m.cordoned() {
		m.t.Fatal("drained and not cordoned")
	}
}

// cordoned reports whether the Node carries our cordon.
func (m *member) cordoned() bool {
	m.t.Helper()
	n := m.cluster.node(m.node.Name())
	if marked := n.Annotations[node.MarkAnnotation] != ""; marked != n.Spec.Unschedulable {
		m.t.Errorf("cordoned: %v, mark: %v", n.Spec.Unschedulable, marked)
	}
	return n.Spec.Unschedulable
}

// awaitRolledBack waits until a try was rolled back, the nth of this node.
func (m *member) awaitRolledBack(nth int) {
	m.t.Helper()
	m.eventually("rolled back", func() bool {
		return strings.Count(m.logged.String(), "rolled back: uncordoned, lock released") == nth
	})
	if m.cordoned() {
		m.t.Error("rolled back, and still cordoned")
	}
	if left := m.entries(); len(left) != 0 {
		m.t.Errorf("rolled back, and left in the lock: %v", left)
	}
	if n := m.login.Calls(); n != 0 {
		m.t.Errorf("rolled back, and logind was called %d times", n)
	}
}

// goDown waits for the reboot and powers the node off.
func (m *member) goDown() {
	m.t.Helper()
	select {
	case <-m.rebooted:
	case <-time.After(time.Minute):
		m.t.Fatalf("no reboot: %+v", m.status())
	}
	m.stop()
	if err := m.node.PowerOff(); err != nil {
		m.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(m.dir, "run")); err != nil {
		m.t.Fatal(err)
	}
	if err := m.login.Restart(); err != nil {
		m.t.Fatal(err)
	}
}

// comeBack is kured uncordon of this boot, until ctx ends.
func (m *member) comeBack(ctx context.Context) (now func() status.Status, done <-chan error) {
	m.t.Helper()
	p := m.plan()
	var newest atomic.Pointer[status.Status]
	newest.Store(&status.Status{})
	runner := cycle.Runner{Mode: cycle.Return, Boot: p.boot, Parts: p.parts(nil), Publish: func(s status.Status) { newest.Store(&s) }}
	ended := make(chan error, 1)
	go func() { ended <- runner.Do(ctx) }()
	return func() status.Status { return *newest.Load() }, ended
}

// entries are what is in the lock.
func (c *cluster) entries() map[string]string {
	c.t.Helper()
	cm, err := c.Admin().CoreV1().ConfigMaps("kube-system").Get(c.t.Context(), "kured-lock", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return cm.Data
}

// systemd hears what the daemons of this test say, and wants a sign of life every 20 ms.
func systemd(t *testing.T) *told {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", "")
	heard := newTold()
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			heard.add(string(buffer[:n]))
		}
	}()
	return heard
}

// noSystemd lets the daemons of this test speak to nobody.
func noSystemd(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		t.Setenv(name, "")
	}
}

// ingress is the way to a server, which can be led to another one: a test
// cannot start a server anew at the address where one has died.
type ingress struct {
	URL string

	to       atomic.Pointer[url.URL]
	requests atomic.Int64 // that have arrived
	waiting  atomic.Int64 // the number of the last one while it has no answer, else 0
}

func newIngress(t *testing.T, s *prometheus.Server) *ingress {
	t.Helper()
	i := &ingress{}
	i.lead(t, s)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(i.to.Load()) },
		Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := i.requests.Add(1)
		i.waiting.Store(n)
		defer i.waiting.CompareAndSwap(n, 0)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

func (i *ingress) lead(t *testing.T, s *prometheus.Server) {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	i.to.Store(u)
}

// Alerts of a real Prometheus hold a node back while it waits for its turn and
// end its drain, and a Prometheus that does not answer does the same: refusing,
// hanging or dead. When all is well again the daemon goes on by itself.
func TestAlertsHoldTheNodeBack(t *testing.T) {
	heard := systemd(t)
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	other := testenv.NewNode(t, c.ControlPlane, standin.Options{NodeName: "node-b"})
	exporter := prometheus.NewExporter(t)
	exporter.Set("broken", 0)
	options := prometheus.Options{Target: exporter, Authenticate: true, Rules: `
  - {alert: Watchdog, expr: vector(1), labels: {severity: none}}
  - {alert: Broken, expr: broken == 1, labels: {severity: critical, instance: node-b}}
`}
	server := prometheus.New(t, options)
	way := newIngress(t, server)
	m := c.join("node-a", fmt.Sprintf(`
[[prometheus]]
urls = [%q]
ignore_names = ["^Watchdog$"]
http_config_file = "DIR/http.yml"
timeout = "2s"
`, way.URL))
	m.write("password", prometheus.Password)
	m.write("http.yml", "basic_auth: {username: "+prometheus.User+", password_file: password}\n")
	const broken = `Broken (instance="node-b", severity="critical")`

	// While it waits in the queue.
	holder := fmt.Sprintf(`{"v":1,"boot":"1","phase":"draining","max":1,"uid":%q}`, c.node(other.Name()).UID)
	c.put(fmt.Sprintf(`{"holder.node-b":%q}`, holder))
	m.start()
	m.await(status.Queued, status.LockFull, "")
	waits := func() bool { return m.entries()["waiter.node-a"] != "" }
	c.eventually("in the waiting room", waits)
	exporter.Set("broken", 1)
	m.await(status.Blocked, status.AlertsFiring, broken)
	c.eventually("left the waiting room", func() bool { return !waits() })
	exporter.Set("broken", 0)
	c.eventually("in the waiting room again", waits)

	// In the midst of the drain.
	unblock := blockDrain(c, "node-a")
	c.put(`{"holder.node-b":null}`)
	m.awaitHeldDrain()
	exporter.Set("broken", 1)
	m.awaitRolledBack(1)
	m.await(status.Blocked, status.AlertsFiring, broken)

	// Who asks is not let in any more.
	m.write("password", "wrong")
	m.await(status.Blocked, status.AlertsUnreadable, way.URL+": 401 Unauthorized")
	exporter.Set("broken", 0)
	m.write("password", prometheus.Password)
	m.awaitHeldDrain()

	// The server hangs. The daemon does not.
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	c.eventually("signs of life while the daemon waits for an answer", func() bool {
		request, before := way.waiting.Load(), heard.count("WATCHDOG=1")
		for request != 0 && way.waiting.Load() == request {
			if heard.count("WATCHDOG=1") >= before+3 {
				return true
			}
			time.Sleep(5 * time.Millisecond)
		}
		return false
	})
	m.awaitRolledBack(2)
	m.await(status.Blocked, status.AlertsUnreadable, way.URL+": no answer within 2s")
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	m.awaitHeldDrain()

	// It dies; another one comes.
	server.Kill()
	m.awaitRolledBack(3)
	m.await(status.Blocked, status.AlertsUnreadable, way.URL+": 502 Bad Gateway")
	way.lead(t, prometheus.New(t, options))
	unblock()
	m.goDown()
	if n := m.login.Calls(); n != 1 {
		t.Errorf("logind was called %d times", n)
	}
}

// managed asks a real Alertmanager for its alerts or silences.
func managed[T any](t *testing.T, s *prometheus.Server, what string) (list []T) {
	t.Helper()
	response, err := http.Get(s.URL + "/api/v2/" + what)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

type managedAlert struct {
	Labels map[string]string
	Status struct{ State string }
}

type managedSilence struct {
	CreatedBy, Comment string
	Status             struct{ State string }
}

// alertState is how an Alertmanager has an alert, "" if it has not.
func alertState(t *testing.T, s *prometheus.Server, name string) string {
	t.Helper()
	for _, a := range managed[managedAlert](t, s, "alerts") {
		if a.Labels["alertname"] == name {
			return a.Status.State
		}
	}
	return ""
}

// silences are the states of somebody's silences, sorted.
func silences(t *testing.T, s *prometheus.Server, by string) string {
	t.Helper()
	var states []string
	for _, silence := range managed[managedSilence](t, s, "silences") {
		if silence.CreatedBy == by {
			states = append(states, silence.Status.State)
		}
	}
	slices.Sort(states)
	return strings.Join(states, " ")
}

// silence is what a person does with amtool or in the browser.
func silence(t *testing.T, s *prometheus.Server, by, alert string) {
	t.Helper()
	now := time.Now().UTC()
	body, err := json.Marshal(map[string]any{
		"matchers": []any{map[string]any{"name": "alertname", "value": alert, "isRegex": false, "isEqual": true}},
		"startsAt": now, "endsAt": now.Add(time.Hour), "createdBy": by, "comment": "known",
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(s.URL+"/api/v2/silences", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
}

// An alert is silenced by a person: who looks at the Alertmanager goes on, who
// looks at Prometheus does not. On its way the node silences its own alerts,
// until it has proved that it is well again, by PromQL too. All servers are real.
func TestSilencedAlerts(t *testing.T) {
	noSystemd(t)
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	exporter := prometheus.NewExporter(t)
	exporter.Set("full", 1)
	exporter.Set("down", 0)
	exporter.Set("temperature", 90)
	manager := prometheus.NewAlertmanager(t, "", false)
	server := prometheus.New(t, prometheus.Options{Target: exporter, Alertmanagers: []*prometheus.Server{manager}, Rules: `
  - {alert: DiskFull, expr: full == 1, labels: {instance: node-b}}
  - {alert: NodeDown, expr: down == 1, labels: {instance: 'node-c:9100'}}
`})
	toPrometheus, toManager := newIngress(t, server), newIngress(t, manager)
	a := c.join("node-a", fmt.Sprintf("[[prometheus]]\nurls = [%q]\n", toPrometheus.URL))
	m := c.join("node-c", fmt.Sprintf(`
[[alertmanager]]
urls = [%q]
silence = ['instance=~"{node}(:[0-9]+)?"']
[[prometheus]]
urls = [%q]
alerts = "none"
return_queries = ["temperature > 80"]
`, toManager.URL, server.URL))
	unblock := blockDrain(c, "node-c")
	looks := func(way *ingress) {
		t.Helper()
		seen := way.requests.Load()
		c.eventually("the gate is looked at again", func() bool { return way.requests.Load() >= seen+3 })
	}

	c.eventually("the alert is known", func() bool { return alertState(t, manager, "DiskFull") == "active" })
	a.start()
	m.start()
	a.await(status.Blocked, status.AlertsFiring, `DiskFull (instance="node-b")`)
	m.await(status.Blocked, status.AlertsFiring, `DiskFull (instance="node-b")`)
	silence(t, manager, "alice", "DiskFull")
	m.await(status.Blocked, status.AlertsUnreadable, "it may not know all alerts yet") // it has just been started
	m.stop()
	m.change = func(p *plan) { // it has been up for long
		for i, g := range p.servers {
			if g, ok := g.(gate.Alertmanager); ok {
				g.Settled = time.Millisecond
				p.servers[i] = g
			}
		}
	}
	m.start()
	m.awaitHeldDrain()
	looks(toPrometheus)
	a.await(status.Blocked, status.AlertsFiring, `DiskFull (instance="node-b")`)

	// The node's own alerts do not keep it from going on.
	c.eventually("a silence of kured's", func() bool { return silences(t, manager, "kured") == "active" })
	exporter.Set("down", 1)
	c.eventually("the node's own alert is silenced", func() bool { return alertState(t, manager, "NodeDown") == "suppressed" })
	looks(toManager)
	m.awaitHeldDrain()
	unblock()
	m.goDown()
	if text := m.logged.String(); strings.Contains(text, "rolled back") {
		t.Error("the drain was not the first one")
	}

	// Back, and not well.
	if err := m.node.PowerOn(); err != nil {
		t.Fatal(err)
	}
	m.newBoot()
	now, done := m.comeBack(t.Context())
	c.eventually("the query says that the node is not well", func() bool {
		s := now()
		return s.Phase == status.Returning && s.Reason == status.QueryBlocks &&
			strings.Contains(s.Detail, "`temperature > 80` gives temperature{") && strings.Contains(s.Detail, "= 90")
	})
	if c.entries()["holder.node-c"] == "" || !m.cordoned() || silences(t, manager, "kured") != "active" {
		t.Errorf("not well: lock %v, cordoned %v, silences %q", c.entries(), m.cordoned(), silences(t, manager, "kured"))
	}
	exporter.Set("temperature", 70)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(c.entries()) != 0 || m.cordoned() || silences(t, manager, "kured") != "expired" || silences(t, manager, "alice") != "active" {
		t.Errorf("well: lock %v, cordoned %v, silences of kured %q, of alice %q",
			c.entries(), m.cordoned(), silences(t, manager, "kured"), silences(t, manager, "alice"))
	}
	a.await(status.Blocked, status.AlertsFiring, `DiskFull (instance="node-b")`)
	if n := a.login.Calls(); n != 0 {
		t.Errorf("logind of the node that is held back was called %d times", n)
	}
}
