package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// pod makes a pod on the machine, changed as the test wants it.
func (l *lab) pod(name, machine string, change func(*corev1.Pod)) *corev1.Pod {
	l.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: l.podSpec(machine)}
	change(pod)
	pod, err := l.k8s.CoreV1().Pods(l.name).Create(l.t.Context(), pod, metav1.CreateOptions{})
	l.must(err)
	return pod
}

// The critical pods leave after all others are gone, and the priorities one after the other.
func TestDrainRealOrder(t *testing.T) {
	for _, tt := range []struct {
		order node.Order
		want  string
	}{
		{node.CriticalLast, "quick slow dns"},
		{node.ByPriority, "slow quick dns"},
		{node.Together, "dns quick slow"},
	} {
		l := newLab(t, "drain-order")
		one := l.machine("one")
		high, err := l.k8s.SchedulingV1().PriorityClasses().Create(t.Context(), priorityClass(l.name), metav1.CreateOptions{})
		l.must(err)
		stops := func(after, class string) func(*corev1.Pod) {
			return func(pod *corev1.Pod) {
				pod.Annotations = map[string]string{standin.StopAfterAnnotation: after}
				pod.Spec.PriorityClassName = class
			}
		}
		l.pod("dns", one.Name(), stops("100ms", "system-cluster-critical"))
		l.pod("quick", one.Name(), stops("700ms", high.Name))
		l.pod("slow", one.Name(), stops("2s", ""))
		l.running(one.Name(), 3)
		kured := l.kured(one)
		_, err = kured.Cordon(t.Context())
		l.must(err)

		watcher, err := l.k8s.CoreV1().Pods(l.name).Watch(t.Context(), metav1.ListOptions{})
		l.must(err)
		defer watcher.Stop()
		r := kured.Drain(t.Context(), node.DrainOptions{Timeout: time.Minute, GracePeriod: -1, Order: tt.order}, nil)
		if !r.Drained || r.Gone != 3 {
			t.Fatalf("%s: %s", tt.order, r)
		}
		var gone []string
		for len(gone) < 3 {
			if event := <-watcher.ResultChan(); event.Type == watch.Deleted {
				gone = append(gone, event.Object.(*corev1.Pod).Name)
			}
		}
		if got := strings.Join(gone, " "); got != tt.want {
			t.Errorf("%s: left in the order %s, want %s", tt.order, got, tt.want)
		}
	}
}

// When the time is up nothing keeps a pod: not a budget that never allows anything. A pod whose finalizer nobody
// removes is left behind, and named.
func TestDrainRealForce(t *testing.T) {
	l := newLab(t, "drain-force")
	one := l.machine("one")
	l.deployment("web", 2, nil)
	l.running(one.Name(), 2)
	l.budget("web-budget", "web", 2)
	l.pod("kept", one.Name(), func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/keep"} })
	t.Cleanup(func() { l.dropFinalizers("kept") })
	l.running(one.Name(), 3)
	kured := l.kured(one)
	_, err := kured.Cordon(t.Context())
	l.must(err)

	var web []string
	for _, pod := range l.podsOn(one.Name()) {
		if pod.Name != "kept" {
			web = append(web, l.name+"/"+pod.Name)
		}
	}
	begun := time.Now()
	r := kured.Drain(t.Context(), node.DrainOptions{Timeout: 7 * time.Second, GracePeriod: time.Second, OnTimeout: node.Force}, nil)
	if !r.Drained || r.Err != nil || r.Gone != 2 || r.Total != 3 || !slices.Equal(r.Forced, web) {
		t.Fatalf("%s; forced %v, want %v", r, r.Forced, web)
	}
	want := fmt.Sprintf("; left behind: pod %s/kept still terminating: it has stopped, finalizers example.com/keep", l.name)
	if len(r.Left) != 1 || !strings.HasSuffix(r.String(), want) {
		t.Errorf("%s, want %s", r, want)
	}
	if r.Took < time.Minute {
		t.Errorf("the pod with the finalizer got %s", r.Took)
	}
	for _, e := range l.requests(begun, isEviction) {
		if e.Time.Sub(begun) > 8*time.Second {
			t.Errorf("eviction of %s after the time was up", e.Name)
		}
	}
	if n := len(l.requests(begun, func(r testenv.Request) bool { return r.Verb == "delete" && r.Code == 200 })); n != 2 {
		t.Errorf("%d deletions, want 2", n)
	}
}

func (l *lab) dropFinalizers(name string) {
	// The test's own context has ended.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := l.k8s.CoreV1().Pods(l.name).Patch(ctx, name, types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		l.t.Error(err)
	}
}

// One pod that would lose something is enough: not one is evicted, and all of them are named.
func TestDrainRealRefuses(t *testing.T) {
	l := newLab(t, "drain-refuse")
	one := l.machine("one")
	l.deployment("web", 2, nil)
	l.pod("naked", one.Name(), func(*corev1.Pod) {})
	l.pod("scratch", one.Name(), func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	})
	l.running(one.Name(), 4)
	kured := l.kured(one)
	for _, tt := range []struct {
		opts node.DrainOptions
		want []string
	}{
		{node.DrainOptions{EmptyDir: node.Refuse}, []string{"/scratch may not be evicted: it would lose the data of its emptyDir volumes"}},
		{node.DrainOptions{NakedPods: node.Refuse}, []string{"/naked may not be evicted: nobody would make it anew", "/scratch may not be evicted: nobody would make it anew"}},
	} {
		begun := time.Now()
		tt.opts.GracePeriod = -1
		r := kured.Drain(t.Context(), tt.opts, nil)
		report, err := kured.Preflight(t.Context(), tt.opts)
		if !errors.Is(r.Err, node.ErrRefused) || err != nil || !errors.Is(report.Err(), node.ErrRefused) || len(report.Refused) != len(tt.want) {
			t.Fatalf("%s; preflight %v, %s", r, err, report)
		}
		for _, want := range tt.want {
			if !strings.Contains(r.String(), l.name+want) || !strings.Contains(report.String(), l.name+want) {
				t.Errorf("%s\n%s\nwant %s", r, report, want)
			}
		}
		// The preflight asked about the others, in dry runs.
		if n := len(l.requests(begun, isEviction)); n != 4-len(tt.want) {
			t.Errorf("%d evictions, dry runs included", n)
		}
	}
	l.running(one.Name(), 4)
}

// Somebody deleted a pod long ago, and it never stopped.
func TestDrainRealDoesNotWaitForOldDeletions(t *testing.T) {
	l := newLab(t, "drain-skip")
	one := l.machine("one")
	l.nakedPod("stuck", one.Name(), map[string]string{standin.NeverStopsAnnotation: "true"})
	l.nakedPod("web", one.Name(), nil)
	l.running(one.Name(), 2)
	second := int64(1)
	l.must(l.k8s.CoreV1().Pods(l.name).Delete(t.Context(), "stuck", metav1.DeleteOptions{GracePeriodSeconds: &second}))
	r := l.kured(one).Drain(t.Context(), node.DrainOptions{Timeout: time.Minute, GracePeriod: -1, SkipWaitForDelete: 2 * time.Second}, nil)
	if want := "; not waited for, being deleted for too long: " + l.name + "/stuck"; !r.Drained || r.Gone != 1 || !strings.HasSuffix(r.String(), want) {
		t.Errorf("%s, want %s", r, want)
	}
	if pods := l.podsOn(one.Name()); len(pods) != 1 || pods[0].Name != "stuck" {
		t.Errorf("%d pods on the node", len(pods))
	}
}

func TestDrainRealSelectsPods(t *testing.T) {
	l := newLab(t, "drain-select")
	one := l.machine("one")
	l.deployment("web", 2, nil)
	l.nakedPod("other", one.Name(), nil)
	l.running(one.Name(), 3)
	kured := l.kured(one)
	_, err := kured.Cordon(t.Context())
	l.must(err)
	r := kured.Drain(t.Context(), node.DrainOptions{Timeout: time.Minute, GracePeriod: -1, PodSelector: "app=web"}, nil)
	if !r.Drained || r.Gone != 2 {
		t.Errorf("%s", r)
	}
	l.running(one.Name(), 1)
}
