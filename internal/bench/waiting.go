package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// takeLock measures the way from the sentinel to the lock of an idle daemon:
// noticing the file, connecting, learning who it is, the gates, the write.
func (s *stage) takeLock(ctx context.Context, rounds int) ([]figure, error) {
	m, err := s.newMachine(ctx, takingMachine)
	if err != nil {
		return nil, err
	}
	defer m.stop()
	// Its drain never ends, so that no round becomes a reboot.
	if err := s.runPods(ctx, m.name, 1, func(int) map[string]string {
		return map[string]string{standin.NeverStopsAnnotation: "true"}
	}); err != nil {
		return nil, err
	}
	if err := m.start(); err != nil {
		return nil, err
	}
	if err := m.await(ctx, status.Idle); err != nil {
		return nil, err
	}
	asking, err := statusTime(m)
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for range rounds {
		took, err := s.takeOnce(ctx, m)
		if err != nil {
			return nil, err
		}
		all = append(all, took)
	}
	return []figure{asking, delays("sentinel appears → lock taken, settle time 0", 100*time.Millisecond, all)}, nil
}

func (s *stage) takeOnce(ctx context.Context, m *machine) (time.Duration, error) {
	// Not in step with anything.
	if err := pause(ctx, 10*time.Millisecond+rand.N(50*time.Millisecond)); err != nil {
		return 0, err
	}
	from, wanted := s.witness.next(), time.Now()
	if err := m.want(); err != nil {
		return 0, err
	}
	taken, err := s.witness.await(ctx, from, "the lock to be taken", func(l lock.State) bool { _, ok := l.Holders[m.name]; return ok })
	if err != nil {
		return 0, fmt.Errorf("%w; kured logged: %s", err, m.daemon.log.tail())
	}
	from = s.witness.latest()
	if err := m.unwant(); err != nil {
		return 0, err
	}
	if _, err := s.witness.await(ctx, from, "the lock to be released", free); err != nil {
		return 0, err
	}
	// Idle again, without a connection: the next round begins as cold as this one.
	return taken.at.Sub(wanted), m.await(ctx, status.Idle)
}

// statusTime is how long a person waits for kured status, the whole process.
func statusTime(m *machine) (figure, error) {
	var all []time.Duration
	for range 20 {
		c := m.command("status", "--socket", m.path("run/kured.sock"))
		began := time.Now()
		if output, err := c.CombinedOutput(); err != nil {
			return figure{}, fmt.Errorf("kured status: %w: %s", err, output)
		}
		all = append(all, time.Since(began))
	}
	median, limit := percentile(all, 50), 50*time.Millisecond
	return judged("`kured status`, whole process", "≤ "+millis(limit), fmt.Sprintf("p50 %s (of %d)", millis(median), len(all)), median <= limit), nil
}

// waiters is how many nodes wait while the lock goes from one to the next.
const waiters = 8

// asker is one node's lock, with the credential and the client of a node.
type asker struct {
	*lock.Lock
	cluster *kube.Cluster
}

// newAsker makes a node that is Ready and only asks for the lock.
func newAsker(ctx context.Context, plane *testenv.ControlPlane, name string) (*asker, error) {
	ready := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := plane.Admin().CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: ready}}, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	c, err := connect(ctx, plane, name)
	if err != nil {
		return nil, err
	}
	boot, err := node.NormalizeBootID(standin.NewBootID())
	if err != nil {
		return nil, err
	}
	store := lock.ConfigMap{Client: c.Client, Namespace: lockNamespace, Name: lockName, PolicyName: policyName}
	return &asker{cluster: c, Lock: &lock.Lock{
		Store: store, Rules: store, Evidence: c, Fleet: lock.Nodes{Client: c.Client}, Pace: lock.DefaultPace(),
		Node: c.NodeName, UID: c.UID, Boot: boot, Max: intstr.FromInt32(1), CountUnavailable: true, Room: waiters,
	}}, nil
}

// connect is a client as kured on that node has it.
func connect(ctx context.Context, plane *testenv.ControlPlane, name string) (*kube.Cluster, error) {
	kubeconfig, err := plane.Kubeconfig(name, testenv.NodeSubject(name))
	if err != nil {
		return nil, err
	}
	return kube.Connect(ctx, kube.Options{Kubeconfig: kubeconfig, Version: "bench"})
}

// handOver measures how long nobody uses the lock between two holders while
// others wait: from the call of the one that releases it until the next holds.
func (s *stage) handOver(ctx context.Context, rounds int) ([]figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel() // ends the waits
	holds := make(chan *asker)
	failed := make(chan error, waiters+1)
	ask := func(a *asker) {
		err := a.Acquire(ctx, lock.Demand{Reason: "linux-image", Since: time.Now()}, func(lock.Report) {})
		switch {
		case err == nil:
			select {
			case holds <- a:
			case <-ctx.Done():
			}
		case ctx.Err() == nil:
			failed <- err
		}
	}
	for i := range waiters + 1 {
		a, err := newAsker(ctx, s.plane, fmt.Sprintf("node-waiter-%d", i))
		if err != nil {
			return nil, err
		}
		defer a.cluster.CloseIdle()
		asking.Go(func() { ask(a) })
	}
	full := func(l lock.State) bool { return len(l.Holders) == 1 && len(l.Waiters) == waiters }
	var all []time.Duration
	var since time.Time
	size := 0
	from := 0
	for range rounds {
		var holder *asker
		select {
		case holder = <-holds:
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if _, err := s.witness.await(ctx, from, "all to wait", full); err != nil {
			return nil, err
		}
		if size == 0 {
			var err error
			if size, err = s.lockSize(ctx); err != nil {
				return nil, err
			}
			since = time.Now()
		}
		if err := pause(ctx, 20*time.Millisecond+rand.N(50*time.Millisecond)); err != nil {
			return nil, err
		}
		from = s.witness.next()
		began := time.Now()
		if err := holder.Release(ctx, holder.Boot); err != nil {
			return nil, err
		}
		next, err := s.witness.await(ctx, from, "the next holder", func(l lock.State) bool {
			_, same := l.Holders[holder.Node]
			return len(l.Holders) == 1 && !same
		})
		if err != nil {
			return nil, err
		}
		all = append(all, next.at.Sub(began))
		from = s.witness.next()
		asking.Go(func() { ask(holder) })
	}
	conflicts, err := s.plane.CountRequests(testenv.RequestFilter{Since: since, Resource: "configmaps", Name: lockName, Code: 409})
	if err != nil {
		return nil, err
	}
	cancel()
	asking.Wait()
	return []figure{
		delays(fmt.Sprintf("release → next node holds, %d waiting", waiters), 100*time.Millisecond, all),
		atMost("lost lock writes per holder (conflicts)", 0.2, float64(conflicts)/float64(rounds), "%.1f"),
		atMost(fmt.Sprintf("lock object with one holder and %d waiting", waiters), 4, float64(size)/1024, "%.1f KiB"),
	}, s.clearLock()
}

// lockSize is the whole object as JSON, with what the API server keeps about its fields.
func (s *stage) lockSize(ctx context.Context) (int, error) {
	object, err := s.plane.Admin().CoreV1().ConfigMaps(lockNamespace).Get(ctx, lockName, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(object)
	return len(text), err
}

// clearLock takes away what those left in it who were stopped while they waited.
func (s *stage) clearLock() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	store := lock.ConfigMap{Client: s.plane.Admin(), Namespace: lockNamespace, Name: lockName}
	for {
		now, err := store.Read(ctx)
		if err != nil {
			return err
		}
		var all lock.Edit
		for name := range now.State.Holders {
			all.Remove = append(all.Remove, "holder."+name)
		}
		for name := range now.State.Waiters {
			all.Remove = append(all.Remove, "waiter."+name)
		}
		if len(all.Remove) == 0 {
			return nil
		}
		if _, err := store.Write(ctx, now.Revision, all); err != nil && !errors.Is(err, lock.ErrConflict) {
			return err
		}
	}
}
