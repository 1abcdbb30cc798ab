//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

// A PodDisruptionBudget allows nothing. The node asks patiently, says what it
// waits for, gives up in time, lets another node go, and goes itself once the
// budget is gone.
func TestBudgetThatAllowsNothing(t *testing.T) {
	s := begin(t, 3*time.Minute)
	first, other := s.Node("node-a"), s.Node("node-b")
	stuck := cluster.Workload{Name: "stuck", Replicas: 1, MinAvailable: 1, On: first.Name}
	s.deploy(stuck)
	s.configure(first, `timeout = "20s"`, `timeout = "10s"`) // long enough to ask again
	pods, err := s.Pods(s.ctx, stuck)
	s.must(err)
	pod, budget := "default/"+pods[0].Name, "default/"+stuck.Name
	before := s.bootIDs()

	s.want(first)
	held := s.await(s.from, first.Name+" to hold", func(c cluster.State) bool { return c.Holds(first.Name) })
	s.want(other)
	now := s.awaitStatus(first, "the pod that holds up", func(now status.Status) bool { return now.Drain != nil && len(now.Drain.Held) > 0 })
	contains(t, "kured status", now.Drain.Held[0], pod, budget)
	contains(t, "kured status", now.Detail, pod, budget)
	contains(t, "StatusText", s.statusText(first), "draining: 0 of 1 pod gone", pod, budget)
	s.await(held, other.Name+" in the waiting room", func(c cluster.State) bool {
		return c.Holds(first.Name) && len(c.Waiters()) == 1 && c.Waiters()[0] == other.Name
	})

	gaveUp := s.awaitGivenBack(held, first, before[first.Name])
	told := s.awaitTold(first, status.DrainTimeout)
	contains(t, "the journal", told.Message, "time is up", pod, budget)
	if told.Fields["KURED_PHASE"] != string(status.RollingBack) {
		t.Errorf("the time-out is told with phase %q", told.Fields["KURED_PHASE"])
	}
	next := s.await(gaveUp, other.Name+" to hold", func(c cluster.State) bool { return c.Holds(other.Name) })

	// Now a person removes the budget: the pod may go, and so may the node, later.
	s.must(s.Client.PolicyV1().PodDisruptionBudgets("default").Delete(s.ctx, stuck.Name, metav1.DeleteOptions{}))
	back := s.awaitBack(next, other, before[other.Name])
	s.awaitBack(back, first, before[first.Name])
	s.atRest()

	s.rebootedOnce(before, first, other)
	h := s.history()
	tries, cordons := spansOf(first, h.HolderSpans()), spansOf(first, h.CordonSpans())
	if len(tries) != 2 || len(cordons) != 2 {
		t.Fatalf("%s held %v and was cordoned %v, want two tries", first.Name, tries, cordons)
	}
	if n := h.MaxCordoned(); n != 1 {
		t.Errorf("%d nodes cordoned at once", n)
	}
	if late := cordons[0].To.Sub(told.Time); late > 15*time.Second {
		t.Errorf("uncordoned %s after the time-out", late)
	}
	s.patient(tries[0], pod)
	s.toldNoSuccess(first, before[first.Name])
}

// patient fails the test unless a pod was evicted at most every five seconds
// in the time that a node held the lock.
func (s *story) patient(try cluster.Span, pod string) {
	s.t.Helper()
	filter := evictions
	filter.Name = strings.TrimPrefix(pod, "default/")
	all, err := s.Plane.Requests(filter)
	s.must(err)
	var asked []testenv.Request
	for _, r := range all {
		if r.Time.After(try.From) && r.Time.Before(try.To) {
			asked = append(asked, r)
		}
	}
	if len(asked) < 2 {
		s.t.Errorf("%d evictions in %s: it never asked again", len(asked), try.To.Sub(try.From))
	}
	for i, r := range asked {
		if r.Code != 429 {
			s.t.Errorf("eviction answered with %d", r.Code)
		}
		if r.User != "system:node:"+try.Node {
			s.t.Errorf("eviction by %s", r.User)
		}
		if i > 0 && r.Time.Sub(asked[i-1].Time) < 5*time.Second {
			s.t.Errorf("evicted again after %s: more than 0.2 a second", r.Time.Sub(asked[i-1].Time))
		}
	}
}
