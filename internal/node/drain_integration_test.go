package node_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// Everything that a node can carry, drained with the kubelet's credential: what may leave runs on the other
// node afterwards, what stays is still there, and nobody asked more than needed.
func TestDrainReal(t *testing.T) {
	l := newLab(t, "drain-all")
	one := l.machine("one")
	l.deployment("web", 4, map[string]string{standin.StopAfterAnnotation: "1s"})
	l.statefulSet("db", 2)
	l.daemonSet("agent")
	l.mirrorPod("static", one)
	l.nakedPod("naked", one.Name(), nil)
	l.nakedPod("finished", one.Name(), nil)
	l.running(one.Name(), 4+2+1+1+1+1)
	_, err := l.k8s.CoreV1().Pods(l.name).Patch(t.Context(), "finished", types.MergePatchType,
		[]byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
	l.must(err)
	two := l.machine("two")
	kured := l.kured(one)

	marked, err := kured.Cordon(t.Context())
	if !marked || err != nil {
		t.Fatalf("Cordon = %v, %v", marked, err)
	}
	begun := time.Now()
	r := kured.Drain(t.Context(), node.DrainOptions{Timeout: time.Minute, GracePeriod: -1}, nil)
	if !r.Drained || r.Total != 8 || r.Gone != 8 {
		t.Fatalf("result %s: %+v", r, r)
	}
	for _, pod := range l.podsOn(one.Name()) {
		if pod.Name != "static" && !strings.HasPrefix(pod.Name, "agent-") || pod.DeletionTimestamp != nil {
			t.Errorf("on the drained node: %s", pod.Name)
		}
	}
	l.running(one.Name(), 2)
	l.running(two.Name(), 4+2+1)

	if n := len(l.requests(begun, isEviction)); n != 8 {
		t.Errorf("%d evictions, want 8", n)
	}
	others := l.requests(begun, func(r testenv.Request) bool { return !isEviction(r) })
	if len(others) != 3 { // list, watch, one DaemonSet
		t.Errorf("requests beside the evictions: %v, want 3", others)
	}

	changed, err := kured.Uncordon(t.Context(), l.get(kured).Mark)
	if state := l.get(kured); !changed || err != nil || state.Unschedulable || state.Mark != "" {
		t.Errorf("Uncordon = %v, %v; then %+v", changed, err, state)
	}
}

// A budget that allows nothing: never asked faster than every 5 s, named in the result; and when it is
// lifted in the middle, the drain goes on by itself.
func TestDrainRealBudget(t *testing.T) {
	l := newLab(t, "drain-budget")
	one := l.machine("one")
	l.deployment("web", 2, nil)
	l.running(one.Name(), 2)
	l.budget("web-budget", "web", 2)
	kured := l.kured(one)
	_, err := kured.Cordon(t.Context())
	l.must(err)

	begun := time.Now()
	r := kured.Drain(t.Context(), node.DrainOptions{Timeout: 14 * time.Second, GracePeriod: -1}, nil)
	if r.Drained || !errors.Is(r.Err, node.ErrDrainTimeout) || len(r.Held) != 2 {
		t.Fatalf("result %s", r)
	}
	for _, h := range r.Held {
		want := fmt.Sprintf("pod %s/%s held by PodDisruptionBudget %s/web-budget: needs 2 healthy, has 2", l.name, h.Name, l.name)
		if h.String() != want || h.Why != node.WhyBudget {
			t.Errorf("held: %s, want %s", h, want)
		}
		evictions := l.requests(begun, func(r testenv.Request) bool { return isEviction(r) && r.Name == h.Name })
		if len(evictions) != h.Attempts || h.Attempts < 2 {
			t.Errorf("%d evictions on the server, %d in the result", len(evictions), h.Attempts)
		}
		for i := 1; i < len(evictions); i++ {
			if gap := evictions[i].Time.Sub(evictions[i-1].Time); gap < 5*time.Second {
				t.Errorf("%s was asked again after %s", h.Name, gap)
			}
		}
	}

	lifted := false
	r = kured.Drain(t.Context(), node.DrainOptions{Timeout: time.Minute, GracePeriod: -1}, func(p node.Progress) {
		if len(p.Held) == 2 && !lifted {
			lifted = true
			l.must(l.k8s.PolicyV1().PodDisruptionBudgets(l.name).Delete(t.Context(), "web-budget", metav1.DeleteOptions{}))
		}
	})
	if !lifted || !r.Drained || r.Gone != 2 {
		t.Errorf("after the budget went: %s", r)
	}
}

// The server answers 201 when two budgets select the pod, with a failure in the body: kubectl takes it for success.
func TestDrainRealTwoBudgets(t *testing.T) {
	l := newLab(t, "drain-two-budgets")
	one := l.machine("one")
	l.deployment("web", 1, nil)
	l.running(one.Name(), 1)
	l.budget("first", "web", 0)
	l.budget("second", "web", 0)
	r := l.kured(one).Drain(t.Context(), node.DrainOptions{Timeout: 3 * time.Second, GracePeriod: -1}, nil)
	if r.Drained || len(r.Held) != 1 || r.Held[0].Why != node.WhyRefused || !strings.Contains(r.Held[0].Detail, "more than one PodDisruptionBudget") {
		t.Errorf("result %s: %+v", r, r.Held)
	}
}

func TestDrainRealPodThatNeverStops(t *testing.T) {
	l := newLab(t, "drain-stuck")
	one := l.machine("one")
	pod := l.nakedPod("stuck", one.Name(), map[string]string{standin.NeverStopsAnnotation: "true"})
	l.running(one.Name(), 1)
	var seen node.Progress
	r := l.kured(one).Drain(t.Context(), node.DrainOptions{Timeout: 8 * time.Second, GracePeriod: time.Second},
		func(p node.Progress) { seen = p })
	want := fmt.Sprintf("time is up; 1 of 1 pod left; pod %s/stuck still terminating: its grace period of 1s is over", l.name)
	if r.Drained || len(r.Held) != 1 || !strings.HasSuffix(r.String(), want) {
		t.Fatalf("result %s, want %s", r, want)
	}
	if h := r.Held[0]; h.Why != node.WhyTerminating || h.UID != string(pod.UID) || h.Attempts != 1 {
		t.Errorf("held %+v", h)
	}
	if len(seen.Held) != 1 {
		t.Errorf("the last progress, %q, does not name it", seen)
	}
}

// The API server crashes in the middle of a drain and comes back: nothing is lost.
func TestDrainRealAPIServerRestarts(t *testing.T) {
	l := newLab(t, "drain-outage")
	one := l.machine("one")
	l.deployment("web", 8, map[string]string{standin.StopAfterAnnotation: "15s"})
	l.running(one.Name(), 8)
	l.budget("web-budget", "web", 6) // so that some are still to be evicted when the server is back
	two := l.machine("two")
	kured := l.kured(one)
	_, err := kured.Cordon(t.Context())
	l.must(err)

	restarted := make(chan error, 1)
	troubled := make(chan struct{})
	stopped, troubles := false, 0
	r := kured.Drain(t.Context(), node.DrainOptions{Timeout: 2 * time.Minute, GracePeriod: -1}, func(p node.Progress) {
		if p.Evicted > 0 && !stopped {
			stopped = true
			go func() {
				if err := l.cp.StopAPIServer(); err != nil {
					restarted <- err
					return
				}
				<-troubled
				restarted <- l.cp.StartAPIServer(t.Context())
			}()
		}
		if p.Trouble != "" {
			if troubles++; troubles == 1 {
				close(troubled)
			}
		}
	})
	if !stopped || troubles == 0 {
		t.Fatalf("the API server was not missed; result %s", r)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if !r.Drained || r.Gone != 8 || r.Trouble != "" {
		t.Errorf("result %s: %+v", r, r)
	}
	l.running(two.Name(), 8)
	l.running(one.Name(), 0)
}
