//go:build e2e

package e2e

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
)

// TestCluster shows that the cluster of the other tests is one, without kured.
func TestCluster(t *testing.T) {
	alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{WithoutKured: true, Out: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.DumpOnFailure(t, t.Name())
	from := c.Recorder.Now()
	n := c.Node("node-b")

	work := cluster.Workload{Name: "web", Replicas: 3, MinAvailable: 1}
	if err := c.Deploy(ctx, work); err != nil {
		t.Fatal(err)
	}
	pods, err := c.Pods(ctx, work)
	if err != nil {
		t.Fatal(err)
	}
	on := make(map[string]int)
	for _, p := range pods {
		on[p.Spec.NodeName]++
	}
	if len(on) != 3 {
		t.Errorf("3 pods run on %v, want one on each node", on)
	}

	before, err := n.BootID()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetCordon(ctx, n.Name, true); err != nil {
		t.Fatal(err)
	}
	if err := n.Reboot(ctx); err != nil {
		t.Logf("reboot: %v", err)
	}
	after, err := n.WaitBooted(ctx, before)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recorder.Await(ctx, from, "the kubelet of the new boot", func(s cluster.State) bool {
		return s.BootID(n.Name) == after && s.IsReady(n.Name)
	}); err != nil {
		t.Fatal(err)
	}

	if err := c.Plane.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.Plane.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.SetCordon(ctx, n.Name, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Recorder.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	h := c.Recorder.Since(from)
	if got := h.BootIDs(n.Name); !slices.Equal(got, []string{before, after}) {
		t.Errorf("recorded boot ids %v, want %v", got, []string{before, after})
	}
	spans := h.CordonSpans()
	if len(spans) != 1 || spans[0].Node != n.Name || spans[0].To.IsZero() || h.MaxCordoned() != 1 || h.MaxHolders() != 0 {
		t.Errorf("recorded cordons %v, want one of %s that ended; holders %v", spans, n.Name, h.HolderSpans())
	}
	if err := c.Undeploy(ctx, work); err != nil {
		t.Error(err)
	}
}
