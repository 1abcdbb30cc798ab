package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/status"
)

// Run tells the history that follows from the setup. It must be called in a
// bubble of testing/synctest and returns when everything has ended.
func Run(s Setup) *World {
	w := newWorld(s)
	w.mu.Lock()
	for _, m := range w.machines {
		m.startDaemon(m.between(forBoot, 0, 5*time.Second))
	}
	for i, p := range s.Plan {
		w.at(w.as(int64(grid/2+i%(grid/2))), p.At, func() {
			if !w.calm {
				p.Do(w)
			}
		})
	}
	w.mu.Unlock()
	time.Sleep(w.align(s.Storm))
	if !s.Short {
		w.settle()
		w.rest()
	}
	w.stop()
	return w
}

// settle ends the storm: what broke is repaired, by people where it needs them. mu is not held.
func (w *World) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calm, w.outage, w.object.missing = true, false, false
	w.note("", "--- calm: no more faults")
	w.setPolicy(nil)
	here := len(w.machines)
	for i, m := range w.machines {
		m.cut, m.healthy, m.busGone, m.logind = false, true, false, rebootGoes
		m.drainFor, m.drainFails, m.gateSlow, m.stays = time.Minute, false, 0, 0
		if !m.gate.Open {
			m.setGate(gate.Verdict{Open: true})
		}
		if m.sentinelErr != nil {
			m.hideSentinel(false)
		}
		m.shut()
		switch {
		case m.lost && !m.up && m.draw(forBoot)%3 == 0 && (here > 4 || !w.MinReady): // never comes back
			here--
			m.gone, m.wanted = true, false
			w.deleteNode(m)
		case m.lost && !m.up:
			m.lost = false
			if m.draw(forBoot)%3 == 1 {
				w.release(m, "it does not come back, the others are to go on", 0)
			}
			w.at(m.actor, time.Duration(i+1)*time.Minute, m.bootUp)
		case m.up && w.nodes[m.name] == nil:
			w.at(m.actor, time.Duration(i+1)*time.Second, func() {
				if m.up {
					w.register(m)
				}
			})
		}
		m.lost = false
		if w.Budget { // a person's cordon would hold the others up
			w.person(m, false)
		}
	}
	w.sweep("")
}

// rest waits until everything has come to rest (LAW 4), and then sees that
// resting costs nothing (LAW 7).
func (w *World) rest() {
	if len(w.Broken()) > 0 || !w.comesToRest() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.machines[w.draw(forBoot)%uint64(len(w.machines))]; m.up {
		// What the gone have left must not be in anybody's way.
		w.note("", "--- one more")
		m.want(true)
		w.mu.Unlock()
		rests := w.comesToRest()
		w.mu.Lock()
		if !rests {
			return
		}
	}
	asked := w.count.Requests
	w.mu.Unlock()
	time.Sleep(w.align(24 * time.Hour))
	w.mu.Lock()
	if w.count.Requests != asked {
		w.breach("", "LAW 7: %d requests in a day with nothing to do", w.count.Requests-asked)
	}
	if n := len(w.object.watches); n > 0 {
		w.breach("", "LAW 7: %d watches are open with nothing to do", n)
	}
}

// comesToRest waits for at most a day.
func (w *World) comesToRest() bool {
	var left string
	for range 24 * 12 {
		time.Sleep(w.align(5 * time.Minute))
		if left = w.unrest(); left == "" {
			return true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breach("", "LAW 4: a day after the last fault there is no rest: %s", left)
	return false
}

// unrest says what is not at rest yet, "" if nothing.
func (w *World) unrest() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []string
	now := w.object.newest()
	for _, key := range slices.Sorted(maps.Keys(now.data)) {
		if !w.buried(key, now.snap.State) { // who is gone may stay in the lock until somebody minds
			left = append(left, "in the lock: "+key+" "+now.data[key])
		}
	}
	for _, m := range w.machines {
		if m.gone {
			continue
		}
		n := w.nodes[m.name]
		switch d := m.daemon; {
		case !m.up:
			left = append(left, m.name+" is off")
		case d == nil || d.dead || d.ended:
			left = append(left, m.name+" has no daemon")
		case m.boot > 1 && (m.oneshot == nil || m.oneshot.boot != m.bootID() || !m.oneshot.ended):
			left = append(left, m.name+" has not run kured-uncordon since its boot")
		case m.wanted:
			left = append(left, fmt.Sprintf("%s wants to reboot and is %s", m.name, d.status.Line()))
		case d.status.Phase != status.Idle:
			left = append(left, fmt.Sprintf("%s is %s", m.name, d.status.Line()))
		case n == nil:
			left = append(left, m.name+" has no Node")
		case n.mark != "":
			left = append(left, m.name+" carries our mark")
		case n.released != nil && m.learnedAt.After(n.released.At.Add(race)):
			left = append(left, m.name+" carries an admin's note")
		case n.unschedulable && !n.foreign:
			left = append(left, m.name+" is cordoned, and not by a person")
		}
	}
	return strings.Join(left, "; ")
}

// stop ends all processes.
func (w *World) stop() {
	w.mu.Lock()
	w.over = true
	for _, m := range w.machines {
		for _, p := range []*process{m.daemon, m.oneshot} {
			p.kill("at the end of the history")
		}
	}
	w.mu.Unlock()
	w.all.Wait()
}
