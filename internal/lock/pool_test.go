package lock

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// peers makes a pool of text: one Node for each letter. r Ready, n not Ready,
// c cordoned; in upper case a control-plane Node. The first is "a", then "b" …
func pool(text string) Pool {
	p := Pool{Known: true}
	for i, r := range text {
		peer := Peer{Name: string(rune('a' + i)), Ready: true}
		switch r {
		case 'n', 'N':
			peer.Ready = false
		case 'c', 'C':
			peer.Cordoned = true
		}
		peer.ControlPlane = r < 'a'
		p.Peers = append(p.Peers, peer)
	}
	return p
}

// Node "a" asks; what is down already counts, and some have to stay Ready.
func TestAskPool(t *testing.T) {
	held := map[string]string{"holder.b": encode(holds(9))}
	text := intstr.FromString
	for _, c := range []struct {
		name     string
		data     map[string]string
		pool     Pool
		max      intstr.IntOrString
		minReady intstr.IntOrString
		count    bool
		move     Move
		reason   status.Reason
		limit    int
	}{
		{"all well", nil, pool("rrr"), amount(1), amount(0), true, Take, "", 1},
		{"one is not Ready", nil, pool("rnr"), amount(1), amount(0), true, Join, status.PeersUnavailable, 1},
		{"one is cordoned", nil, pool("rcr"), amount(1), amount(0), true, Join, status.PeersUnavailable, 1},
		{"the same, not counted", nil, pool("rnc"), amount(1), amount(0), false, Take, "", 1},
		{"the pool is not known", nil, Pool{}, amount(1), amount(2), true, Take, "", 1},
		{"the asker itself does not count", nil, pool("nrr"), amount(1), amount(0), true, Take, "", 1},
		{"a holder counts once", held, pool("rcr"), amount(2), amount(0), true, Take, "", 2},
		{"an unreadable holder holds whatever the limit is", map[string]string{"holder.b": "x"}, pool("rnr"), amount(2), amount(0), true, Join, status.LockUnreadable, 1},
		{"a holder and one down", held, pool("rcn"), amount(2), amount(0), true, Join, status.PeersUnavailable, 2},
		{"the lock itself is full: that is said first", held, pool("rcn"), amount(1), amount(0), true, Join, status.LockFull, 1},

		{"percent: rounded down", held, pool("rrrrr"), text("40%"), amount(0), true, Take, "", 2},
		{"percent: rounded down, full", held, pool("rrrrr"), text("39%"), amount(0), true, Join, status.LockFull, 1},
		{"percent: at least one", nil, pool("rrr"), text("1%"), amount(0), true, Take, "", 1},
		{"percent of a pool that is not known: no limit yet", held, Pool{}, text("10%"), amount(0), true, Take, "", 9},

		{"min_ready is kept", nil, pool("rrr"), amount(3), amount(2), false, Take, "", 3},
		{"min_ready would be missed", nil, pool("rrr"), amount(3), amount(3), false, Join, status.TooFewReady, 3},
		{"a holder is as good as down", held, pool("rrr"), amount(3), amount(2), false, Join, status.TooFewReady, 3},
		{"min_ready in percent is rounded up", held, pool("rrrr"), amount(3), text("51%"), false, Join, status.TooFewReady, 3},
		{"half of four stays", held, pool("rrrr"), amount(3), text("50%"), false, Take, "", 3},
		{"quorum of three stays", nil, pool("rrr"), amount(3), text(Quorum), false, Take, "", 3},
		{"quorum of three would be lost", held, pool("rrr"), amount(3), text(Quorum), false, Join, status.TooFewReady, 3},
		{"alone with min_ready 1", nil, pool("r"), amount(1), amount(1), true, Join, status.TooFewReady, 1},

		{"control plane: a quorum stays without any setting", nil, pool("RRRrr"), amount(3), amount(0), false, Take, "", 3},
		{"control plane: it would be lost", held, pool("RRRrr"), amount(3), amount(0), false, Join, status.TooFewReady, 3},
		{"control plane: one is not Ready", nil, pool("RNRrr"), amount(3), amount(0), false, Join, status.TooFewReady, 3},
		{"control plane: a worker may go", map[string]string{"holder.c": encode(holds(9))}, pool("rRRR"), amount(3), amount(0), false, Take, "", 3},
		{"control plane of one", nil, pool("Rrr"), amount(1), amount(0), true, Take, "", 1},

		{"not in its own pool", nil, Pool{Known: true, Peers: []Peer{{Name: "z", Ready: true}}}, amount(1), amount(0), true, Join, status.NotInPool, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Parse(c.data).Ask(Asker{Node: "a", Max: c.max, Room: 8, Pool: c.pool, MinReady: c.minReady, CountUnavailable: c.count})
			if got.Move != c.move || got.Reason != c.reason || got.Queue.Limit != c.limit {
				t.Errorf("got %s reason %q limit %d (%s)\nwant %s reason %q limit %d", got.Move, got.Reason, got.Queue.Limit, got.Detail, c.move, c.reason, c.limit)
			}
			poolOnly := c.reason == status.PeersUnavailable || c.reason == status.TooFewReady || c.reason == status.NotInPool
			if got.Pool != poolOnly {
				t.Errorf("only the pool is in the way: %v", got.Pool)
			}
		})
	}
}
