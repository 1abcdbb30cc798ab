package gate

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/status"
	prometheusenv "github.com/kured-host/kured/internal/testenv/prometheus"
)

// alertRules are those of the tests' Prometheus. The value of broken says how far the alert is,
// so that no test depends on how fast something happens.
const alertRules = `
  - {alert: Broken, expr: broken == 1, for: 1h, labels: {severity: critical, instance: node-a}}
  - {alert: Broken, expr: broken == 2, labels: {severity: critical, instance: node-a}}
  - {alert: Outage, expr: outage == 1, labels: {severity: none}}
`

// inhibitRules silence what follows from an outage.
const inhibitRules = "- {source_matchers: ['alertname=Outage'], target_matchers: ['alertname=Broken']}\n"

// realServer is a real server to ask. timeout is short where it is going to hang.
func realServer(t *testing.T, s *prometheusenv.Server, file string, timeout time.Duration) alert.Server {
	t.Helper()
	server, err := alert.NewServer([]string{s.URL}, file, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// awaitVerdict checks until the verdict is this one. Rules are evaluated each second.
func awaitVerdict(t *testing.T, g Gate, reason status.Reason, detail string) {
	t.Helper()
	var v Verdict
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if v = g.Check(t.Context(), Within); v.Open == (reason == "") && v.Reason == reason && strings.Contains(v.Detail, detail) {
			return
		}
	}
	t.Fatalf("%T: %+v, want %q with %q", g, v, reason, detail)
}

// An alert goes through its whole life, before real servers.
func TestRealAlerts(t *testing.T) {
	t.Parallel()
	exporter := prometheusenv.NewExporter(t)
	for _, metric := range []string{"broken", "outage", "temperature"} {
		exporter.Set(metric, 0)
	}
	manager := prometheusenv.NewAlertmanager(t, inhibitRules, false)
	server := prometheusenv.New(t, prometheusenv.Options{Target: exporter, Rules: alertRules, Alertmanagers: []*prometheusenv.Server{manager}})
	prometheus, alertmanager := realServer(t, server, "", time.Minute), realServer(t, manager, "", time.Minute)
	notOutage, err := alert.NewFilter(nil, nil, []string{`severity="none"`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	firing := Prometheus{Server: prometheus, States: alert.Firing, Filter: notOutage}
	pending := Prometheus{Server: prometheus, States: alert.Pending, Filter: notOutage}
	active := Alertmanager{Server: alertmanager, Filter: notOutage}
	query := Prometheus{Server: prometheus, States: alert.None, Queries: []string{"temperature > 80"}}
	const broken = `Broken (instance="node-a", severity="critical")`

	awaitVerdict(t, Prometheus{Server: prometheus, States: alert.None, Queries: []string{"absent(broken)"}}, "", "")
	for _, g := range []Gate{firing, pending, active, query} {
		awaitVerdict(t, g, "", "")
	}
	exporter.Set("broken", 1)
	awaitVerdict(t, pending, status.AlertsFiring, broken)
	awaitVerdict(t, firing, "", "")
	awaitVerdict(t, active, "", "")
	exporter.Set("broken", 2)
	awaitVerdict(t, firing, status.AlertsFiring, broken)
	awaitVerdict(t, active, status.AlertsFiring, broken)

	// Silenced, by us: only Alertmanager knows of it.
	silence, err := alert.NewSilence(alertmanager, "node-a", []string{`instance="{node}"`}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stop := keepSilence(t, silence)
	awaitVerdict(t, active, "", "")
	awaitVerdict(t, firing, status.AlertsFiring, broken)
	stop()
	if err := silence.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitVerdict(t, active, status.AlertsFiring, broken)

	// Inhibited.
	exporter.Set("outage", 1)
	awaitVerdict(t, active, "", "")
	awaitVerdict(t, firing, status.AlertsFiring, broken)
	exporter.Set("outage", 0)
	awaitVerdict(t, active, status.AlertsFiring, broken)

	exporter.Set("broken", 0)
	for _, g := range []Gate{firing, pending, active} {
		awaitVerdict(t, g, "", "")
	}

	// PromQL.
	proof := alert.Proof{Server: prometheus, Queries: []string{"temperature > 80"}}
	exporter.Set("temperature", 90)
	awaitVerdict(t, query, status.QueryBlocks, `temperature{instance="`)
	if wrong := proof.Wrong(t.Context()); !strings.Contains(wrong, "= 90") {
		t.Errorf("on the way back: %q", wrong)
	}
	exporter.Set("temperature", 70)
	awaitVerdict(t, query, "", "")
	if wrong := proof.Wrong(t.Context()); wrong != "" {
		t.Errorf("on the way back: %q", wrong)
	}
	for wrong, why := range map[string]string{"scalar(temperature)": "gives a scalar", "temperature{": "parse error", `"text"`: "unexpected value type"} {
		awaitVerdict(t, Prometheus{Server: prometheus, States: alert.None, Queries: []string{wrong}}, status.QueryUnreadable, why)
	}

	// Alertmanager has not been up for an hour: that it knows of no alert may be because nobody told it yet.
	awaitVerdict(t, Alertmanager{Server: alertmanager, Filter: notOutage, Settled: time.Hour}, status.AlertsUnreadable, "ago: it may not know all alerts yet")
	awaitVerdict(t, Alertmanager{Server: alertmanager, Filter: notOutage, Settled: time.Second}, "", "")

	// One for the other is nonsense.
	awaitVerdict(t, Prometheus{Server: alertmanager, States: alert.Firing}, status.AlertsUnreadable, manager.URL+": 404 Not Found")
	awaitVerdict(t, Alertmanager{Server: prometheus}, status.AlertsUnreadable, server.URL+": 404 Not Found")
}

// keepSilence runs Keep, which must not fail, until the returned function is called.
func keepSilence(t *testing.T, s alert.Silence) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Keep(ctx, "linux-image-6.1.0-40", func(err error) { t.Error(err) })
	}()
	return func() {
		cancel()
		<-done
	}
}

// What servers do when they are not well.
func TestRealServersFail(t *testing.T) {
	t.Parallel()
	exporter := prometheusenv.NewExporter(t)
	spare := prometheusenv.New(t, prometheusenv.Options{Target: exporter})
	for _, c := range []struct {
		name   string
		start  func(t *testing.T, authenticate bool) *prometheusenv.Server
		gate   func(alert.Server) Gate
		reason status.Reason
	}{
		{
			"Prometheus", func(t *testing.T, authenticate bool) *prometheusenv.Server {
				return prometheusenv.New(t, prometheusenv.Options{Target: exporter, Authenticate: authenticate})
			}, func(s alert.Server) Gate { return Prometheus{Server: s, States: alert.Firing} }, status.AlertsUnreadable,
		},
		{
			"PromQL", func(t *testing.T, authenticate bool) *prometheusenv.Server {
				return prometheusenv.New(t, prometheusenv.Options{Target: exporter, Authenticate: authenticate})
			}, func(s alert.Server) Gate {
				return Prometheus{Server: s, States: alert.None, Queries: []string{"up == 0"}}
			}, status.QueryUnreadable,
		},
		{
			"Alertmanager", func(t *testing.T, authenticate bool) *prometheusenv.Server {
				return prometheusenv.NewAlertmanager(t, "", authenticate)
			}, func(s alert.Server) Gate { return Alertmanager{Server: s} }, status.AlertsUnreadable,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := c.start(t, true)
			dir := t.TempDir()
			write := func(name, content string) string {
				t.Helper()
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			options := write("http.yml", "basic_auth: {username: "+prometheusenv.User+", password_file: password}\n")
			g := c.gate(realServer(t, server, options, time.Minute))

			awaitVerdict(t, c.gate(realServer(t, server, "", time.Minute)), c.reason, server.URL+": 401 Unauthorized")
			awaitVerdict(t, g, c.reason, filepath.Join(dir, "password"))
			write("password", "wrong\n")
			awaitVerdict(t, g, c.reason, server.URL+": 401 Unauthorized")
			write("password", prometheusenv.Password+"\n")
			awaitVerdict(t, g, "", "")

			if err := server.Pause(); err != nil {
				t.Fatal(err)
			}
			hasty := c.gate(realServer(t, server, options, 300*time.Millisecond))
			if v := hasty.Check(t.Context(), Before); v.Open || v.Reason != c.reason || !strings.Contains(v.Detail, server.URL+": no answer within 300ms") {
				t.Errorf("hangs: %+v", v)
			}
			if err := server.Resume(); err != nil {
				t.Fatal(err)
			}
			awaitVerdict(t, g, "", "")

			server.Kill()
			if v := g.Check(t.Context(), Before); v.Open || v.Reason != c.reason || !strings.Contains(v.Detail, "connection refused") {
				t.Errorf("killed: %+v", v)
			}
			if c.name == "Alertmanager" {
				return
			}
			both, err := alert.NewServer([]string{server.URL, spare.URL}, options, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if v := c.gate(both).Check(t.Context(), Before); !v.Open {
				t.Errorf("another replica answers: %+v", v)
			}
		})
	}
}
