package drain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/lab"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// Everything that a node can carry, drained with the kubelet's credential: what may leave runs on the other
// node afterwards, what stays is still there, and nobody asked more than needed.
func TestDrainReal(t *testing.T) {
	l := plane.New(t, "drain-all")
	one := l.Machine("one")
	l.Deployment("web", 4, map[string]string{standin.StopAfterAnnotation: "1s"})
	l.StatefulSet("db", 2)
	l.DaemonSet("agent")
	l.MirrorPod("static", one)
	l.NakedPod("naked", one.Name(), nil)
	l.NakedPod("finished", one.Name(), nil)
	l.Running(one.Name(), 4+2+1+1+1+1)
	_, err := l.Admin.CoreV1().Pods(l.Name).Patch(t.Context(), "finished", types.MergePatchType,
		[]byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
	l.Must(err)
	two := l.Machine("two")
	kured := kuredOn(t, l, one)

	marked, err := kured.Cordon(t.Context())
	if !marked || err != nil {
		t.Fatalf("Cordon = %v, %v", marked, err)
	}
	begun := time.Now()
	r := kured.Drain(t.Context(), drain.Options{Timeout: time.Minute, GracePeriod: -1}, nil)
	if !r.Drained || r.Total != 8 || r.Gone != 8 {
		t.Fatalf("result %s: %+v", r, r)
	}
	for _, pod := range l.PodsOn(one.Name()) {
		if pod.Name != "static" && !strings.HasPrefix(pod.Name, "agent-") || pod.DeletionTimestamp != nil {
			t.Errorf("on the drained node: %s", pod.Name)
		}
	}
	l.Running(one.Name(), 2)
	l.Running(two.Name(), 4+2+1)

	if n := len(l.Requests(begun, lab.IsEviction)); n != 8 {
		t.Errorf("%d evictions, want 8", n)
	}
	others := l.Requests(begun, func(r testenv.Request) bool { return !lab.IsEviction(r) })
	if len(others) != 3 { // list, watch, one DaemonSet
		t.Errorf("requests beside the evictions: %v, want 3", others)
	}

	changed, err := kured.Uncordon(t.Context(), stateOf(t, kured).Mark)
	if state := stateOf(t, kured); !changed || err != nil || state.Unschedulable || state.Mark != "" {
		t.Errorf("Uncordon = %v, %v; then %+v", changed, err, state)
	}
}

// A budget that allows nothing: never asked faster than every 5 s, named in the result; and when it is
// lifted in the middle, the drain goes on by itself.
func TestDrainRealBudget(t *testing.T) {
	l := plane.New(t, "drain-budget")
	one := l.Machine("one")
	l.Deployment("web", 2, nil)
	l.Running(one.Name(), 2)
	l.Budget("web-budget", "web", 2)
	kured := kuredOn(t, l, one)
	_, err := kured.Cordon(t.Context())
	l.Must(err)

	begun := time.Now()
	r := kured.Drain(t.Context(), drain.Options{Timeout: 14 * time.Second, GracePeriod: -1}, nil)
	if r.Drained || !errors.Is(r.Err, drain.ErrTimeout) || len(r.Held) != 2 {
		t.Fatalf("result %s", r)
	}
	for _, h := range r.Held {
		want := fmt.Sprintf("pod %s/%s held by PodDisruptionBudget %s/web-budget: needs 2 healthy, has 2", l.Name, h.Name, l.Name)
		if h.String() != want || h.Why != drain.WhyBudget {
			t.Errorf("held: %s, want %s", h, want)
		}
		evictions := l.Requests(begun, func(r testenv.Request) bool { return lab.IsEviction(r) && r.Name == h.Name })
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
	r = kured.Drain(t.Context(), drain.Options{Timeout: time.Minute, GracePeriod: -1}, func(p drain.Progress) {
		if len(p.Held) == 2 && !lifted {
			lifted = true
			l.Must(l.Admin.PolicyV1().PodDisruptionBudgets(l.Name).Delete(t.Context(), "web-budget", metav1.DeleteOptions{}))
		}
	})
	if !lifted || !r.Drained || r.Gone != 2 {
		t.Errorf("after the budget went: %s", r)
	}
}

// The server answers 201 when two budgets select the pod, with a failure in the body: kubectl takes it for success.
func TestDrainRealTwoBudgets(t *testing.T) {
	l := plane.New(t, "drain-two-budgets")
	one := l.Machine("one")
	l.Deployment("web", 1, nil)
	l.Running(one.Name(), 1)
	l.Budget("first", "web", 0)
	l.Budget("second", "web", 0)
	r := kuredOn(t, l, one).Drain(t.Context(), drain.Options{Timeout: 3 * time.Second, GracePeriod: -1}, nil)
	if r.Drained || len(r.Held) != 1 || r.Held[0].Why != drain.WhyRefused || !strings.Contains(r.Held[0].Detail, "more than one PodDisruptionBudget") {
		t.Errorf("result %s: %+v", r, r.Held)
	}
}

func TestDrainRealPodThatNeverStops(t *testing.T) {
	l := plane.New(t, "drain-stuck")
	one := l.Machine("one")
	pod := l.NakedPod("stuck", one.Name(), map[string]string{standin.NeverStopsAnnotation: "true"})
	l.Running(one.Name(), 1)
	var seen drain.Progress
	r := kuredOn(t, l, one).Drain(t.Context(), drain.Options{Timeout: 8 * time.Second, GracePeriod: time.Second},
		func(p drain.Progress) { seen = p })
	want := fmt.Sprintf("time is up; 1 of 1 pod left; pod %s/stuck still terminating: its grace period of 1s is over", l.Name)
	if r.Drained || len(r.Held) != 1 || !strings.HasSuffix(r.String(), want) {
		t.Fatalf("result %s, want %s", r, want)
	}
	if h := r.Held[0]; h.Why != drain.WhyTerminating || h.UID != string(pod.UID) || h.Attempts != 1 {
		t.Errorf("held %+v", h)
	}
	if len(seen.Held) != 1 {
		t.Errorf("the last progress, %q, does not name it", seen)
	}
}

// The API server crashes in the middle of a drain and comes back: nothing is lost.
func TestDrainRealAPIServerRestarts(t *testing.T) {
	l := plane.New(t, "drain-outage")
	one := l.Machine("one")
	l.Deployment("web", 8, map[string]string{standin.StopAfterAnnotation: "15s"})
	l.Running(one.Name(), 8)
	l.Budget("web-budget", "web", 6) // so that some are still to be evicted when the server is back
	two := l.Machine("two")
	kured := kuredOn(t, l, one)
	_, err := kured.Cordon(t.Context())
	l.Must(err)

	restarted := make(chan error, 1)
	troubled := make(chan struct{})
	stopped, troubles := false, 0
	r := kured.Drain(t.Context(), drain.Options{Timeout: 2 * time.Minute, GracePeriod: -1}, func(p drain.Progress) {
		if p.Evicted > 0 && !stopped {
			stopped = true
			go func() {
				if err := l.Plane.StopAPIServer(); err != nil {
					restarted <- err
					return
				}
				<-troubled
				restarted <- l.Plane.StartAPIServer(t.Context())
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
	l.Running(two.Name(), 8)
	l.Running(one.Name(), 0)
}
