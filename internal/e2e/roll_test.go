//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
)

// All three nodes want to reboot at the same moment. Each does so exactly
// once, one after the other, and the pods of a Deployment run elsewhere
// meanwhile.
func TestRoll(t *testing.T) {
	s := begin(t, 3*time.Minute)
	work := cluster.Workload{Name: "web", Replicas: 6, MinAvailable: 4, StopAfter: 500 * time.Millisecond}
	s.deploy(work)
	before := s.bootIDs()

	s.want(s.Room.Nodes()...)
	ctx, cancel := cluster.Within(s.ctx, 2*time.Minute, "every node rebooted and the cluster at rest")
	defer cancel()
	for _, n := range s.Room.Nodes() {
		_, err := n.WaitBooted(ctx, before[n.Name])
		s.must(err)
	}
	s.must(s.AtRest(ctx))

	h := s.history()
	if n := h.MaxHolders(); n != 1 {
		t.Errorf("%d holders at once", n)
	}
	if n := h.MaxCordoned(); n != 1 {
		t.Errorf("%d nodes cordoned at once", n)
	}
	after := s.bootIDs()
	for _, n := range s.Room.Nodes() {
		if ids := h.BootIDs(n.Name); len(ids) != 2 || ids[0] != before[n.Name] || ids[1] != after[n.Name] {
			t.Errorf("%s: boot ids %v, want one change", n.Name, ids)
		}
		var told []string
		for _, e := range s.journal(n, "") {
			if e.Fields["KURED_NODE"] == n.Name || strings.Contains(e.Message, "reboot required") {
				told = append(told, e.Message)
			}
		}
		if len(told) == 0 || len(told) > 15 {
			t.Errorf("%s: the journal tells the cycle in %d lines", n.Name, len(told))
		}
		t.Logf("%s:\n  %s", n.Name, strings.Join(told, "\n  "))
	}
	if moved := s.evicted(work); moved < 6 {
		t.Errorf("%d evictions, want each of the 6 pods at least once", moved)
	}
	t.Logf("%d lock writes for three reboots; held: %v", h.LockWrites(), h.HolderSpans())
}

// evicted counts the accepted evictions of a workload's pods.
func (s *story) evicted(w cluster.Workload) int {
	s.t.Helper()
	n := 0
	filter := evictions
	filter.Since = s.began
	requests, err := s.Plane.Requests(filter)
	s.must(err)
	for _, r := range requests {
		if strings.HasPrefix(r.Name, w.Name+"-") && r.Code == 201 {
			n++
		}
	}
	return n
}
