//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// A person has cordoned a node. It reboots in its turn, without its pods, and
// stays cordoned; another node, told not to count it, goes as always.
func TestForeignCordonOutlivesReboot(t *testing.T) {
	s := begin(t, 2*time.Minute)
	theirs, other := s.Node("node-b"), s.Node("node-c")
	work := cluster.Workload{Name: "kept-away", Replicas: 2, On: theirs.Name}
	s.deploy(work)
	before := s.bootIDs()
	cordoned := s.personCordons(theirs)
	s.uncounted(other)

	s.want(theirs, other)
	s.awaitBack(s.awaitBack(cordoned, theirs, before[theirs.Name]), other, before[other.Name])
	s.atRest()

	s.staysTheirs(cordoned, theirs)
	s.rebootedOnce(before, theirs, other)
	if spans := spansOf(other, s.history().CordonSpans()); len(spans) != 1 || spans[0].To.IsZero() {
		t.Errorf("%s was cordoned %v, want once and not any more", other.Name, spans)
	}
	if s.history().Ever(func(c cluster.State) bool { return c.IsCordoned("node-a") }) {
		t.Error("node-a was cordoned")
	}
	if n := s.evicted(work); n != 2 {
		t.Errorf("%d evictions from the cordoned node, want its 2 pods", n)
	}
	pods, err := s.Pods(s.ctx, work)
	s.must(err)
	for _, p := range pods {
		if p.Status.Phase != corev1.PodPending || p.Spec.NodeName != "" {
			t.Errorf("pod %s is %s on %q although its only node is cordoned", p.Name, p.Status.Phase, p.Spec.NodeName)
		}
	}
	s.awaitEntry(theirs, "that the cordon stays", func(e nodes.Entry) bool { return e.Fields["KURED_UNCORDONED"] == "false" })

	s.must(s.SetCordon(s.ctx, theirs.Name, false))
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, "the pods back on their node")
	defer cancel()
	s.must(s.AwaitRunning(ctx, work))
}

// The drain of a node that a person has cordoned fails: the roll-back gives
// the lock to the next node and leaves the cordon.
func TestForeignCordonOutlivesFailedDrain(t *testing.T) {
	s := begin(t, 2*time.Minute)
	theirs, other := s.Node("node-a"), s.Node("node-c")
	s.configure(theirs, `timeout = "20s"`, `timeout = "3s"`)
	s.deploy(cluster.Workload{Name: "stays", Replicas: 1, MinAvailable: 1, On: theirs.Name})
	before := s.bootIDs()
	cordoned := s.personCordons(theirs)
	s.uncounted(other)

	s.want(theirs)
	held := s.await(cordoned, theirs.Name+" to hold", func(c cluster.State) bool { return c.Holds(theirs.Name) })
	s.want(other)
	s.awaitTold(theirs, status.DrainTimeout)
	s.awaitBack(held, other, before[other.Name])

	s.staysTheirs(cordoned, theirs)
	s.must(cluster.Unwant(theirs))
	s.awaitSays(theirs, status.Idle, "")
	s.atRest()
	s.staysTheirs(cordoned, theirs)
	s.rebootedOnce(before, other)
	s.toldNoSuccess(theirs, before[theirs.Name])
}

// A node that is down for whatever reason uses up the limit: here one that a
// person has cordoned. The others say so, and go when it is back.
func TestPeerThatIsDownUsesTheLimit(t *testing.T) {
	s := begin(t, 2*time.Minute)
	theirs, other := s.Node("node-a"), s.Node("node-b")
	before := s.bootIDs()
	s.personCordons(theirs)

	s.want(other)
	now := s.awaitSays(other, status.Queued, status.PeersUnavailable)
	if now.Queue == nil || len(now.Queue.Unavailable) != 1 || now.Queue.Unavailable[0] != theirs.Name {
		t.Errorf("%s waits for %+v", other.Name, now.Queue)
	}
	contains(t, "the detail", now.Detail, theirs.Name, "cordoned")
	s.must(s.SetCordon(s.ctx, theirs.Name, false))
	s.awaitBack(s.from, other, before[other.Name])
	s.atRest()
	s.rebootedOnce(before, other)
}

// uncounted makes a node go although another one is down.
func (s *story) uncounted(n *nodes.Node) {
	s.t.Helper()
	s.configure(n, "[drain]\n", "[lock]\ncount_unavailable = false\n[drain]\n")
}

// personCordons cordons a node as a person does, until the end of the story.
func (s *story) personCordons(n *nodes.Node) cluster.Position {
	s.t.Helper()
	s.afterwards("uncordon "+n.Name, func(ctx context.Context) error { return s.SetCordon(ctx, n.Name, false) })
	s.must(s.SetCordon(s.ctx, n.Name, true))
	return s.await(s.from, "the person's cordon", func(c cluster.State) bool { return c.IsCordoned(n.Name) })
}

// staysTheirs fails the test if a node that a person had cordoned was ever
// schedulable after that, or ever had our mark.
func (s *story) staysTheirs(since cluster.Position, n *nodes.Node) {
	s.t.Helper()
	s.must(s.Recorder.Sync(s.ctx))
	if s.Recorder.Since(since).Ever(func(c cluster.State) bool { return !c.IsCordoned(n.Name) || c.Mark(n.Name) != "" }) {
		s.t.Errorf("%s, which a person cordoned, was uncordoned or marked as ours", n.Name)
	}
}
