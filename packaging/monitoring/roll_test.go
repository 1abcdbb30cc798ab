package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/ledger"
	"github.com/kured-host/kured/internal/metrics"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/prometheus"
)

// machine is a node with kured's real metrics and ledger, whose story the test tells.
type machine struct {
	*metrics.Metrics
	t        *testing.T
	name     string
	ledger   *ledger.Ledger
	requests kube.Requests
	url      string
	clock    time.Time // of the story: its phases last longer than the test
	aged     bool      // what it tells began by that clock
	down     atomic.Bool
	scrapes  atomic.Int64
}

func newMachine(t *testing.T, name string, left time.Duration) *machine {
	m := &machine{t: t, name: name, clock: time.Now().Add(-5 * time.Hour)}
	m.ledger = ledger.New(filepath.Join(t.TempDir(), ledger.FileName), m.requests.Evictions)
	m.Metrics = metrics.New(metrics.Options{
		Ledger: m.ledger, Requests: m.requests.Each, Version: "2.0.0", Log: slog.New(slog.DiscardHandler),
		Credential: func() (kube.Validity, error) {
			return kube.Validity{Kind: kube.ClientCertificate, Begins: time.Now().Add(left).AddDate(-1, 0, 0), Ends: time.Now().Add(left)}, nil
		},
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		m.ServeHTTP(w, r)
		m.scrapes.Add(1)
	}))
	t.Cleanup(server.Close)
	m.url = strings.TrimPrefix(server.URL, "http://")
	m.become(0, status.Status{Phase: status.Idle})
	return m
}

// become publishes a status, that long after the one before.
func (m *machine) become(after time.Duration, s status.Status) {
	m.t.Helper()
	m.clock = m.clock.Add(after)
	s.Node, s.Since = m.name, time.Now()
	if m.aged {
		s.Since = m.clock
	}
	if s.Boot == "" {
		s.Boot = "b1"
	}
	if s.Phase != status.Idle {
		s.Cycle = "b1"
	}
	m.Publish(s)
	if err := m.ledger.Follow(m.clock, s); err != nil {
		m.t.Fatal(err)
	}
}

// wait returns when Prometheus has scraped each of these that is up twice more.
func wait(t *testing.T, machines []*machine) {
	t.Helper()
	limit := time.Now().Add(2 * time.Minute)
	for _, m := range machines {
		for from := m.scrapes.Load(); !m.down.Load() && m.scrapes.Load() < from+2; {
			if time.Now().After(limit) {
				t.Fatalf("%s is not scraped", m.name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

var yes, no = true, false

func demand(age time.Duration) *status.Demand {
	return &status.Demand{Since: time.Now().Add(-age), Path: "/run/reboot-required"}
}

// roll lets the nodes of a cluster reboot one after the other.
func roll(t *testing.T, all []*machine) {
	want := demand(5 * time.Hour)
	for _, m := range all {
		m.become(time.Minute, status.Status{
			Phase: status.Blocked, Reason: status.OutsideWindow, Demand: want,
			Gates: []status.GateState{{Gate: status.GateSentinel, Open: true}, {Gate: status.GateSchedule, Reason: status.OutsideWindow}},
		})
	}
	wait(t, all)
	for i, m := range all {
		for place, waiter := range all[i+1:] {
			waiter.become(time.Minute, status.Status{Phase: status.Queued, Reason: status.LockFull, Demand: want, Queue: &status.Queue{
				Holders: []string{m.name}, Limit: 1, Place: place + 1, Waiting: len(all) - i - 1, Enforced: &yes,
				Ahead: []status.Holder{{Node: m.name, Phase: status.Draining, Since: time.Now().Add(-time.Minute)}},
			}})
		}
		m.become(time.Minute, status.Status{Phase: status.Queued, Demand: want, Queue: &status.Queue{Limit: 1, Place: 1, Waiting: 1, Enforced: &yes}})
		wait(t, all)
		held := time.Now()
		m.become(20*time.Second, status.Status{Phase: status.Locked, Demand: want, Held: &held})
		m.requests.Observe("get", 200)
		m.requests.Observe("patch", 200)
		wait(t, all)
		for gone := range 3 {
			m.become(20*time.Second, status.Status{Phase: status.Draining, Demand: want, Held: &held, Drain: &status.Drain{Pods: 3, Gone: gone}})
			m.requests.Observe("evict", 201)
			wait(t, all)
		}
		m.become(20*time.Second, status.Status{Phase: status.Rebooting, Demand: want, Held: &held})
		wait(t, all)
		m.down.Store(true)
		wait(t, all)
		m.down.Store(false)
		m.become(time.Minute, status.Status{Phase: status.Returning, Reason: status.AwaitingReturn, Boot: "b2", Held: &held})
		wait(t, all)
		if err := m.ledger.Verified(time.Now(), "b2"); err != nil {
			t.Fatal(err)
		}
		m.become(30*time.Second, status.Status{Phase: status.Idle, Boot: "b2"})
		wait(t, all)
	}
}

// trouble is a cluster in which everything goes wrong, a thing on each node.
func trouble(t *testing.T, all map[string]*machine) {
	long, held := demand(10*24*time.Hour), time.Now().Add(-3*time.Hour)
	for _, m := range all {
		m.clock, m.aged = time.Now().Add(-48*time.Hour), true
	}
	queue := &status.Queue{
		Holders: []string{"lost"}, Limit: 1, Place: 1, Waiting: 1, Enforced: &no,
		Ahead: []status.Holder{{Node: "lost", Phase: status.Rebooting, Since: held}},
	}
	all["queued"].become(0, status.Status{Phase: status.Queued, Reason: status.LockFull, Demand: long, Queue: queue})
	all["unreadable"].become(0, status.Status{Phase: status.Blocked, Reason: status.AlertsUnreadable, Demand: long})
	all["held"].become(0, status.Status{Phase: status.Held, Reason: status.RebootBudget, Demand: long, Held: &held})
	all["stuck"].become(0, status.Status{
		Phase: status.Draining, Demand: long, Held: &held,
		Drain: &status.Drain{Pods: 3, Held: []string{"shop/web-7: held by PodDisruptionBudget shop/web"}},
	})
	all["lost"].become(0, status.Status{Phase: status.Rebooting, Demand: long, Held: &held})
	values := slices.Collect(maps.Values(all))
	wait(t, values)
	all["sentinel"].become(0, status.Status{Phase: status.Blocked, Reason: status.SentinelUnreadable})
	all["refused"].Reloaded(time.Now(), false)
	for range 3 {
		all["failing"].become(time.Minute, status.Status{Phase: status.Locked, Demand: long})
		all["failing"].become(time.Minute, status.Status{Phase: status.RollingBack, Reason: status.DrainTimeout, Demand: long})
		all["failing"].become(time.Minute, status.Status{Phase: status.BackingOff, Reason: status.DrainTimeout, Demand: long})
		wait(t, values)
	}
	all["lost"].down.Store(true)
	all["gone"].down.Store(true)
	wait(t, values)
}

// Every query of the kit, asked of a real Prometheus that has scraped kured's
// real metrics while a cluster was rebooted, has a result; those which show
// trouble have one in a cluster that has trouble, and none in the one that had
// not.
func TestRoll(t *testing.T) {
	begin := time.Now()
	var good []*machine
	for _, name := range []string{"node-a", "node-b", "node-c"} {
		good = append(good, newMachine(t, name, 90*24*time.Hour))
	}
	bad := map[string]*machine{}
	for _, name := range []string{"queued", "blocked", "unreadable", "held", "stuck", "lost", "sentinel", "refused", "failing", "gone"} {
		bad[name] = newMachine(t, name, 24*time.Hour)
	}
	// This one has never been anything else.
	bad["blocked"].clock, bad["blocked"].aged = time.Now().Add(-48*time.Hour), true
	bad["blocked"].become(0, status.Status{Phase: status.Blocked, Reason: status.BlockingPods, Demand: demand(10 * 24 * time.Hour)})
	server := prometheus.NewWith(t, configuration(good, slices.Collect(maps.Values(bad))), ruleFiles(t))
	wait(t, append(slices.Collect(maps.Values(bad)), good...))
	roll(t, good)
	trouble(t, bad)

	// A recording rule may be a second behind.
	ask := func(expr, cluster string, instant bool) ([]series, error) {
		expr = Substitute(expr, Chosen{Cluster: cluster, Job: "kured", Node: ".*", From: begin.Unix()})
		var result []series
		for range 20 {
			var err error
			if result, err = query(t.Context(), server.URL, expr, begin, instant); err != nil || len(result) > 0 {
				return result, err
			}
			time.Sleep(250 * time.Millisecond)
		}
		return nil, nil
	}
	// Each of these has no result, or only where something is wrong.
	onlyInTrouble := []string{"Who waits for what A", "Alerts A", "Held pods A"}
	for _, p := range dashboard(t).Panels {
		for _, target := range p.Targets {
			name, cluster := p.Title+" "+target.RefID, "good"
			if slices.Contains(onlyInTrouble, name) {
				cluster = "bad"
			}
			// A stat shows the last value of a range or an instant: what was there during the roll need not be there at its end.
			instant := target.Instant && cluster == "bad" || target.Instant && p.Type == "table"
			result, err := ask(target.Expr, cluster, instant)
			if err != nil || len(result) == 0 {
				t.Errorf("panel %s has no data: %v\n%s", name, err, target.Expr)
				continue
			}
			for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.Legend, -1) {
				if _, ok := result[0].Metric[label[1]]; !ok {
					t.Errorf("panel %s: the legend names %s, the result has %v", name, label[1], result[0].Metric)
				}
			}
		}
	}
	for _, r := range rules(t, RecordingFile) {
		if result, err := ask(r.Expr, "", false); err != nil || len(result) == 0 {
			t.Errorf("%s has no data: %v", r.Record, err)
		}
		if result, err := ask(r.Record, "", true); err != nil || len(result) == 0 {
			t.Errorf("%s is not recorded: %v", r.Record, err)
		}
	}
	for _, r := range rules(t, AlertsFile) {
		result, err := ask(r.Expr, "", false)
		if err != nil {
			t.Fatal(r.Alert, err)
		}
		var clusters []string
		for _, s := range result {
			clusters = append(clusters, s.Metric["cluster"])
		}
		if !slices.Contains(clusters, "bad") {
			t.Errorf("%s has no result where there is trouble: %v", r.Alert, result)
		}
		// These are true for a while in each roll, and their "for" is longer than that.
		if transient := []string{"KuredRolloutStalled", "KuredNodeDidNotReturn", "KuredDown"}; slices.Contains(clusters, "good") && !slices.Contains(transient, r.Alert) {
			t.Errorf("%s has a result where all is well: %v", r.Alert, result)
		}
	}
	everyMetricIsUsed(t, server.URL, begin)
}

// everyMetricIsUsed compares the names in the kit with those that were scraped.
func everyMetricIsUsed(t *testing.T, base string, begin time.Time) {
	scraped, err := query(t.Context(), base, `group by (__name__) ({__name__=~"kured_.*"})`, begin, false)
	if err != nil || len(scraped) == 0 {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range scraped {
		names[s.Metric["__name__"]] = false
	}
	word := regexp.MustCompile(`(?:^|[^:\w])(kured_\w+)\b`)
	for name, expr := range queries(t) {
		for _, m := range word.FindAllStringSubmatch(expr, -1) {
			if _, ok := names[m[1]]; !ok {
				t.Errorf("%s: there is no metric %s", name, m[1])
			}
			names[m[1]] = true
		}
	}
	unused := []string{"kured_cycle_phase_seconds_count", "kured_cycle_phase_seconds_sum"} // for people's own queries
	for name, used := range names {
		if !used && !slices.Contains(unused, name) {
			t.Errorf("%s is used nowhere", name)
		}
	}
}

// ruleFiles are those of the kit, evaluated more often.
func ruleFiles(t *testing.T) map[string]string {
	files := map[string]string{}
	for _, name := range []string{RecordingFile, AlertsFile} {
		text, err := File(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
	}
	return files
}

func configuration(good, bad []*machine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: 400ms, scrape_timeout: 400ms, evaluation_interval: 400ms}\n")
	fmt.Fprintf(&b, "rule_files: [%s, %s]\nscrape_configs:\n- job_name: kured\n  static_configs:\n", RecordingFile, AlertsFile)
	for cluster, machines := range map[string][]*machine{"good": good, "bad": bad} {
		for _, m := range machines {
			fmt.Fprintf(&b, "  - {targets: [%q], labels: {cluster: %s, instance: %s}}\n", m.url, cluster, m.name)
		}
	}
	return b.String()
}

// series is one of a result, with at least one value that is a number.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  []any             `json:"value"`
	Values [][]any           `json:"values"`
}

// query asks for the present values, or for those of each second since begin,
// and leaves out the series that have no number.
func query(ctx context.Context, base, expr string, begin time.Time, instant bool) ([]series, error) {
	form := url.Values{"query": {expr}}
	path := "/api/v1/query"
	if !instant {
		path = "/api/v1/query_range"
		form.Set("start", fmt.Sprint(begin.Unix()))
		form.Set("end", fmt.Sprint(time.Now().Unix()+1))
		form.Set("step", "1")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Status string
		Error  string
		Data   struct{ Result []series }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return slices.DeleteFunc(answer.Data.Result, func(s series) bool {
		values := s.Values
		if s.Value != nil {
			values = append(values, s.Value)
		}
		return !slices.ContainsFunc(values, func(v []any) bool {
			text, ok := v[1].(string)
			number, err := strconv.ParseFloat(text, 64)
			return ok && err == nil && !math.IsNaN(number)
		})
	}), nil
}
