package lock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// ErrListRefused means that the API server does not let this node list Nodes.
var ErrListRefused = errors.New("the API server does not let this node list Nodes")

// Quorum is the MinReady of pools whose members vote: more than half.
const Quorum = "quorum"

// Fleet lists the Nodes of the pool.
type Fleet interface {
	Nodes(ctx context.Context) ([]Peer, error) // ErrListRefused if it may not
}

// Peer is a Node of the pool, as the others see it.
type Peer struct {
	Name         string
	Ready        bool
	Cordoned     bool // spec.unschedulable, whoever set it
	ControlPlane bool
}

// Pool is what is known of the Nodes that take turns with us. The zero Pool
// is: nothing.
type Pool struct {
	Known bool
	Peers []Peer
}

// amount is a number, or a percent of the pool rounded down but never less
// than one. While the pool is not known yet, a percent does not limit: whoever
// takes the lock has listed the pool before, or uses tightest.
func (p Pool) amount(v intstr.IntOrString) int {
	if v.Type == intstr.String && !p.Known {
		return math.MaxInt
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, len(p.Peers), false)
	if err != nil {
		return 1 // validated before; if not, then the tightest
	}
	return max(1, n)
}

// has reports whether a Node of that name is in the pool.
func (p Pool) has(node string) bool {
	return slices.ContainsFunc(p.Peers, func(peer Peer) bool { return peer.Name == node })
}

// down lists the Nodes that are not available although they hold no lock.
func (p Pool) down(holding func(node string) bool) []Peer {
	return slices.DeleteFunc(slices.Clone(p.Peers), func(peer Peer) bool {
		return peer.Ready && !peer.Cordoned || holding(peer.Name)
	})
}

// leaves says what would be missing if node went down now, "" if nothing: at
// least minReady Nodes of the pool stay Ready, and of three or more
// control-plane Nodes a quorum, whatever is configured. Those that hold the
// lock count as down.
func (p Pool) leaves(node string, minReady intstr.IntOrString, holding func(node string) bool) string {
	if !p.Known {
		return ""
	}
	var ready, members, readyMembers int
	member := false
	for _, peer := range p.Peers {
		up := peer.Ready && peer.Name != node && !holding(peer.Name)
		if up {
			ready++
		}
		if peer.ControlPlane {
			members++
			if up {
				readyMembers++
			}
			member = member || peer.Name == node
		}
	}
	least := minReady.IntValue()
	switch {
	case minReady.Type == intstr.String && minReady.StrVal == Quorum:
		least = quorum(len(p.Peers))
	case minReady.Type == intstr.String:
		// Rounded up: it is a floor.
		n, err := intstr.GetScaledValueFromIntOrPercent(&minReady, len(p.Peers), true)
		if err != nil {
			n = len(p.Peers)
		}
		least = n
	}
	if ready < least {
		return fmt.Sprintf("%d other nodes of the pool are Ready, min_ready asks for %d", ready, least)
	}
	if member && members >= 3 && readyMembers < quorum(members) {
		return fmt.Sprintf("%d other control-plane nodes are Ready, a quorum of %d needs %d", readyMembers, members, quorum(members))
	}
	return ""
}

func quorum(members int) int { return members/2 + 1 }

// why says for people why a peer is not available.
func (p Peer) why() string {
	switch {
	case !p.Ready && p.Cordoned:
		return p.Name + " (not Ready, cordoned)"
	case !p.Ready:
		return p.Name + " (not Ready)"
	}
	return p.Name + " (cordoned)"
}

// whyAll is why for several.
func whyAll(peers []Peer) string {
	var words []string
	for _, p := range peers {
		words = append(words, p.why())
	}
	return list(words)
}

// missing says why an asker that is not in its own pool waits.
func (p Pool) missing(node string) (status.Reason, string) {
	if !p.Known || p.has(node) {
		return "", ""
	}
	return status.NotInPool, "lock.node_selector does not select this node: it cannot be counted in its own pool"
}
