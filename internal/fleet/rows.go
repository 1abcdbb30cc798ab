package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// member is what counts of a Node.
type member struct {
	peer      lock.Peer
	boot      string // that the kubelet reports, normalized where possible
	announced string // text of the annotation; "": none
}

func memberOf(obj *corev1.Node) member {
	m := member{peer: lock.Peer{Name: obj.Name, Cordoned: obj.Spec.Unschedulable}, announced: obj.Annotations[node.StatusAnnotation]}
	if boot, err := node.NormalizeBootID(obj.Status.NodeInfo.BootID); err == nil {
		m.boot = boot
	}
	for _, c := range obj.Status.Conditions {
		if c.Type == corev1.NodeReady {
			m.peer.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for _, role := range []string{"control-plane", "master", "etcd"} {
		if _, is := obj.Labels["node-role.kubernetes.io/"+role]; is {
			m.peer.ControlPlane = true
		}
	}
	return m
}

// rows puts the nodes and the lock together.
func rows(members map[string]member, s lock.State) (all []Row, strange []lock.Unreadable) {
	places := map[string]int{}
	for i, name := range s.Order() {
		places[name] = i + 1
	}
	names := maps.Clone(places)
	for name := range members {
		names[name] = 0
	}
	for name := range s.Holders {
		names[name] = 0
	}
	damaged := map[string]string{}
	for _, d := range s.Blocking() {
		if name, ok := strings.CutPrefix(d.Key, "holder."); ok && name != "" {
			damaged[name], names[name] = d.What, 0
			continue
		}
		strange = append(strange, lock.Unreadable{Key: status.Clean(d.Key, maxText), What: status.Clean(d.What, maxText), Holds: true})
	}
	for name := range names {
		m, there := members[name]
		r := ownWord(m)
		r.Node, r.Boot, r.Ready, r.Cordoned = status.Clean(name, maxText), m.boot, m.peer.Ready, m.peer.Cordoned
		if h, ok := s.Holders[name]; ok {
			r.hold(h, m)
		} else if w, ok := s.Waiters[name]; ok {
			r.wait(w, places[name])
		} else if what, ok := damaged[name]; ok {
			r.Lock, r.Phase, r.Reason = Unreadable, status.Held, status.EntryForeign
			r.problem("its entry in the lock cannot be read and counts as a holder: " + what)
		} else {
			r.alone()
		}
		if !there {
			r.problem("there is no such node in this pool")
		}
		all = append(all, r)
	}
	slices.SortFunc(all, compare)
	return all, strange
}

// maxText bounds what others wrote, in characters.
const maxText = 253

// ownWord is what a node says of itself.
func ownWord(m member) Row {
	if m.announced == "" {
		return Row{Phase: Unknown}
	}
	a, err := node.ParseAnnouncement(m.announced)
	if err != nil {
		return Row{Phase: Unknown, Problem: "its announcement cannot be read: " + err.Error()}
	}
	r := Row{
		Phase: a.Phase, Reason: a.Reason, Detail: a.Detail, Since: a.Since, Wanted: a.Wanted, Packages: a.Packages,
		Version: a.Version, Rebooted: a.Rebooted,
	}
	if boot, err := node.NormalizeBootID(a.Boot); m.boot != "" && (err != nil || boot != m.boot) && r.Phase != status.Rebooting {
		r.Problem = earlier
	}
	return r
}

// earlier is the problem of an announcement that is of another boot than the kubelet reports.
const earlier = "that is what it said before its last boot"

func (r *Row) problem(what string) {
	if r.Problem != "" {
		what = r.Problem + "; " + what
	}
	r.Problem = status.Clean(what, maxText)
}

// say replaces what the node says, because the lock knows it better.
func (r *Row) say(phase status.Phase, reason status.Reason, since time.Time) {
	r.Phase, r.Reason, r.Detail, r.Since = phase, reason, "", since.UTC()
}

// hold is for a node that holds. The entry has three phases only, and is written before the announcement: if the node
// says more of the same cycle, and is not behind, it is believed.
func (r *Row) hold(h lock.Holder, m member) {
	r.Lock = Holds
	further := slices.Index(status.Phases(), r.Phase) >= slices.Index(status.Phases(), h.Phase)
	cycles, _ := node.ParseAnnouncement(m.announced)
	switch {
	case h.Boot == cycles.Cycle && further && r.Phase != status.BackingOff:
	case m.boot != "" && m.boot != h.Boot: // the boot id proves it
		r.say(status.Returning, status.AwaitingReturn, h.Since)
	default:
		r.say(h.Phase, "", h.Since)
	}
	if len(r.Packages) == 0 && h.Reason != "" {
		r.Packages = []string{status.Clean(h.Reason, maxText)}
	}
	if m.boot != h.Boot && r.Problem == earlier {
		r.Problem = "" // that is what it is about
	}
}

// wait is for a node in the waiting room.
func (r *Row) wait(w lock.Waiter, place int) {
	r.Lock, r.Place = Waits, place
	if r.Phase != status.Queued {
		r.say(status.Queued, "", w.Since)
	}
}

// alone is for a node of which the lock says nothing.
func (r *Row) alone() {
	if r.Phase.Outbound() {
		r.problem(fmt.Sprintf("it says %s and does not hold the lock", r.Phase))
	}
}

// compare sorts rows by where they are in the story.
func compare(a, b Row) int {
	return cmp.Or(
		cmp.Compare(a.rank(), b.rank()),
		cmp.Compare(a.Place, b.Place),
		holdsSince(a).Compare(holdsSince(b)),
		cmp.Compare(a.Node, b.Node),
	)
}

func holdsSince(r Row) time.Time {
	if r.Lock.counts() {
		return r.Since
	}
	return time.Time{}
}

func (r Row) rank() int {
	switch {
	case r.Lock.counts():
		return 0
	case r.Lock == Waits:
		return 1
	case r.Phase == status.Queued: // the room is full
		return 2
	case r.Phase == status.Held, r.Phase == status.Blocked, r.Phase == status.BackingOff:
		return 3
	case r.Phase.Underway(): // as it says
		return 4
	}
	return 5
}
