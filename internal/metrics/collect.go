package metrics

import (
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kured-host/kured/internal/ledger"
	"github.com/kured-host/kured/internal/status"
)

// scrape answers one scrape. It is not compressed: the compressor would keep a
// megabyte for what is sent over loopback.
func (m *Metrics) scrape(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(m.gather(), promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(w, r)
	m.mu.Lock()
	m.scrapes++
	enough := m.scrapes%collectEvery == 0 && m.now.Phase == status.Idle
	m.mu.Unlock()
	if enough {
		debug.FreeOSMemory()
	}
}

// collectEvery is after how many scrapes of an idle node their memory is given
// back. The daemon collects no garbage at rest, and a scrape leaves 200 KB.
const collectEvery = 8

// collector makes the metrics at each scrape.
type collector struct {
	m    *Metrics
	file bool // for a file: without what becomes wrong while nothing that we are told of changes

	required, wantedSince, phase, phaseSince, blocked, gate *prometheus.Desc
	holders, limit, waiters, place, unavailable, enforced   *prometheus.Desc
	heldSince, oldestHolder                                 *prometheus.Desc
	podsHeld, drainPods, drainGone                          *prometheus.Desc
	durations, cycles, evictions, lastVerified              *prometheus.Desc
	requests, sentinelErrors, reloaded, reloadedAt, build   *prometheus.Desc
	issued, expiry                                          *prometheus.Desc
}

func newCollector(m *Metrics) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("kured_"+name, help, labels, nil)
	}
	return &collector{
		m: m,

		required:    desc("reboot_required", "Whether a reboot is required (1) or not (0).", "node"),
		wantedSince: desc("wanted_since_timestamp_seconds", "Since when a reboot is wanted, 0 if it is not."),
		phase:       desc("phase", "The phase of the cycle that the node is in (1); 0 for all others.", "phase"),
		phaseSince:  desc("phase_since_timestamp_seconds", "Since when the node is in its phase."),
		blocked:     desc("blocked", "What is in the way now (1); 0 for all other reasons.", "reason"),
		gate:        desc("gate_open", "Whether the gate was open (1) or closed (0) when it was asked last; NaN if it was not asked.", "gate"),

		holders:      desc("lock_holders", "Nodes that hold the lock, as this node last saw it."),
		limit:        desc("lock_limit", "Nodes that may hold the lock at once, as this node last saw it."),
		waiters:      desc("lock_waiters", "Nodes in the waiting room of the lock, as this node last saw it."),
		place:        desc("lock_place", "Place of this node in the waiting room, from 1; 0 if it is not in it."),
		unavailable:  desc("lock_unavailable_nodes", "Nodes that are down and use up the limit of the lock, as this node last saw it."),
		heldSince:    desc("lock_held_since_timestamp_seconds", "Since when this node holds the lock, 0 if it does not."),
		oldestHolder: desc("lock_oldest_holder_timestamp_seconds", "Since when the node holds the lock that holds it longest, as this node last saw it."),
		enforced:     desc("lock_enforced", "Whether the API server keeps the rules of the lock itself (1) or not (0)."),

		podsHeld:  desc("pods_held", "Pods that hold up the drain."),
		drainPods: desc("drain_pods", "Pods that leave in the drain that goes on."),
		drainGone: desc("drain_pods_gone", "Pods that have left in the drain that goes on."),

		durations:    desc("cycle_phase_seconds", "How long the phases of the cycles lasted.", "phase"),
		cycles:       desc("cycles_total", "Cycles by the way they ended.", "result"),
		evictions:    desc("evictions_total", "Evictions by the status code of the answer; dry runs are not counted.", "code"),
		lastVerified: desc("last_verified_reboot_timestamp_seconds", "When the node was proved to be well after a reboot, the last time."),

		requests:       desc("api_requests_total", "Requests to the API server by verb and status code; error if there was no answer.", "verb", "code"),
		sentinelErrors: desc("sentinel_errors_total", "How often a sentinel became unreadable."),
		reloaded:       desc("config_last_reload_successful", "Whether the configuration could be read the last time (1) or not (0)."),
		reloadedAt:     desc("config_last_reload_success_timestamp_seconds", "When the configuration was read that is in force."),
		issued:         desc("credential_issued_timestamp_seconds", "When the certificate or token of the kubeconfig was issued.", "kind"),
		expiry:         desc("credential_expiry_timestamp_seconds", "When the certificate or token of the kubeconfig expires.", "kind"),
		build:          desc("build_info", "Version of kured and of Go; always 1.", "version", "goversion"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.required, c.wantedSince, c.phase, c.phaseSince, c.blocked, c.gate,
		c.holders, c.limit, c.waiters, c.place, c.unavailable, c.enforced, c.heldSince, c.oldestHolder,
		c.podsHeld, c.drainPods, c.drainGone, c.durations, c.cycles, c.evictions, c.lastVerified,
		c.requests, c.sentinelErrors, c.reloaded, c.reloadedAt, c.issued, c.expiry, c.build,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	to := sink{ch}
	m := c.m
	m.mu.Lock()
	now, queue, since := m.now, m.queue, m.phaseSince
	sentinelErrors, reloaded, reloadedAt := m.sentinelErrors, m.reloaded, m.reloadedAt
	m.mu.Unlock()

	c.collectStatus(to, now, since)
	c.collectLock(to, now, queue)
	c.collectPast(to)
	if m.options.Requests != nil {
		m.options.Requests(func(verb, code string, n uint64) { to.counter(c.requests, float64(n), verb, code) })
	}
	to.counter(c.sentinelErrors, float64(sentinelErrors))
	to.gauge(c.reloaded, truth(reloaded))
	to.gauge(c.reloadedAt, seconds(reloadedAt))
	if m.options.Credential != nil && !c.file { // others renew it
		// One that cannot be read is absent: to connect tells what is wrong with it.
		if valid, err := m.options.Credential(); err == nil && valid.Kind != "" {
			to.gauge(c.issued, seconds(valid.Begins), string(valid.Kind))
			to.gauge(c.expiry, seconds(valid.Ends), string(valid.Kind))
		}
	}
	to.gauge(c.build, 1, printable(m.options.Version), runtime.Version())
}

func (c *collector) collectStatus(to sink, s status.Status, phaseSince time.Time) {
	var wanted time.Time
	if s.Demand != nil {
		wanted = s.Demand.Since
	}
	to.gauge(c.required, truth(s.Demand != nil), printable(s.Node))
	to.gauge(c.wantedSince, seconds(wanted))
	for _, p := range status.Phases() {
		to.gauge(c.phase, truth(p == s.Phase), string(p))
	}
	to.gauge(c.phaseSince, seconds(phaseSince))
	for _, r := range status.Reasons() {
		to.gauge(c.blocked, truth(r == s.Reason), string(r))
	}
	open := map[status.Gate]float64{}
	for _, g := range s.Gates {
		open[g.Gate] = truth(g.Open)
	}
	for _, g := range status.Gates() {
		v, asked := open[g]
		if !asked {
			v = math.NaN()
		}
		to.gauge(c.gate, v, string(g))
	}
	var drain status.Drain
	if s.Drain != nil {
		drain = *s.Drain
	}
	to.gauge(c.podsHeld, float64(len(drain.Held)))
	to.gauge(c.drainPods, float64(drain.Pods))
	to.gauge(c.drainGone, float64(drain.Gone))
}

// collectLock: what is not known is absent.
func (c *collector) collectLock(to sink, s status.Status, last *status.Queue) {
	var held time.Time
	if s.Held != nil {
		held = *s.Held
	}
	to.gauge(c.heldSince, seconds(held))
	if last == nil {
		return
	}
	place := 0
	if s.Queue != nil { // else it is over
		place = s.Queue.Place
	}
	to.gauge(c.place, float64(place))
	to.gauge(c.holders, float64(len(last.Holders)))
	to.gauge(c.waiters, float64(last.Waiting))
	if last.Limit > 0 {
		to.gauge(c.limit, float64(last.Limit))
	}
	if last.Uncounted == "" {
		to.gauge(c.unavailable, float64(len(last.Unavailable)))
	}
	if last.Enforced != nil {
		to.gauge(c.enforced, truth(*last.Enforced))
	}
	oldest := held
	for _, h := range last.Ahead {
		if h.Phase != status.Queued && !h.Since.IsZero() && (oldest.IsZero() || h.Since.Before(oldest)) {
			oldest = h.Since
		}
	}
	if !oldest.IsZero() {
		to.gauge(c.oldestHolder, seconds(oldest))
	}
}

// collectPast shows the ledger. While it cannot be read its metrics are absent:
// a counter that begins anew would lie.
func (c *collector) collectPast(to sink) {
	if c.m.options.Ledger == nil {
		return
	}
	book, err := c.m.options.Ledger.Read()
	if err != nil {
		return
	}
	bounds := ledger.Bounds()
	for _, p := range ledger.Phases() {
		var d ledger.Distribution
		if known := book.Phases[p]; known != nil {
			d = *known
		}
		cumulative := make(map[float64]uint64, len(bounds))
		var n uint64
		for i, bound := range bounds {
			if i < len(d.Buckets) {
				n += d.Buckets[i]
			}
			cumulative[bound] = n
		}
		to.ch <- prometheus.MustNewConstHistogram(c.durations, d.Count(), d.Sum, cumulative, string(p))
	}
	for _, r := range ledger.Results() {
		to.counter(c.cycles, float64(book.Cycles[r]), string(r))
	}
	for _, usual := range []string{"201", "429"} { // so that their rates are right from the first one on
		book.Evictions[usual] += 0
	}
	for code, n := range book.Evictions {
		to.counter(c.evictions, float64(n), code)
	}
	if at := book.LastVerified.At; !at.IsZero() {
		to.gauge(c.lastVerified, seconds(at))
	}
}

// sink is where metrics go. Its labels are always as many as their names.
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds since 1970, with milliseconds; the zero time is 0.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// printable makes s a label value that can be sent: one that is not UTF-8 would
// fail the whole scrape.
func printable(s string) string { return strings.ToValidUTF8(s, "?") }
