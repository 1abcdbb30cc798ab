package sim

import (
	"math/rand/v2"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

type (
	onMachine = func(i int, at time.Duration, do func(m *machine))
	onWorld   = func(at time.Duration, do func(w *World))
	kind      = func(s *Setup, r *rand.Rand, i int, at, last time.Duration, on onMachine, world onWorld)
)

// kinds are the things that can happen during a storm: to machine i, at a
// time, some of them for a while.
var kinds = []kind{
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.want(true) })
	},
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.want(false) })
	},
	func(_ *Setup, r *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		v := gate.Verdict{Reason: status.Inhibited, Detail: "apt", Passing: true}
		if r.IntN(3) == 0 {
			v = gate.Verdict{Reason: status.LogindUnavailable, Detail: "no bus"}
		}
		on(i, at, func(m *machine) { m.setGate(v) })
		on(i, at+last, func(m *machine) { m.setGate(gate.Verdict{Open: true}) })
	},
	func(_ *Setup, r *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		d := []time.Duration{time.Second, 5 * time.Second, 19 * time.Second, 30 * time.Second}[r.IntN(4)]
		slow := func(d time.Duration) func(m *machine) {
			return func(m *machine) {
				m.gateSlow = d
				m.w.note(m.name, "the gates take %s to answer", d)
				m.gateChanged()
			}
		}
		on(i, at, slow(d))
		on(i, at+last, slow(0))
	},
	func(_ *Setup, _ *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.hideSentinel(true) })
		on(i, at+last, func(m *machine) { m.hideSentinel(false) })
	},
	func(_ *Setup, r *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		d := time.Duration(r.Int64N(int64(40 * time.Minute)))
		fails := r.IntN(4) == 0
		on(i, at, func(m *machine) {
			m.drainFor, m.drainFails = d, fails
			m.w.note(m.name, "a drain takes %s, fails: %v", d, fails)
		})
	},
	func(_ *Setup, r *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		modes := []rebootMode{rebootRefused, rebootUnconfirmed, rebootSilent, rebootMute, rebootCancelled, rebootGoes}
		mode := modes[r.IntN(len(modes))]
		on(i, at, func(m *machine) {
			m.logind = mode
			m.w.note(m.name, "logind, when it is asked: %s", mode)
		})
	},
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) {
			if m.daemon != nil {
				m.w.crash(m.daemon, "by somebody")
			}
		})
	},
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.restart() })
	},
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) {
			if m.up {
				m.w.note(m.name, "somebody starts kured-uncordon by hand")
				m.startOneshot(0)
			}
		})
	},
	func(_ *Setup, r *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		lost := r.IntN(3) == 0
		on(i, at, func(m *machine) {
			m.lost = m.lost || lost
			m.w.count.PowerCuts++
			m.w.note(m.name, "power cut")
			m.powerOff(last)
		})
	},
	func(_ *Setup, _ *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.healthy = false; m.w.note(m.name, "a health check fails from now on") })
		on(i, at+last, func(m *machine) { m.healthy = true; m.w.note(m.name, "the health check succeeds again") })
	},
	func(_ *Setup, r *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.w.deleteNode(m) })
		if r.IntN(3) > 0 {
			on(i, at+last/4, func(m *machine) {
				if m.up {
					m.w.register(m)
				}
			})
		}
	},
	func(_ *Setup, _ *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.w.person(m, true) })
		on(i, at+last*2, func(m *machine) { m.w.person(m, false) })
	},
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.w.person(m, false) })
	},
	func(_ *Setup, _ *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.w.release(m, "no reason", m.between(forHost, 0, 10*time.Second)) })
	},
	func(_ *Setup, _ *rand.Rand, _ int, at, last time.Duration, _ onMachine, world onWorld) {
		world(at, func(w *World) { w.outage = true; w.note("api", "is away for all") })
		world(at+last/2, func(w *World) { w.outage = false; w.note("api", "is back") })
	},
	func(_ *Setup, _ *rand.Rand, i int, at, last time.Duration, on onMachine, _ onWorld) {
		on(i, at, func(m *machine) { m.cut = true; m.w.note(m.name, "is cut off from the API") })
		on(i, at+last, func(m *machine) { m.cut = false; m.w.note(m.name, "is not cut off any more") })
	},
	func(_ *Setup, _ *rand.Rand, _ int, at, last time.Duration, _ onMachine, world onWorld) {
		world(at, func(w *World) {
			w.object.missing = true
			for len(w.object.watches) > 0 {
				w.object.end(w.object.watches[0])
			}
			w.note("admin", "the lock object is gone")
		})
		world(at+last/2, func(w *World) { w.object.missing = false; w.note("admin", "the lock object is restored") })
	},
	func(_ *Setup, r *rand.Rand, i int, at, last time.Duration, _ onMachine, world onWorld) {
		keys := []string{"garbage", "holder.", "holder.ghost", "waiter.ghost", "holder.node-" + string(rune('a'+i)), "waiter.node-" + string(rune('a'+i))}
		key, value := keys[r.IntN(len(keys))], []string{"", "{", `{"v":2}`, "(binary)"}[r.IntN(4)]
		world(at, func(w *World) {
			if _, there := w.object.newest().data[key]; !there {
				w.object.put("admin", "garbage", lock.Edit{Set: map[string]string{key: value}})
			}
		})
		world(at+last, func(w *World) { w.sweep(key) })
	},
	func(s *Setup, r *rand.Rand, i int, at, _ time.Duration, on onMachine, _ onWorld) {
		c := s.drawConfig(r)
		on(i, at, func(m *machine) {
			c.ControlPlane, c.Skew = m.cfg.ControlPlane, m.cfg.Skew
			m.cfg = c
			m.w.note(m.name, "kured.toml: %+v", c)
			m.restart()
		})
	},
	func(_ *Setup, r *rand.Rand, _ int, at, last time.Duration, _ onMachine, world onWorld) {
		freeze := func(w *World, d time.Duration) string {
			return w.start.Add(at).Format(time.RFC3339) + "/" + w.start.Add(at+d).Format(time.RFC3339) + " holidays"
		}
		policy := []func(w *World) map[string]string{
			func(*World) map[string]string { return nil },
			func(*World) map[string]string { return map[string]string{"max": "1"} },
			func(*World) map[string]string { return map[string]string{"max": "2"} },
			func(*World) map[string]string { return map[string]string{"max": "50%"} },
			func(*World) map[string]string { return map[string]string{"max": "many"} },
			func(*World) map[string]string { return map[string]string{"paused": "a release is under way"} },
			func(*World) map[string]string { return map[string]string{"waiting_room": "1"} },
			func(w *World) map[string]string { return map[string]string{"freeze": freeze(w, last)} },
		}[r.IntN(8)]
		world(at, func(w *World) { w.setPolicy(policy(w)) })
		if r.IntN(2) == 0 {
			world(at+last, func(w *World) { w.setPolicy(nil) })
		}
	},
}

// sweep is an admin who removes what cannot be read. mu is held.
func (w *World) sweep(key string) {
	for _, d := range w.object.newest().snap.State.Damaged {
		if key == "" || d.Key == key {
			w.object.put("admin", "cannot be read", lock.Edit{Remove: []string{d.Key}})
		}
	}
}

// deleteNode is kubectl delete node. mu is held.
func (w *World) deleteNode(m *machine) {
	if w.nodes[m.name] != nil {
		delete(w.nodes, m.name)
		w.nodesChanged()
		m.replacedAt = time.Now()
		w.note("admin", "deletes the Node %s", m.name)
	}
}

// person cordons or uncordons a Node with kubectl. mu is held.
func (w *World) person(m *machine, cordon bool) {
	n := w.nodes[m.name]
	if n == nil || n.unschedulable == cordon {
		return
	}
	n.unschedulable = cordon
	n.foreign = cordon && n.mark == ""
	n.rv++
	w.nodesChanged()
	verb := "uncordons"
	if cordon {
		verb = "cordons"
	}
	w.note("admin", "%s %s", verb, m.name)
}

// release is kured lock release: a note on the Node, and then the lock. mu is held.
func (w *World) release(m *machine, why string, takes time.Duration) {
	key := "holder." + m.name
	if _, there := w.object.newest().data[key]; !there || w.object.missing {
		return
	}
	boot := w.object.newest().snap.State.Holders[m.name].Boot
	if n := w.nodes[m.name]; n != nil {
		n.released = &node.Release{By: "alice", Why: why, At: time.Now(), Boot: boot}
		n.rv++
		w.note("admin", "notes on %s that it releases its lock: %s", m.name, why)
	}
	w.at(w.actor, takes, func() {
		if is := w.object.newest().snap.State.Holders[m.name]; !w.object.missing && is.Boot == boot {
			m.releasedAt = time.Now()
			w.object.put("admin", why, lock.Edit{Remove: []string{key, "waiter." + m.name}})
		}
	})
}
