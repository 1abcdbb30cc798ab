//go:build e2e

package e2e

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// The reboot is not required any more while the node waits for its turn: it
// leaves the waiting room. Then the same happens to the node that holds and
// drains: it gives everything back. Nobody reboots.
func TestSentinelVanishes(t *testing.T) {
	s := begin(t, 2*time.Minute)
	drains, waits := s.Node("node-a"), s.Node("node-c")
	stuck := cluster.Workload{Name: "holds-up", Replicas: 1, MinAvailable: 1, On: drains.Name}
	s.deploy(stuck)
	before := s.bootIDs()

	s.want(drains)
	held := s.await(s.from, drains.Name+" to hold", func(c cluster.State) bool { return c.Holds(drains.Name) })
	s.want(waits)
	queued := s.await(held, waits.Name+" to wait for its turn", func(c cluster.State) bool {
		return slices.Equal(c.Waiters(), []string{waits.Name})
	})
	now := s.awaitSays(waits, status.Queued, status.LockFull)
	contains(t, "kured status", now.Detail, "place 1 of 1", drains.Name+" holds")

	s.must(cluster.Unwant(waits))
	left := s.await(queued, waits.Name+" out of the waiting room", func(c cluster.State) bool { return len(c.Waiters()) == 0 })
	s.awaitSays(waits, status.Idle, "")
	if s.Recorder.Since(queued).Ever(func(c cluster.State) bool { return c.Holds(waits.Name) || c.IsCordoned(waits.Name) }) {
		t.Errorf("%s took more than a place to wait", waits.Name)
	}

	s.awaitStatus(drains, "the drain", func(now status.Status) bool { return now.Phase == status.Draining && now.Drain != nil })
	s.must(s.Recorder.Sync(s.ctx))
	if c := s.Recorder.State(); !c.Holds(drains.Name) || c.Mark(drains.Name) == "" {
		t.Fatalf("%s does not drain any more: %s", drains.Name, c)
	}
	s.must(cluster.Unwant(drains))
	s.await(left, drains.Name+" rolled back", func(c cluster.State) bool { return !c.IsCordoned(drains.Name) && c.AtRest() })
	s.awaitSays(drains, status.Idle, "")
	s.awaitTold(drains, status.SentinelGone)
	s.atRest()
	s.rebootedOnce(before)
	s.toldNoSuccess(drains, "")
	for _, n := range s.Room.Nodes() {
		if slices.ContainsFunc(s.journal(n, ""), isReboot) {
			t.Errorf("%s asked for a reboot", n.Name)
		}
	}
}

// The last moment: drained, only an inhibitor in the way, and then the reboot
// is not required any more. When the inhibitor goes, nothing happens.
func TestSentinelVanishesWhenDrained(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-b")
	slow := cluster.Workload{Name: "slow", Replicas: 1, On: n.Name, StopAfter: time.Minute}
	s.deploy(slow)
	s.afterwards("end "+slow.Name, func(ctx context.Context) error { return s.end(ctx, slow) })
	before := s.bootIDs()

	s.want(n)
	s.awaitEvicted(slow)
	apt := s.inhibit(n, "block", "apt", "installs a kernel")
	s.letStop(slow)
	s.awaitEntry(n, "the end of the drain", func(e nodes.Entry) bool { return strings.HasPrefix(e.Message, "drained: 1 pod gone") })
	s.awaitSays(n, status.Draining, status.Inhibited)

	s.must(cluster.Unwant(n))
	s.awaitGivenBack(s.from, n, before[n.Name])
	s.awaitTold(n, status.SentinelGone)
	apt.release(s)
	s.awaitSays(n, status.Idle, "")
	s.atRest()
	s.rebootedOnce(before)
}

// Something on the node asks for a reboot at every boot. kured stops when the
// day's budget is spent and says so, and the other nodes go on.
func TestSentinelThatComesBack(t *testing.T) {
	s := begin(t, 3*time.Minute)
	n, other := s.Node("node-b"), s.Node("node-a")
	s.configure(n, "max_per_day = 48", "max_per_day = 2")
	const again = "/etc/tmpfiles.d/e2e-again.conf"
	s.afterwards("stop asking", func(context.Context) error { return errors.Join(n.Remove(again), cluster.Unwant(n)) })
	s.must(n.WriteFile(again, []byte("f "+cluster.Sentinel+" 0644 root root -\n"), 0o644))
	before := s.bootIDs()

	s.want(n)
	first := s.awaitBack(s.from, n, before[n.Name])
	second := s.bootIDs()[n.Name]
	spent := s.awaitBack(first, n, second)
	now := s.awaitSays(n, status.Held, status.RebootBudget)
	const why = "2 reboots in 24 hours and the sentinel stands again"
	contains(t, "kured status", now.Detail, why)
	if now.Demand == nil || now.Demand.Path != cluster.Sentinel {
		t.Errorf("kured status does not show what is wanted: %+v", now.Demand)
	}
	if now.Next == nil || time.Until(*now.Next) < 23*time.Hour {
		t.Errorf("kured status says that it goes on at %v", now.Next)
	}
	text, err := answer(s.ctx, n, "kured", "status")
	s.must(err)
	contains(t, "kured status", text, "held", string(status.RebootBudget), why)
	contains(t, "StatusText", s.statusText(n), "held: "+why)
	told := s.awaitTold(n, status.RebootBudget)
	contains(t, "the journal", told.Message, "held: "+why)
	third := s.bootIDs()[n.Name]
	if told.Boot != third || told.Fields["KURED_PHASE"] != string(status.Held) || told.Fields["PRIORITY"] != "4" {
		t.Errorf("told in boot %s with %v, want a warning in boot %s", told.Boot, told.Fields, third)
	}

	s.want(other)
	s.awaitBack(spent, other, before[other.Name])
	s.atRest()
	s.awaitSays(n, status.Held, status.RebootBudget)
	h := s.history()
	if got, want := h.BootIDs(n.Name), []string{before[n.Name], second, third}; !slices.Equal(got, want) || s.bootIDs()[n.Name] != third {
		t.Errorf("boot ids %v, want %v", got, want)
	}
	if spans := spansOf(n, h.HolderSpans()); len(spans) != 2 || h.MaxHolders() != 1 {
		t.Errorf("%s held %v, want twice", n.Name, spans)
	}
	if s.Recorder.Since(spent).Ever(func(c cluster.State) bool {
		return c.Holds(n.Name) || c.IsCordoned(n.Name) || slices.Contains(c.Waiters(), n.Name)
	}) {
		t.Errorf("%s goes on after its last reboot", n.Name)
	}

	// It needs nothing to be well again but the end of what it is held for.
	s.must(n.Remove(again))
	s.must(cluster.Unwant(n))
	s.awaitSays(n, status.Idle, "")
}
