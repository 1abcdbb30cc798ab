package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// machine is a node's hardware, kernel, systemd and kubelet.
type machine struct {
	actor
	w    *World
	i    int
	name string

	up      bool
	boot    int
	gone    bool // for good, and its Node is deleted
	lost    bool // does not come back before somebody looks after it
	going   bool // logind has accepted a reboot
	ours    bool // the shutdown that runs is kured's
	healthy bool // boot-complete.target is reached
	cut     bool // from the API

	cfg  Config        // kured.toml
	skew time.Duration // of the wall clock

	wanted      bool
	wantedAt    time.Time
	changedAt   time.Time // when the sentinel or a gate changed last
	sentinelErr error
	standing    sentinel.Standing // what the daemon keeps of it in /run
	stays       int               // boots that the sentinel survives
	gate        gate.Verdict
	gateSlow    time.Duration
	shutSince   time.Time // since when the gates are not open; zero: open
	watchers    []*gateWatcher
	drainFor    time.Duration
	drainFails  bool
	logind      rebootMode
	busGone     bool
	spent       int
	sent        int // requests, of all its processes

	daemon, oneshot *process

	learnedAt  time.Time // the daemon looked at our Node last
	releasedAt time.Time // an admin removed our entry last
	replacedAt time.Time // our Node was deleted last
}

// rebootMode is what logind makes of a call of Reboot.
type rebootMode string

const (
	rebootGoes        rebootMode = "goes down"
	rebootRefused     rebootMode = "refuses"
	rebootUnconfirmed rebootMode = "does nothing"
	rebootSilent      rebootMode = "goes down, no answer"
	rebootMute        rebootMode = "no answer, stays up"
	rebootCancelled   rebootMode = "accepts, then it is cancelled"
)

func newMachine(w *World, i int, c Config) *machine {
	m := &machine{
		w: w, i: i, name: fmt.Sprintf("node-%c", 'a'+i), cfg: c, skew: c.Skew, up: true, healthy: true, boot: 1,
		gate: gate.Verdict{Open: true}, drainFor: time.Minute, logind: rebootGoes,
		actor: w.as(int64(1 + 3*i)),
	}
	return m
}

func (m *machine) bootID() string { return fmt.Sprintf("%031x%x", m.boot, m.i) }

func (m *machine) as(part int64) actor { return m.w.as(m.class + part) }

// startDaemon starts kured.service after d. mu is held.
func (m *machine) startDaemon(d time.Duration) {
	w, boot := m.w, m.boot
	w.at(m.as(1), d, func() {
		if !m.up || m.boot != boot || m.gone || w.over {
			return
		}
		if m.daemon != nil && !m.daemon.dead && !m.daemon.ended {
			if m.daemon.ctx.Err() != nil { // it takes its time to end
				m.startDaemon(time.Second)
			}
			return
		}
		w.note(m.name, "kured starts")
		m.daemon = w.begin(m, m.as(1), cycle.Run, 0, nil)
	})
}

// startOneshot starts kured-uncordon.service after d, and again until it succeeds. mu is held.
func (m *machine) startOneshot(d time.Duration) {
	w, boot := m.w, m.boot
	again := func() bool { return m.up && m.boot == boot && !m.gone && !w.over }
	w.at(m.as(2), d, func() {
		if !again() || m.oneshot != nil && !m.oneshot.dead && !m.oneshot.ended {
			return
		}
		if !m.healthy {
			m.startOneshot(30 * time.Second) // boot-complete.target is not reached
			return
		}
		m.oneshot = w.begin(m, m.as(2), cycle.Return, 2*time.Minute, func(err error) {
			if err != nil && again() {
				m.startOneshot(30 * time.Second)
			}
		})
	})
}

// crash ends a process and lets systemd start it again. mu is held.
func (w *World) crash(p *process, why string) {
	if p.dead || p.ended {
		return
	}
	w.count.Crashes++
	p.kill(why)
	d := p.between(forRestart, time.Second, 30*time.Second)
	if p.mode == cycle.Run {
		p.m.startDaemon(d)
	} else {
		p.m.startOneshot(30 * time.Second)
	}
}

// restart is systemctl restart kured. mu is held.
func (m *machine) restart() {
	if d := m.daemon; d != nil && !d.dead && !d.ended {
		m.w.note(m.name, "kured is stopped")
		d.cancel()
		m.startDaemon(m.between(forRestart, 4*time.Second, 20*time.Second))
	}
}

// goDown begins a shutdown that takes d. mu is held.
func (m *machine) goDown(d time.Duration, cancelled bool) {
	m.going = true
	boot := m.boot
	m.w.at(m.actor, d, func() {
		if !m.up || m.boot != boot || !m.going {
			return
		}
		if cancelled {
			m.w.note(m.name, "the shutdown is cancelled")
			m.going = false
			return
		}
		m.w.note(m.name, "shuts down")
		for _, p := range []*process{m.daemon, m.oneshot} {
			if p != nil && !p.ended {
				p.cancel()
			}
		}
		m.w.at(m.actor, 4*time.Second, func() {
			if m.up && m.boot == boot {
				m.w.judgeShutdown(m)
				m.powerOff(m.between(forBoot, 20*time.Second, 5*time.Minute))
			}
		})
	})
}

// powerOff is the end of a boot; the next one comes after d, or never if the machine is lost. mu is held.
func (m *machine) powerOff(d time.Duration) {
	if !m.up {
		return
	}
	w := m.w
	m.up, m.going, m.busGone = false, false, false
	for _, p := range []*process{m.daemon, m.oneshot} {
		p.kill("by the end of the boot")
	}
	w.note(m.name, "is off")
	boot := m.boot
	w.at(m.actor, 40*time.Second, func() {
		if n := w.nodes[m.name]; n != nil && (!m.up || m.boot != boot) && n.bootID != m.bootID() || n != nil && !m.up {
			n.ready = false
			n.rv++
			w.nodesChanged()
		}
	})
	if !m.lost {
		w.at(m.actor, d, m.bootUp)
	}
}

// bootUp is what follows the firmware. mu is held.
func (m *machine) bootUp() {
	if m.up || m.gone || m.w.over {
		return
	}
	w := m.w
	m.up, m.lost, m.standing = true, false, sentinel.Standing{}
	m.boot++
	w.count.Boots++
	if m.stays > 0 {
		m.stays--
	} else {
		m.wanted = false
	}
	m.shut()
	w.note(m.name, "boots as %s", m.bootID())
	m.startDaemon(m.between(forBoot, 2*time.Second, 20*time.Second))
	m.startOneshot(m.between(forBoot+1000, 5*time.Second, time.Minute))
	boot := m.boot
	w.at(m.actor, m.between(forKubelet, 5*time.Second, 90*time.Second), func() {
		if m.up && m.boot == boot {
			w.register(m)
		}
	})
}

// verdict is what the gates say. mu is held.
func (m *machine) verdict() gate.Verdict {
	switch {
	case m.sentinelErr != nil:
		return gate.Verdict{Reason: status.SentinelUnreadable, Detail: m.sentinelErr.Error()}
	case !m.wanted:
		return gate.Verdict{Reason: status.SentinelGone, Detail: "no sentinel file any more"}
	}
	return m.gate
}

// shut notes since when the gates are not open. mu is held.
func (m *machine) shut() {
	open := m.verdict().Open && m.gateSlow < 20*time.Second
	switch {
	case open:
		m.shutSince = time.Time{}
	case m.shutSince.IsZero():
		m.shutSince = time.Now()
	}
}

// sentinelChanged tells the daemon. mu is held.
func (m *machine) sentinelChanged() {
	m.shut()
	m.changedAt = time.Now()
	if p := m.daemon; p != nil {
		select {
		case p.demand <- struct{}{}:
		default:
		}
	}
}

// gateChanged tells the daemon. mu is held.
func (m *machine) gateChanged() {
	m.shut()
	m.changedAt = time.Now()
	for _, g := range m.watchers {
		g.signal()
	}
}

// want makes the sentinel appear or vanish. mu is held.
func (m *machine) want(wanted bool) {
	if wanted == m.wanted {
		return
	}
	m.wanted, m.wantedAt = wanted, time.Now()
	m.w.note(m.name, "sentinel: %v", wanted)
	m.sentinelChanged()
}

// setGate opens or closes what is no sentinel. mu is held.
func (m *machine) setGate(v gate.Verdict) {
	m.gate = v
	if v.Open {
		m.w.note(m.name, "gates open")
	} else {
		m.w.note(m.name, "gate closed: %s, passing: %v", v.Reason, v.Passing)
	}
	m.gateChanged()
}

var errSentinel = errors.New("permission denied")

func (m *machine) hideSentinel(hidden bool) {
	m.sentinelErr = nil
	if hidden {
		m.sentinelErr = errSentinel
	}
	m.w.note(m.name, "sentinel unreadable: %v", hidden)
	m.sentinelChanged()
}
