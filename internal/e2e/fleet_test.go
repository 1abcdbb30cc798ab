//go:build e2e

package e2e

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv"
)

// fleet is the one cluster of three nodes that the stories share: to start it
// takes longer than most of them.
var fleet shared

type shared struct {
	cluster *cluster.Cluster
	err     error // of the start, which is not tried again
}

func (s *shared) get() (*cluster.Cluster, error) {
	if s.cluster == nil && s.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		c, err := cluster.Start(ctx, cluster.Options{Config: cluster.QuickConfig, Out: os.Stderr})
		if err != nil {
			s.err = err
		} else {
			s.cluster = c
		}
	}
	return s.cluster, s.err
}

// close ends the cluster; the next story starts it anew. The error also tells
// what has crashed in it meanwhile.
func (s *shared) close() (err error) {
	if s.cluster != nil {
		err = s.cluster.Close()
	}
	*s = shared{}
	return err
}

// alone begins a test with nodes of its own: there is one room at a time.
func alone(t *testing.T) {
	t.Helper()
	if err := fleet.close(); err != nil {
		t.Errorf("the cluster of the stories before: %v", err)
	}
}

// story is one test on the shared cluster, from the moment when all is at rest.
type story struct {
	*cluster.Cluster
	t     *testing.T
	ctx   context.Context
	from  cluster.Position // where its history begins
	began time.Time
}

// begin starts the cluster if need be, waits until the story before has left
// everything clean, and bounds this one.
func begin(t *testing.T, limit time.Duration) *story {
	t.Helper()
	c, err := fleet.get()
	if err != nil {
		t.Fatalf("start the cluster: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	c.DumpOnFailure(t, t.Name())
	s := &story{Cluster: c, t: t, ctx: ctx}
	s.atRest()
	for _, n := range c.Room.Nodes() {
		s.must(n.Remove(ledger)) // each story has the reboots of a whole day
	}
	s.from, s.began = c.Recorder.Now(), time.Now()
	return s
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) atRest() {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, time.Minute, "cluster at rest")
	defer cancel()
	s.must(s.AtRest(ctx))
}

// await waits for a state of the cluster that came after from, however short it was.
func (s *story) await(from cluster.Position, what string, ok func(cluster.State) bool) cluster.Position {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, time.Minute, what)
	defer cancel()
	at, err := s.Recorder.Await(ctx, from, what, ok)
	s.must(err)
	return at
}

// history is every version since the story began.
func (s *story) history() cluster.History {
	s.t.Helper()
	s.must(s.Recorder.Sync(s.ctx))
	return s.Recorder.Since(s.from)
}

// bootIDs of all nodes, by name.
func (s *story) bootIDs() map[string]string {
	s.t.Helper()
	ids := map[string]string{}
	for _, n := range s.Room.Nodes() {
		id, err := n.BootID()
		s.must(err)
		ids[n.Name] = id
	}
	return ids
}

// journal is what kured's two units wrote on a node since the story began, in
// one boot or, without a boot id, in all.
func (s *story) journal(n *nodes.Node, bootID string) []nodes.Entry {
	s.t.Helper()
	entries, err := n.Journal(s.ctx, bootID, "kured.service", "kured-uncordon.service")
	s.must(err)
	return slices.DeleteFunc(entries, func(e nodes.Entry) bool { return e.Time.Before(s.began) })
}

// ledger is where a node's kured counts its reboots.
const ledger = "/var/lib/kured/reboots.json"

// evictions are the requests that evict pods.
var evictions = testenv.RequestFilter{Verb: "create", Resource: "pods", Subresource: "eviction"}
