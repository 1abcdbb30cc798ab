package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// race is how long after a cause its effect may still be that of before: one
// conversation with the API server and one look at the gates.
const race = 60 * time.Second

// attempt is how old what a node knows beside the lock may be when it sends a
// write: read at most a second before, in a conversation with the time-out of one.
const attempt = 20 * time.Second

// judgeWrite checks a write of the lock object by a node. mu is held.
func (w *World) judgeWrite(p *process, sent time.Time, before, after version) {
	me := p.m.name
	for _, key := range differing(before.data, after.data) {
		if key == "holder."+me || key == "waiter."+me {
			continue
		}
		_, still := after.data[key]
		if still || !w.buried(key, before.snap.State) {
			w.breach(p.who, "LAW 6: wrote %s, which is another node's", key)
			continue
		}
		w.count.Burials++
	}
	w.proved(p, after.snap.State)
	was, held := before.snap.State.Holders[me]
	is, holds := after.snap.State.Holders[me]
	_, damagedBefore := before.data["holder."+me]
	switch {
	case holds && (!held || was.Boot != is.Boot):
		w.judgeTake(p, sent, after, is, damagedBefore && !held)
	case held && !holds:
		w.judgeLeave(p, was)
	case damagedBefore && !held:
		if after.data["holder."+me] != before.data["holder."+me] {
			w.breach(p.who, "LAW 5: wrote its own entry, which it cannot read: %s", before.data["holder."+me])
		}
	}
	if holds {
		if is.UID != p.uid || is.Boot != p.boot {
			w.breach(p.who, "LAW 6: wrote an entry of uid %s boot %s, is uid %s boot %s", is.UID, is.Boot, p.uid, p.boot)
		}
	}
	// Who does not want any more may write a waiter's entry in passing, so that a lost write of its own cannot land.
	wants := p.ctx.Err() == nil && p.m.shutSince.IsZero()
	if _, joined := before.snap.State.Waiters[me]; !joined && wants {
		if _, waits := after.snap.State.Waiters[me]; waits && len(after.data)-len(after.snap.State.Holders) > p.cfg.Room+len(after.snap.State.Blocking()) {
			w.breach(p.who, "waiting room: %d in a room of %d", len(after.snap.State.Waiters), p.cfg.Room)
		}
	}
}

// proved notes that a process wrote into the lock that it reboots.
func (w *World) proved(p *process, s lock.State) {
	if s.Holders[p.m.name].Phase == status.Rebooting {
		p.fencedAt = time.Now()
	}
}

// judgeTake checks a write that makes a node a holder.
func (w *World) judgeTake(p *process, sent time.Time, after version, own lock.Holder, damaged bool) {
	w.count.Takes++
	if damaged {
		w.breach(p.who, "LAW 5: took the lock over its own entry that it cannot read")
	}
	if p.mode != cycle.Run {
		w.breach(p.who, "LAW 4: took the lock in mode %d", p.mode)
	}
	s := after.snap.State
	allowed := w.allowed(p, sent)
	limit, live := allowed.limit, len(s.Blocking())
	for name, h := range s.Holders {
		if w.live(name, h) {
			live++
			limit = min(limit, h.Max)
			if h.Zone != own.Zone {
				w.breach(p.who, "LAW 1: zones mix: %s", changes{nil, after.data})
			}
		}
	}
	if live > limit {
		w.breach(p.who, "LAW 1: %d hold, allowed are %d: %s", live, limit, changes{nil, after.data})
	}
	if allowed.closed != "" {
		w.breach(p.who, "LAW 5: took the lock although %s", allowed.closed)
	}
	if p.cfg.CountUnavailable && !w.Faults.NoList {
		if down := w.downSince(s, p, sent); live+len(down) > limit {
			w.breach(p.who, "LAW 1: %d hold and %s are down, allowed are %d", live, down, limit)
		}
	}
	w.judgeReady(p, s, sent)
	if m := p.m; !m.shutSince.IsZero() && sent.Sub(m.shutSince) > race {
		w.breach(p.who, "LAW 5: took the lock, its gates are closed since %s", time.Since(m.shutSince))
	}
}

// judgeLeave checks that a node that removes its own holder entry may.
func (w *World) judgeLeave(p *process, was lock.Holder) {
	if p.dead { // on its way since before: to the process that runs now it is as if somebody else had done it
		p.m.releasedAt = time.Now()
		w.count.RacedReleases++
		return
	}
	switch {
	case p.mode == cycle.Return && was.Boot == p.boot:
		w.breach(p.who, "LAW 2: released as back in service, and the boot id is the same")
	case p.mode == cycle.Return && !p.ready:
		w.breach(p.who, "LAW 2: released as back in service without having been Ready")
	case p.mode == cycle.Run && was.Boot != p.boot:
		w.breach(p.who, "LAW 2: the daemon released the entry of another boot")
	}
	if n := w.nodes[p.m.name]; n != nil && n.mark != "" && n.uid == p.uid {
		w.breach(p.who, "LAW 4: released the lock while its cordon is in place")
	}
	if p.m.going && p.mode == cycle.Run {
		w.breach(p.who, "LAW 1: released the lock while the machine goes down by its reboot")
	}
}

// buried reports whether a key may be removed by anybody: the entry is of a
// Node that does not exist.
func (w *World) buried(key string, s lock.State) bool {
	if name, ok := strings.CutPrefix(key, "holder."); ok {
		h, readable := s.Holders[name]
		return readable && !w.live(name, h)
	}
	if name, ok := strings.CutPrefix(key, "waiter."); ok {
		n, x := w.nodes[name], s.Waiters[name]
		return n == nil || x.UID != "" && x.UID != n.uid
	}
	return false
}

// judgeNode checks a patch of the own Node.
func (w *World) judgeNode(p *process, before, after nodeObject) {
	if before.unschedulable && !after.unschedulable && before.foreign {
		w.breach(p.who, "LAW 3: lifted the cordon of a person")
	}
	if after.mark != "" && before.mark != after.mark {
		s := w.object.newest().snap.State
		if h, ok := s.Holders[p.m.name]; (!ok || h.Boot != p.boot) && !p.excused(p.takenAt()) {
			w.breach(p.who, "LAW 1: cordoned without the lock")
		}
	}
}

// takenAt is since when the process may rely on its entry: as long as one
// conversation ago.
func (p *process) takenAt() time.Time { return time.Now().Add(-race) }

// excused reports whether somebody took the entry away since.
func (p *process) excused(since time.Time) bool {
	return p.m.releasedAt.After(since) || p.m.replacedAt.After(since)
}

// judgeDrain checks that pods are moved only by a holder.
func (w *World) judgeDrain(p *process) {
	h, ok := w.object.newest().snap.State.Holders[p.m.name]
	if (!ok || h.Boot != p.boot) && !p.excused(p.takenAt()) {
		w.breach(p.who, "LAW 1: drains without the lock")
	}
}

// judgeReboot checks that a machine may be rebooted now.
func (w *World) judgeReboot(p *process) {
	m := p.m
	h, ok := w.object.newest().snap.State.Holders[m.name]
	n := w.nodes[m.name]
	switch {
	case ok && h.Boot == p.boot && h.Phase == status.Rebooting && w.live(m.name, h) && n.uid == p.uid:
	case p.fencedAt.IsZero():
		w.breach(p.who, "LAW 1: reboots, and never proved that it holds")
	case m.releasedAt.After(p.fencedAt):
		w.count.RacedReleases++
		w.note(p.who, "(an admin released the lock after the fence)")
	case m.replacedAt.After(p.takenAt()):
		w.count.RacedNodes++
		w.note(p.who, "(the Node has just been deleted)")
	default:
		w.breach(p.who, "LAW 1: reboots without the lock: %s", changes{nil, w.object.newest().data})
	}
	if !p.fencedAt.IsZero() && time.Since(p.fencedAt) > race {
		w.breach(p.who, "LAW 1: reboots %s after it proved that it holds", time.Since(p.fencedAt))
	}
	if a := w.allowed(p, time.Now().Add(-race)); a.closed != "" {
		w.breach(p.who, "LAW 5: reboots although %s", a.closed)
	}
	if v := m.verdict(); !v.Open {
		w.breach(p.who, "LAW 5: reboots while a gate is closed: %s", v.Reason)
	}
	if p.mode != cycle.Run || p.boot != m.bootID() {
		w.breach(p.who, "reboots in mode %d, boot %s", p.mode, p.boot)
	}
	m.ours = true
}

// judgeShutdown checks that a machine which kured takes down still counts.
func (w *World) judgeShutdown(m *machine) {
	h, ok := w.object.newest().snap.State.Holders[m.name]
	if !ok && !m.releasedAt.After(time.Now().Add(-10*time.Minute)) && !m.replacedAt.After(time.Now().Add(-10*time.Minute)) {
		w.breach(m.name, "LAW 1: goes down by kured's reboot and does not hold the lock")
	}
	if ok && h.Boot != m.bootID() {
		w.breach(m.name, "LAW 2: goes down with an entry of another boot")
	}
}

// judgeRequest checks that a node with nothing to do asks nothing, and that
// none asks without a pause.
func (w *World) judgeRequest(p *process, what string) {
	if time.Since(p.minute) > time.Minute {
		p.minute, p.burst = time.Now(), 0
	}
	if p.burst++; p.burst > 500 {
		w.breach(p.who, "asks without a pause: %s", what)
		p.kill("because it asks without a pause")
	}
	idle := p.status.Phase == status.Idle && p.status.Reason == "" && time.Since(p.status.Since) > race
	if p.mode == cycle.Run && idle && !p.m.wanted && p.m.sentinelErr == nil && time.Since(p.m.changedAt) > race {
		w.breach(p.who, "LAW 7: idle, and asks: %s", what)
	}
}

// differing lists the keys whose values are not the same.
func differing(a, b map[string]string) []string {
	var keys []string
	for k, v := range a {
		if x, ok := b[k]; !ok || x != v {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// allowance is what configuration and policy allow a node.
type allowance struct {
	limit  int
	closed string // why nobody may go, "" if they may
}

// allowed is the widest that configuration and policy allowed to a node at any
// time since one attempt before: what changed later may race with the attempt.
func (w *World) allowed(p *process, sent time.Time) allowance {
	since := sent.Add(-attempt - w.Faults.Stale)
	nodes := 1
	if !w.Faults.NoList {
		for _, peers := range w.fleetsSince(since) {
			nodes = max(nodes, len(peers))
		}
	}
	a := allowance{limit: amount(p.cfg.Max, nodes), closed: "?"}
	byPolicy := 0
	for _, policy := range w.rulings(since) {
		_, before, _ := policy.Closed(since.Add(p.m.skew))
		_, now, _ := policy.Closed(time.Now().Add(p.m.skew))
		if before == "" || now == "" {
			a.closed = ""
		} else if a.closed == "?" {
			a.closed = now
		}
		if policy.Max == nil {
			byPolicy = math.MaxInt
		} else {
			byPolicy = max(byPolicy, amount(*policy.Max, nodes))
		}
	}
	a.limit = min(a.limit, byPolicy)
	return a
}

func amount(v intstr.IntOrString, nodes int) int {
	if v.Type == intstr.Int {
		return v.IntValue()
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil {
		return 1
	}
	return max(1, nodes*n/100)
}

// downSince lists the other nodes without the lock that were down all the time since one attempt before.
func (w *World) downSince(s lock.State, p *process, sent time.Time) []string {
	count, lists := map[string]int{}, w.fleetsSince(sent.Add(-attempt-w.Faults.Stale))
	for _, peers := range lists {
		for _, peer := range peers {
			if _, holds := s.Holders[peer.Name]; (!peer.Ready || peer.Cordoned) && !holds && s.HolderDamage(peer.Name) == "" && peer.Name != p.m.name {
				count[peer.Name]++
			}
		}
	}
	var down []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if count[name] == len(lists) {
			down = append(down, name)
		}
	}
	return down
}

// judgeReady checks lock.min_ready, and the quorum of the control plane, at a take.
func (w *World) judgeReady(p *process, s lock.State, sent time.Time) {
	if w.Faults.NoList {
		return
	}
	why := ""
	for _, peers := range w.fleetsSince(sent.Add(-attempt - w.Faults.Stale)) {
		ready, members, voters, member := 0, 0, 0, false
		for _, peer := range peers {
			_, holds := s.Holders[peer.Name]
			up := peer.Ready && !holds
			if up {
				ready++
			}
			if peer.ControlPlane {
				members++
				member = member || peer.Name == p.m.name
				if up {
					voters++
				}
			}
		}
		least := p.cfg.MinReady.IntValue()
		switch v := p.cfg.MinReady; {
		case v.StrVal == lock.Quorum:
			least = len(peers)/2 + 1
		case v.Type == intstr.String:
			n, _ := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
			least = (len(peers)*n + 99) / 100
		}
		switch {
		case ready < least:
			why = fmt.Sprintf("%d nodes stay Ready, min_ready is %s", ready, p.cfg.MinReady.String())
		case member && members >= 3 && voters < members/2+1:
			why = fmt.Sprintf("%d of %d control-plane nodes stay Ready", voters, members)
		default:
			return
		}
	}
	w.breach(p.who, "min_ready: took the lock although %s", why)
}
