package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/prometheus"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// ingress is the way to a server, which can be led to another one: a test
// cannot start a server anew at the address where one has died.
type ingress struct {
	URL string

	to       atomic.Pointer[url.URL]
	requests atomic.Int64 // that have arrived
	hung     chan int     // for each request that was given up: the beats meanwhile
}

// newIngress makes the way to s. beats counts the signs of life of who goes it.
func newIngress(t *testing.T, s *prometheus.Server, beats func() int) *ingress {
	t.Helper()
	i := &ingress{hung: make(chan int, 1000)}
	i.lead(t, s)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(i.to.Load()) },
		Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.requests.Add(1)
		before := beats()
		proxy.ServeHTTP(w, r)
		if r.Context().Err() != nil {
			i.hung <- beats() - before
		}
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
	way := newIngress(t, server, func() int { return heard.count("WATCHDOG=1") })
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
	alive := func() {
		t.Helper()
		select {
		case beats := <-way.hung:
			if beats < 3 {
				t.Errorf("%d signs of life in 2 seconds", beats)
			}
		case <-time.After(time.Minute):
			t.Fatal("no request was given up")
		}
	}
	alive()
	m.awaitRolledBack(2)
	m.await(status.Blocked, status.AlertsUnreadable, way.URL+": no answer within 2s")
	alive()
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
	none := func() int { return 0 }
	toPrometheus, toManager := newIngress(t, server, none), newIngress(t, manager, none)
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
	m.change = func(p *program) { // it has been up for long
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
