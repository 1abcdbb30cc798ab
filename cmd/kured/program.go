package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/ledger"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/metrics"
	"github.com/kured-host/kured/internal/notify"
	"github.com/kured-host/kured/internal/schedule"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// program is a house with a configuration: it joins the rooms. What the
// configuration says becomes the parts of the cycle. Making one asks nobody.
type program struct {
	*house
	cfg      config.Config
	log      *slog.Logger
	login    logind.Manager
	notifier *notify.Notifier

	schedule schedule.Schedule
	servers  []gate.Gate    // of alerts
	proofs   []alert.Proof  // of the way back
	silences []silenceTerms // of our alerts
}

// program checks what only the rooms themselves can check.
func (h *house) program(cfg config.Config) (*program, error) {
	log, err := h.logger(cfg.Log)
	if err != nil {
		return nil, err
	}
	p := &program{house: h, cfg: cfg, log: log, login: logind.Manager{Address: h.busAddress(), ScheduleFile: h.scheduleFile(), KexecFile: "/sys/kernel/kexec_loaded"}}
	if err := errors.Join(p.planSchedule(), p.planAlerts(), p.planNotices(), metrics.Check(p.metrics())); err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return p, nil
}

func (p *program) planSchedule() (err error) {
	p.schedule, err = p.cfg.Calendar()
	return err
}

// silenceTerms is a silence whose node is not known yet.
type silenceTerms struct {
	server   alert.Server
	matchers []string
	lasts    time.Duration
}

// alertmanagerSettled is how long an Alertmanager has to be up until what it
// does not know of is believed not to be: our own drain may have moved it.
const alertmanagerSettled = 2 * time.Minute

func (p *program) planAlerts() error {
	for i, c := range p.cfg.Prometheus {
		server, filter, err := alertSource(c.URLs, c.HTTPConfigFile, c.Timeout, c.Filter)
		if err != nil {
			return fmt.Errorf("prometheus[%d]: %w", i+1, err)
		}
		if c.Alerts != string(alert.None) || len(c.Queries) > 0 {
			p.servers = append(p.servers, gate.Prometheus{
				Server: server, States: alert.States(c.Alerts), Filter: filter, Queries: c.Queries, UntilDrain: c.UntilDrain,
			})
		}
		if len(c.ReturnQueries) > 0 {
			p.proofs = append(p.proofs, alert.Proof{Server: server, Queries: c.ReturnQueries})
		}
	}
	for i, c := range p.cfg.Alertmanager {
		server, filter, err := alertSource(c.URLs, c.HTTPConfigFile, c.Timeout, c.Filter)
		if err != nil {
			return fmt.Errorf("alertmanager[%d]: %w", i+1, err)
		}
		if c.Alerts {
			p.servers = append(p.servers, gate.Alertmanager{Server: server, Filter: filter, Settled: alertmanagerSettled, UntilDrain: c.UntilDrain})
		}
		if len(c.Silence) > 0 {
			terms := silenceTerms{server, c.Silence, time.Duration(c.SilenceFor)}
			if _, err := terms.of("node"); err != nil {
				return fmt.Errorf("alertmanager[%d]: silence: %w", i+1, err)
			}
			p.silences = append(p.silences, terms)
		}
	}
	return nil
}

// alertSource is what a Prometheus and an Alertmanager have in common.
func alertSource(urls []string, httpConfigFile string, timeout config.Duration, f config.Filter) (alert.Server, alert.Filter, error) {
	server, err := alert.NewServer(urls, httpConfigFile, time.Duration(timeout))
	if err != nil {
		return alert.Server{}, alert.Filter{}, err
	}
	filter, err := alert.NewFilter(f.IgnoreNames, f.OnlyNames, f.Ignore, f.Only)
	return server, filter, err
}

func (t silenceTerms) of(node string) (alert.Silence, error) {
	return alert.NewSilence(t.server, node, t.matchers, t.lasts)
}

func (p *program) planNotices() (err error) {
	var targets []notify.Target
	for _, c := range p.cfg.Notify {
		t := notify.Target{URL: c.URL, URLFile: c.URLFile}
		for _, e := range c.Events {
			t.Events = append(t.Events, status.Event(e))
		}
		for e, text := range c.Templates {
			if t.Templates == nil {
				t.Templates = map[status.Event]string{}
			}
			t.Templates[status.Event(e)] = text
		}
		targets = append(targets, t)
	}
	p.notifier, err = notify.New(targets, p.log)
	return err
}

// parts are those of the cycle. demand is nil in the modes that ask for none.
func (p *program) parts(demand cycle.Demand) cycle.Parts {
	return cycle.Parts{
		Dial:      p.dial,
		Host:      host{p.login, logind.Method(p.cfg.Reboot.Method), p.cfg.Reboot.Message, p.log},
		Announcer: announcer{p.login, p.cfg.Reboot.Message},
		Demand:    demand,
		Memory:    sentinel.Memory{Path: filepath.Join(p.runtimeDir(), "demand.json")},
		Gates:     p.nearGates(),
		Budget:    p.budget(),
		Hooks: hook.Runner{
			Address: p.busAddress(), Directory: p.hooksDir(), EnvDirectory: p.runtimeDir(), Timeout: time.Duration(p.cfg.Hooks.Timeout),
		},
		Settings: p.settings(),
		Tell: func(o status.Occurrence) {
			p.record(p.ledger.Tell(o))
			p.notifier.Tell(o)
		},
		Flush: p.notifier.Flush,
		Log:   p.log,
	}
}

// follow keeps the ledger. It never holds up the cycle.
func (p *program) follow(s status.Status) { p.record(p.ledger.Follow(time.Now(), s)) }

// record tells once that the ledger cannot be kept, and each time that it was
// begun anew.
func (p *program) record(err error) {
	if err == nil || !errors.Is(err, ledger.ErrDamaged) && p.ledgered.Swap(true) {
		return
	}
	p.log.Warn("what the metrics tell across reboots is incomplete: " + err.Error())
}

// metrics is where they are shown.
func (p *program) metrics() metrics.Config {
	c := p.cfg.Metrics
	return metrics.Config{Listen: c.Listen, WebConfigFile: c.WebConfigFile, Textfile: c.Textfile}
}

// nearGates are the gates of this machine, what costs least first.
func (p *program) nearGates() gate.Set {
	return gate.Set{Recheck: p.recheck(), Gates: []gate.Gate{
		gate.Sentinel{Paths: p.cfg.Sentinel.Paths},
		p.budget(),
		gate.Schedule{Schedule: p.schedule, Now: time.Now},
		gate.Uptime{Min: time.Duration(p.cfg.Reboot.MinUptime), Up: gate.SinceBoot, Now: time.Now},
		gate.Pause{Path: p.pauseFile(), Now: time.Now},
		gate.Inhibitors{Login: p.login, Announced: p.cfg.Reboot.Delay > 0},
	}}
}

func (p *program) budget() gate.Budget {
	return gate.Budget{Path: filepath.Join(p.stateDir(), "reboots.json"), Max: p.cfg.Reboot.MaxPerDay, Now: time.Now}
}

// watched is what asks for a reboot.
func (p *program) watched() (paths []string, settle time.Duration) {
	return p.cfg.Sentinel.Paths, time.Duration(p.cfg.Sentinel.Settle)
}

func (p *program) recheck() time.Duration { return time.Duration(p.cfg.Gates.Recheck) }

// settings are the numbers of the cycle.
func (p *program) settings() cycle.Settings {
	c := p.cfg
	s := cycle.Settings{
		Lock:          c.Lock.Namespace + "/" + c.Lock.Name,
		ConfirmWithin: time.Duration(c.Reboot.ConfirmWithin),
		Patience:      time.Duration(c.Gates.InhibitorPatience),
		BackOff:       time.Duration(c.Retry.Initial),
		BackOffMax:    time.Duration(c.Retry.Max),
		Overdue:       time.Duration(c.Reboot.Overdue),
		WayBack:       p.returnsWithin(),
		TooLong:       time.Duration(c.Gates.TooLong),
		Preflight:     map[string]cycle.PreflightMode{"off": cycle.PreflightOff, "warn": cycle.PreflightWarn, "block": cycle.PreflightBlock}[c.Drain.Preflight],
		DryRun:        c.Reboot.DryRun,
		Rehearse:      p.dressed(),
		WaitingTaint:  c.Node.WaitingTaint,
		Conditions:    c.Node.Conditions,
		Drain: drain.Options{
			Timeout:           time.Duration(c.Drain.Timeout),
			GracePeriod:       time.Duration(c.Drain.GracePeriod),
			PodSelector:       c.Drain.PodSelector,
			SkipWaitForDelete: time.Duration(c.Drain.SkipWaitForDelete),
			EmptyDir:          drain.PodPolicy(c.Drain.EmptyDir),
			NakedPods:         drain.PodPolicy(c.Drain.NakedPods),
			Order:             drain.Order(c.Drain.Order),
			OnTimeout:         drain.TimeoutPolicy(c.Drain.OnTimeout),
		},
		HoldOnTimeout: c.Drain.OnTimeout == string(drain.Hold),
		DelayDrain:    time.Duration(c.Drain.DelayBefore),
		Volumes:       time.Duration(c.Drain.WaitForVolumes),
		DelayReboot:   time.Duration(c.Drain.DelayAfter),
		Announce:      time.Duration(c.Reboot.Delay),
		ReleaseDelay:  time.Duration(c.Return.ReleaseDelay),
		SilenceUntil:  p.booted.Add(time.Duration(c.Reboot.Overdue)),
	}
	if after := time.Duration(c.Return.GiveUpAfter); after > 0 && !p.booted.IsZero() {
		s.GiveUpAt = p.booted.Add(after)
	}
	return s
}

// dressed reports whether labels or annotations are put on the Node.
func (p *program) dressed() bool {
	n := p.cfg.Node
	return n.ExcludeFromLoadBalancers || len(n.LabelsBefore)+len(n.LabelsAfter)+len(n.AnnotationsBefore)+len(n.AnnotationsAfter) > 0
}

// returnsWithin is how long the way back takes at most where nothing is in the
// way of it: what it waits for on purpose.
func (p *program) returnsWithin() time.Duration {
	return time.Duration(p.cfg.Return.Settle) + time.Duration(p.cfg.Return.ReleaseDelay) + 2*time.Duration(p.cfg.Hooks.Timeout)
}

// host is logind with the configured way to reboot.
type host struct {
	logind.Manager
	method  logind.Method
	message string
	log     *slog.Logger
}

func (h host) Reboot(ctx context.Context, confirmWithin time.Duration) error {
	if other := (*logind.ScheduledError)(nil); errors.As(h.MayReboot(ctx), &other) {
		h.log.Warn("this reboot comes instead of another: " + other.Error())
	}
	if h.message != "" {
		if err := h.Tell(ctx, h.message); err != nil {
			h.log.Warn("those who are logged in are not told why: " + err.Error())
		}
	}
	return h.RebootBy(ctx, h.method, confirmWithin)
}

// announcer is logind with the configured message.
type announcer struct {
	logind.Manager
	message string
}

func (a announcer) Announce(ctx context.Context, at time.Time) error {
	return a.Manager.Announce(ctx, at, a.message)
}

func (a announcer) AwaitAnnounced(ctx context.Context, at time.Time) error {
	return a.Manager.AwaitAnnounced(ctx, at, a.message)
}
