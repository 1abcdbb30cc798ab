package metrics

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/ledger"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/prometheus"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	silent = slog.New(slog.DiscardHandler)
)

// scrape is the answer to one scrape.
func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	return strings.ReplaceAll(w.Body.String(), runtime.Version(), "GOVERSION")
}

// node is one whose past is in a ledger and that has talked to the API server.
type node struct {
	*Metrics
	t        *testing.T
	ledger   *ledger.Ledger
	requests kube.Requests
	now      time.Time
}

func newNode(t *testing.T) *node {
	n := &node{t: t, now: noon}
	n.ledger = ledger.New(filepath.Join(t.TempDir(), ledger.FileName), n.requests.Evictions)
	n.Metrics = New(Options{
		Ledger: n.ledger, Requests: n.requests.Each, Version: "2.0.0", Log: silent,
		Credential: func() (kube.Validity, error) {
			return kube.Validity{Kind: kube.ClientCertificate, Begins: noon.AddDate(0, -1, 0), Ends: noon.AddDate(0, 1, 0)}, nil
		},
	})
	n.Reloaded(noon.Add(-time.Hour), true)
	return n
}

// become publishes a status, a while after the one before.
func (n *node) become(after time.Duration, s status.Status) {
	n.t.Helper()
	n.now = n.now.Add(after)
	s.Node, s.Boot, s.Since = "node-a", cmp.Or(s.Boot, "b1"), n.now
	n.Publish(s)
	if err := n.ledger.Follow(n.now, s); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) wanted() *status.Demand {
	return &status.Demand{Since: noon.Add(-24 * time.Hour), Path: "/run/reboot-required"}
}

func (n *node) idle() { n.become(0, status.Status{Phase: status.Idle}) }

func (n *node) blocked() {
	n.become(0, status.Status{
		Phase: status.Blocked, Reason: status.OutsideWindow, Detail: "the window opens at 02:00", Demand: n.wanted(), Cycle: "b1",
		Gates: []status.GateState{{Gate: status.GateSentinel, Open: true}, {Gate: status.GateBudget, Open: true}, {Gate: status.GateSchedule, Reason: status.OutsideWindow}},
	})
}

func (n *node) draining() {
	var open []status.GateState
	for _, g := range status.Gates() {
		open = append(open, status.GateState{Gate: g, Open: true})
	}
	enforced := true
	n.become(time.Minute, status.Status{
		Phase: status.Queued, Reason: status.LockFull, Demand: n.wanted(), Cycle: "b1", Gates: open,
		Queue: &status.Queue{
			Holders: []string{"node-b", "node-c"}, Limit: 2, Place: 1, Waiting: 3, Unavailable: []string{"node-z"}, Enforced: &enforced,
			Ahead: []status.Holder{{Node: "node-b", Phase: status.Draining, Since: noon.Add(-time.Minute)}, {Node: "node-c", Phase: status.Returning, Since: noon.Add(-10 * time.Minute)}},
		},
	})
	held := n.now.Add(12 * time.Second)
	n.become(12*time.Second, status.Status{Phase: status.Locked, Demand: n.wanted(), Cycle: "b1", Gates: open, Held: &held})
	n.requests.Observe("get", 200)
	n.requests.Observe("get", 0)
	n.requests.Observe("patch", 409)
	for range 12 {
		n.requests.Observe("evict", 201)
	}
	n.requests.Observe("evict", 429)
	n.become(800*time.Millisecond, status.Status{
		Phase: status.Draining, Demand: n.wanted(), Cycle: "b1", Gates: open, Held: &held,
		Drain: &status.Drain{Pods: 14, Gone: 12, Held: []string{"shop/web-7: held by PodDisruptionBudget shop/web"}},
	})
}

func (n *node) returned() {
	n.draining()
	n.become(90*time.Second, status.Status{Phase: status.Rebooting, Cycle: "b1"})
	after := &node{t: n.t, now: n.now, ledger: n.ledger}
	after.Metrics = New(Options{Ledger: n.ledger, Version: "2.0.1", Log: silent, Credential: func() (kube.Validity, error) { return kube.Validity{}, errors.New("unreadable") }})
	after.Reloaded(noon.Add(time.Hour), true)
	after.Reloaded(noon.Add(2*time.Hour), false)
	after.become(40*time.Second, status.Status{Phase: status.Returning, Reason: status.AwaitingReturn, Boot: "b2", Cycle: "b1"})
	if err := n.ledger.Verified(after.now, "b2"); err != nil {
		n.t.Fatal(err)
	}
	after.become(20*time.Second, status.Status{Phase: status.Idle, Boot: "b2"})
	after.become(time.Minute, status.Status{Phase: status.Blocked, Reason: status.SentinelUnreadable, Boot: "b2"})
	n.Metrics = after.Metrics
}

// The whole exposition, as docs and monitoring rely on it, in the form that
// Prometheus' own checker accepts.
func TestGolden(t *testing.T) {
	promtool, err := prometheus.Promtool(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for name, reach := range map[string]func(*node){
		"idle": (*node).idle, "blocked": (*node).blocked, "draining": (*node).draining, "returned": (*node).returned,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			reach(n)
			got := scrape(t, n)
			path := filepath.Join("testdata", name+".prom")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("other than %s (go test ./internal/metrics -update writes it anew):\n%s", path, difference(string(want), got))
			}
			check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
			check.Stdin = strings.NewReader(got)
			if output, err := check.CombinedOutput(); err != nil {
				t.Errorf("promtool: %v\n%s", err, output)
			}
		})
	}
}

func difference(want, got string) string {
	var b strings.Builder
	a, c := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range a {
		if !slices.Contains(c, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range c {
		if !slices.Contains(a, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}

// Whatever the status, the labels are those of the closed sets.
func TestLabelsAreClosed(t *testing.T) {
	n := newNode(t)
	n.returned()
	n.become(0, status.Status{Phase: "dancing", Reason: "tired", Gates: []status.GateState{{Gate: "door"}}})
	values := map[string][]string{}
	for _, match := range regexp.MustCompile(`(?m)^(kured_\w+)\{([a-z]+)="([^"]*)"\}`).FindAllStringSubmatch(scrape(t, n), -1) {
		values[match[1]+" "+match[2]] = append(values[match[1]+" "+match[2]], match[3])
	}
	for metric, want := range map[string][]string{
		"kured_phase phase": words(status.Phases()), "kured_blocked reason": words(status.Reasons()), "kured_gate_open gate": words(status.Gates()),
		"kured_cycles_total result": words(ledger.Results()), "kured_cycle_phase_seconds_count phase": words(ledger.Phases()),
	} {
		got := values[metric]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", metric, got, want)
		}
	}
}

func words[W ~string](list []W) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

// A ledger that cannot be read takes its own metrics away and no other.
func TestLedgerUnreadable(t *testing.T) {
	n := newNode(t)
	path := filepath.Join(t.TempDir(), ledger.FileName)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.options.Ledger = ledger.New(path, nil)
	if got := scrape(t, n); strings.Contains(got, "kured_cycles_total") || !strings.Contains(got, "kured_phase") {
		t.Error(got)
	}
}

// Nothing is made for scrapes that nobody asks for, and text of others cannot break them.
func TestScrapes(t *testing.T) {
	n := newNode(t)
	n.Publish(status.Status{Node: "a\xff\"\n", Phase: status.Idle})
	if got := scrape(t, n); !strings.Contains(got, `kured_reboot_required{node="a?\"\n"} 0`) {
		t.Error(got)
	}
	for path, want := range map[string]int{"/": 200, "/metrics": 200, "/debug/pprof/": 404, "/metrics/": 404} {
		w := httptest.NewRecorder()
		n.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequest("POST", "/metrics", bytes.NewReader(nil)))
	if body, err := io.ReadAll(w.Body); err != nil || w.Code != 405 {
		t.Errorf("POST: %d %s", w.Code, body)
	}
}

func BenchmarkScrape(b *testing.B) {
	n := New(Options{Ledger: ledger.New(filepath.Join(b.TempDir(), ledger.FileName), nil), Log: silent})
	b.ReportAllocs()
	for b.Loop() {
		n.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	}
}
