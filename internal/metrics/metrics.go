// Package metrics shows what kured knows of itself to Prometheus: over HTTP, on
// loopback by default, with TLS and passwords by a file of Prometheus' exporter
// toolkit, or as a file for node_exporter.
//
// Everything is made at the scrape from the one status, the ledger and a few
// counters; a scrape makes no API request. Nothing is made before somebody
// scrapes, and while nobody does there is no timer and no connection.
package metrics

import (
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/ledger"
	"github.com/kured-host/kured/internal/status"
)

// Options are where the figures come from. All functions may be called
// concurrently and must not block.
type Options struct {
	Ledger     *ledger.Ledger                                // nil: nothing of the past is shown
	Requests   func(yield func(verb, code string, n uint64)) // to the API server; nil: none
	Credential func() (kube.Validity, error)                 // how long that of the kubeconfig is good; nil: not shown
	Version    string                                        // of kured
	Log        *slog.Logger
}

// Metrics are those of one daemon. Its methods may be called concurrently,
// except for Run, which is called once.
type Metrics struct {
	options Options
	configs chan Config   // the newest that Run has not seen
	changed chan struct{} // since the textfile was written

	// In tests: from systemd, told each address that is listened on.
	sockets   func() []*os.File
	listening func(address string)

	gather func() *prometheus.Registry // for scrapes; made when it is asked for first

	mu             sync.Mutex
	now            status.Status
	phaseSince     time.Time
	queue          *status.Queue // as last seen since the node was idle
	sentinelErrors uint64
	scrapes        uint64
	reloaded       bool // well, the last time
	reloadedAt     time.Time
}

// New makes the metrics of a daemon that has just read its configuration.
func New(o Options) *Metrics {
	now := time.Now()
	m := &Metrics{
		options: o, configs: make(chan Config, 1), changed: make(chan struct{}, 1),
		sockets:   sync.OnceValue(func() []*os.File { return activation.Files(true) }),
		listening: func(string) {},
		now:       status.Status{Phase: status.Starting, Since: now}, phaseSince: now,
		reloaded: true, reloadedAt: now,
	}
	m.gather = sync.OnceValue(func() *prometheus.Registry { return m.registry(false) })
	return m
}

// registry gathers the metrics for scrapes, or for a file, which is read long
// after it was written. It is not the default one: that has collectors of the Go
// runtime and the process.
func (m *Metrics) registry(file bool) *prometheus.Registry {
	c := newCollector(m)
	c.file = file
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	return r
}

// Publish is told each change of the status. It never blocks.
func (m *Metrics) Publish(s status.Status) {
	m.mu.Lock()
	if s.Phase != m.now.Phase {
		m.phaseSince = s.Since
	}
	if s.Reason == status.SentinelUnreadable && m.now.Reason != s.Reason {
		m.sentinelErrors++
	}
	switch {
	case s.Queue != nil:
		m.queue = s.Queue
	case s.Phase == status.Idle: // nobody looks at the lock any more
		m.queue = nil
	}
	m.now = s
	m.mu.Unlock()
	m.touch()
}

// Reloaded is told each time the configuration was read again, or could not be.
func (m *Metrics) Reloaded(now time.Time, well bool) {
	m.mu.Lock()
	if m.reloaded = well; well {
		m.reloadedAt = now
	}
	m.mu.Unlock()
	m.touch()
}

func (m *Metrics) touch() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// ServeHTTP answers /metrics, and says at / where they are.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.Path == "/metrics":
		m.scrape(w, r)
	case r.URL.Path == "/":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("kured: the metrics are at /metrics\n")) // a client that is gone needs no answer
	default:
		http.NotFound(w, r)
	}
}
