//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv/prometheus"
	"github.com/kured-host/kured/packaging/monitoring"
)

// scraped is a real Prometheus with the rules of the kit, which scrapes the nodes.
type scraped struct {
	*story
	url   string
	since time.Time
}

// scrape starts it. The nodes have to answer at port 9788 of their address.
func (s *story) scrape() scraped {
	s.t.Helper()
	var config strings.Builder
	fmt.Fprintf(&config, "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [%s, %s]\n"+
		"scrape_configs:\n- job_name: kured\n  static_configs:\n", monitoring.RecordingFile, monitoring.AlertsFile)
	for _, n := range s.Room.Nodes() {
		fmt.Fprintf(&config, "  - {targets: [%q], labels: {cluster: e2e, instance: %s}}\n", n.IP.String()+":9788", n.Name)
	}
	rules := map[string]string{}
	for _, name := range []string{monitoring.RecordingFile, monitoring.AlertsFile} {
		text, err := monitoring.File(name)
		s.must(err)
		rules[name] = text
	}
	p := scraped{s, prometheus.NewWith(s.t, config.String(), rules).URL, time.Now()}
	s.poll("the nodes to be scraped", func() bool { return len(p.ask("kured_build_info", true)) == len(s.Room.Nodes()) })
	return p
}

// poll waits until something is so.
func (s *story) poll(what string, check func() bool) {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, what)
	defer cancel()
	s.must(nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) { return check(), nil }))
}

// ask returns the result of a query: by node, or else by all labels, the last number of each series that has one. Not
// instant: in the time since it was started.
func (p scraped) ask(query string, instant bool) map[string]float64 {
	p.t.Helper()
	path, form := "/api/v1/query", url.Values{"query": {query}}
	if !instant {
		path += "_range"
		form.Set("start", strconv.FormatInt(p.since.Unix(), 10))
		form.Set("end", strconv.FormatInt(time.Now().Unix()+1, 10))
		form.Set("step", "1")
	}
	response, err := http.PostForm(p.url+path, form)
	p.must(err)
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
	}
	p.must(json.NewDecoder(response.Body).Decode(&answer))
	if answer.Status != "success" {
		p.t.Fatalf("%s: %s", query, answer.Error)
	}
	numbers := map[string]float64{}
	for _, series := range answer.Data.Result {
		name := series.Metric["instance"]
		if _, twice := numbers[name]; twice || name == "" {
			name = fmt.Sprint(series.Metric)
		}
		for _, value := range append(series.Values, series.Value) {
			if len(value) != 2 {
				continue
			}
			text, _ := value[1].(string)
			if number, err := strconv.ParseFloat(text, 64); err == nil && number == number { // is no NaN
				numbers[name] = number
			}
		}
	}
	return numbers
}

// has waits until an expression has a result for a node.
func (p scraped) has(n *nodes.Node, expr string) {
	p.t.Helper()
	p.poll("Prometheus to see "+expr, func() bool {
		_, is := p.ask(expr, true)[n.Name]
		return is
	})
}

// verified is how many reboots the ledger of each node has verified.
func (p scraped) verified() map[string]float64 {
	p.t.Helper()
	return p.ask(`kured_cycles_total{result="verified"}`, true)
}

// rebooted waits until the nodes' own figures tell of one more reboot of each, and of what belongs to it.
func (p scraped) rebooted(before map[string]float64) {
	p.t.Helper()
	want := map[string]float64{}
	for _, n := range p.Room.Nodes() {
		want[n.Name] = before[n.Name] + 1
	}
	var now map[string]float64
	p.poll("one verified reboot more on each node", func() bool {
		now = p.verified()
		return maps.Equal(now, want)
	})
	p.t.Logf("verified reboots: %v, before: %v", now, before)
	for _, expr := range []string{
		fmt.Sprintf("kured_last_verified_reboot_timestamp_seconds >= %d", p.began.Unix()),
		`kured_cycle_phase_seconds_count{phase="draining"} >= 1`,
		`kured_cycle_phase_seconds_count{phase="rebooting"} >= 1`,
		`kured_evictions_total{code="201"} >= 1`,
		"kured_reboot_required == 0",
	} {
		for _, n := range p.Room.Nodes() {
			p.has(n, expr)
		}
	}
}

// dashboard fails the test unless each query of the dashboard has data.
func (p scraped) dashboard() {
	p.t.Helper()
	board, err := monitoring.ReadDashboard()
	p.must(err)
	asked := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expr := monitoring.Substitute(target.Expr, monitoring.Chosen{Cluster: "e2e", Job: "kured", Node: ".*", From: p.since.Unix()})
			// What was there during the roll need not be there at its end.
			if asked++; len(p.ask(expr, false)) == 0 {
				p.t.Errorf("panel %s %s has no data:\n%s", panel.Title, target.RefID, expr)
			}
		}
	}
	p.t.Logf("%d queries of the dashboard have been asked", asked)
}
