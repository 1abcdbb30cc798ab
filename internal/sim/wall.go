package sim

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
)

// The forms of packaging/kubernetes/wall.yaml.
var (
	holderForm = regexp.MustCompile(`^\{"v":[1-9][0-9]?,"boot":"[0-9a-f]{32}","phase":"[a-z]{1,16}","since":"[0-9TZ:.+-]{20,35}","max":[1-9][0-9]{0,3}` +
		`(,"zone":"[A-Za-z0-9._-]{1,63}")?(,"turn":"[0-9TZ:.+-]{20,35}")?(,"reason":"[^"\\\x00-\x1f]+")?` +
		`,"uid":"[A-Za-z0-9._-]{1,63}"(,"[a-z_]{1,20}":("[^"\\\x00-\x1f]*"|-?[0-9]{1,9}|true|false))*\}$`)
	waiterForm = regexp.MustCompile(`^\{"v":[1-9][0-9]?,"since":"[0-9TZ:.+-]{20,35}","priority":(0|-?[1-9][0-9]{0,3})(,"zone":"[A-Za-z0-9._-]{1,63}")?` +
		`,"uid":"[A-Za-z0-9._-]{1,63}"(,"[a-z_]{1,20}":("[^"\\\x00-\x1f]*"|-?[0-9]{1,9}|true|false))*\}$`)
	plainMax = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)
	percent  = regexp.MustCompile(`^([1-9][0-9]?|100)%$`)
)

// refusal is why the wall refuses a write.
type refusal struct {
	why  string
	race bool // honest kured can run into it: what it read beside the lock has changed
}

// wall is the admission policy of packaging/kubernetes/wall.yaml, as far as it
// concerns what kured writes; mu is held. It answers nil if it lets the write pass.
func (w *World) wall(p *process, before, after version) *refusal {
	if !w.Wall {
		return nil
	}
	no := func(why string) *refusal { return &refusal{why, false} }
	holder, waiter := "holder."+p.m.name, "waiter."+p.m.name
	old, data := before.data, after.data
	was, held := old[holder]
	is, holds := data[holder]
	_, waited := old[waiter]
	waits, waiting := data[waiter]
	takes, joins := holds && !held, waiting && !waited
	var buried []string
	for _, key := range differing(old, data) {
		_, there := data[key]
		switch {
		case key == holder || key == waiter:
		case there:
			return no("a node writes no entries but its own: " + key)
		default:
			buried = append(buried, key)
		}
	}
	burial := after.burial
	switch {
	case len(buried) > 0 && !burial:
		return no("removes entries of others, not in a burial")
	case burial && (len(buried) == 0 || was != is || waited != waiting):
		return no("a burial that does something else")
	case holds && was != is && (!holderForm.MatchString(is) || len(is) > 512):
		return no("not the form of a holder entry: " + is)
	case waiting && old[waiter] != waits && (!waiterForm.MatchString(waits) || len(waits) > 512):
		return no("not the form of a waiter entry: " + waits)
	case (takes || joins) && holds && waiting:
		return no("holds and waits")
	}
	for _, key := range buried {
		if !w.buried(key, before.snap.State) {
			return &refusal{"the Node of " + key + " exists", true}
		}
	}
	if takes || joins {
		return w.wallLimits(p, after, takes)
	}
	if holds && was != is {
		a, b := before.snap.State.Holders[p.m.name], after.snap.State.Holders[p.m.name]
		if a.Boot != b.Boot || a.Max != b.Max || a.Zone != b.Zone || a.UID != b.UID {
			return no("a holder changed boot, max, zone or uid")
		}
	}
	return nil
}

// wallLimits are the rules of the wall for who takes the lock or enters the room.
func (w *World) wallLimits(p *process, after version, takes bool) *refusal {
	held, waiting, limit := 0, 0, lock.MaxHolders
	for key := range after.data {
		if strings.HasPrefix(key, "waiter.") {
			waiting++
		} else {
			held++
		}
	}
	if len(after.snap.State.Blocking()) > 0 {
		limit = 1
	}
	own := after.snap.State.Holders[p.m.name]
	for _, h := range after.snap.State.Holders {
		limit = min(limit, h.Max)
		if takes && h.Zone != own.Zone {
			return &refusal{"the lock is held in another zone", false}
		}
	}
	policy := w.policies[len(w.policies)-1].data
	byPolicy, room := lock.MaxHolders, lock.MaxRoom
	switch max := strings.TrimSpace(policy["max"]); {
	case max == "" || percent.MatchString(max):
	case plainMax.MatchString(max):
		byPolicy, _ = strconv.Atoi(max)
	default:
		byPolicy = 1
	}
	if n, err := strconv.Atoi(policy["waiting_room"]); err == nil && n >= 1 && n <= lock.MaxRoom {
		room = n
	}
	switch {
	case takes && held > limit:
		return &refusal{"the lock is full", false}
	case takes && policy["paused"] != "":
		return &refusal{"the lock is paused", true}
	case takes && held > byPolicy:
		return &refusal{"the lock is full by the policy", true}
	case !takes && waiting > room:
		return &refusal{"the waiting room is full by the policy", true}
	}
	return nil
}

// ruling is the policy ConfigMap since a time.
type ruling struct {
	at     time.Time
	data   map[string]string
	policy lock.Policy
}

// setPolicy is kubectl edit configmap kured-policy. mu is held.
func (w *World) setPolicy(data map[string]string) {
	w.policies = append(w.policies, ruling{time.Now(), data, lock.ParsePolicy(data, "kured-lock")})
	if len(w.policies) > 1 {
		w.note("admin", "policy: %s", data)
	}
}

// rulings are the policies that were in force at some time since.
func (w *World) rulings(since time.Time) []lock.Policy {
	var all []lock.Policy
	for i := len(w.policies) - 1; i >= 0; i-- {
		all = append(all, w.policies[i].policy)
		if w.policies[i].at.Before(since) {
			break
		}
	}
	return all
}

// fleet is the list of Nodes since a time.
type fleet struct {
	at    time.Time
	peers []lock.Peer
}

// nodesChanged keeps what a list of the Nodes shows. mu is held.
func (w *World) nodesChanged() {
	var peers []lock.Peer
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[name]
		peers = append(peers, lock.Peer{Name: name, Ready: n.ready, Cordoned: n.unschedulable, ControlPlane: n.controlPlane})
	}
	w.fleets = append(w.fleets, fleet{time.Now(), peers})
}

// fleetAt is what the list of Nodes was at a time.
func (w *World) fleetAt(at time.Time) []lock.Peer {
	i := len(w.fleets) - 1
	for i > 0 && w.fleets[i].at.After(at) {
		i--
	}
	return w.fleets[i].peers
}

// fleetsSince are the lists that were true at some time since.
func (w *World) fleetsSince(since time.Time) [][]lock.Peer {
	var all [][]lock.Peer
	for i := len(w.fleets) - 1; i >= 0; i-- {
		all = append(all, w.fleets[i].peers)
		if w.fleets[i].at.Before(since) {
			break
		}
	}
	return all
}
