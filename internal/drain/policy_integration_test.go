package drain_test

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

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/lab"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// The critical pods leave after all others are gone, and the priorities one after the other.
func TestDrainRealOrder(t *testing.T) {
	for _, tt := range []struct {
		order drain.Order
		want  string
	}{
		{drain.CriticalLast, "quick slow dns"},
		{drain.ByPriority, "slow quick dns"},
		{drain.Together, "dns quick slow"},
	} {
		l := plane.New(t, "drain-order")
		one := l.Machine("one")
		high, err := l.Admin.SchedulingV1().PriorityClasses().Create(t.Context(), priorityClass(l.Name), metav1.CreateOptions{})
		l.Must(err)
		stops := func(after, class string) func(*corev1.Pod) {
			return func(pod *corev1.Pod) {
				pod.Annotations = map[string]string{standin.StopAfterAnnotation: after}
				pod.Spec.PriorityClassName = class
			}
		}
		l.Pod("dns", one.Name(), stops("100ms", "system-cluster-critical"))
		l.Pod("quick", one.Name(), stops("700ms", high.Name))
		l.Pod("slow", one.Name(), stops("2s", ""))
		l.Running(one.Name(), 3)
		kured := kuredOn(t, l, one)
		_, err = kured.Cordon(t.Context())
		l.Must(err)

		watcher, err := l.Admin.CoreV1().Pods(l.Name).Watch(t.Context(), metav1.ListOptions{})
		l.Must(err)
		defer watcher.Stop()
		r := kured.Drain(t.Context(), drain.Options{Timeout: time.Minute, GracePeriod: -1, Order: tt.order}, nil)
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
	l := plane.New(t, "drain-force")
	one := l.Machine("one")
	l.Deployment("web", 2, nil)
	l.Running(one.Name(), 2)
	l.Budget("web-budget", "web", 2)
	l.Pod("kept", one.Name(), func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/keep"} })
	t.Cleanup(func() { dropFinalizers(t, l, "kept") })
	l.Running(one.Name(), 3)
	kured := kuredOn(t, l, one)
	_, err := kured.Cordon(t.Context())
	l.Must(err)

	var web []string
	for _, pod := range l.PodsOn(one.Name()) {
		if pod.Name != "kept" {
			web = append(web, l.Name+"/"+pod.Name)
		}
	}
	begun := time.Now()
	r := kured.Drain(t.Context(), drain.Options{Timeout: 7 * time.Second, GracePeriod: time.Second, OnTimeout: drain.Force}, nil)
	if !r.Drained || r.Err != nil || r.Gone != 2 || r.Total != 3 || !slices.Equal(r.Forced, web) {
		t.Fatalf("%s; forced %v, want %v", r, r.Forced, web)
	}
	want := fmt.Sprintf("; left behind: pod %s/kept still terminating: it has stopped, finalizers example.com/keep", l.Name)
	if len(r.Left) != 1 || !strings.HasSuffix(r.String(), want) {
		t.Errorf("%s, want %s", r, want)
	}
	if r.Took < time.Minute {
		t.Errorf("the pod with the finalizer got %s", r.Took)
	}
	for _, e := range l.Requests(begun, lab.IsEviction) {
		if e.Time.Sub(begun) > 8*time.Second {
			t.Errorf("eviction of %s after the time was up", e.Name)
		}
	}
	if n := len(l.Requests(begun, func(r testenv.Request) bool { return r.Verb == "delete" && r.Code == 200 })); n != 2 {
		t.Errorf("%d deletions, want 2", n)
	}
}

func dropFinalizers(t *testing.T, l *lab.Lab, name string) {
	// The test's own context has ended.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := l.Admin.CoreV1().Pods(l.Name).Patch(ctx, name, types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Error(err)
	}
}

// One pod that would lose something is enough: not one is evicted, and all of them are named.
func TestDrainRealRefuses(t *testing.T) {
	l := plane.New(t, "drain-refuse")
	one := l.Machine("one")
	l.Deployment("web", 2, nil)
	l.Pod("naked", one.Name(), func(*corev1.Pod) {})
	l.Pod("scratch", one.Name(), func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	})
	l.Running(one.Name(), 4)
	kured := kuredOn(t, l, one)
	for _, tt := range []struct {
		opts drain.Options
		want []string
	}{
		{drain.Options{EmptyDir: drain.Refuse}, []string{"/scratch may not be evicted: it would lose the data of its emptyDir volumes"}},
		{drain.Options{NakedPods: drain.Refuse}, []string{"/naked may not be evicted: nobody would make it anew", "/scratch may not be evicted: nobody would make it anew"}},
	} {
		begun := time.Now()
		tt.opts.GracePeriod = -1
		r := kured.Drain(t.Context(), tt.opts, nil)
		report, err := kured.Preflight(t.Context(), tt.opts)
		if !errors.Is(r.Err, drain.ErrRefused) || err != nil || !errors.Is(report.Err(), drain.ErrRefused) || len(report.Refused) != len(tt.want) {
			t.Fatalf("%s; preflight %v, %s", r, err, report)
		}
		for _, want := range tt.want {
			if !strings.Contains(r.String(), l.Name+want) || !strings.Contains(report.String(), l.Name+want) {
				t.Errorf("%s\n%s\nwant %s", r, report, want)
			}
		}
		// The preflight asked about the others, in dry runs.
		if n := len(l.Requests(begun, lab.IsEviction)); n != 4-len(tt.want) {
			t.Errorf("%d evictions, dry runs included", n)
		}
	}
	l.Running(one.Name(), 4)
}

// Somebody deleted a pod long ago, and it never stopped.
func TestDrainRealDoesNotWaitForOldDeletions(t *testing.T) {
	l := plane.New(t, "drain-skip")
	one := l.Machine("one")
	l.NakedPod("stuck", one.Name(), map[string]string{standin.NeverStopsAnnotation: "true"})
	l.NakedPod("web", one.Name(), nil)
	l.Running(one.Name(), 2)
	second := int64(1)
	l.Must(l.Admin.CoreV1().Pods(l.Name).Delete(t.Context(), "stuck", metav1.DeleteOptions{GracePeriodSeconds: &second}))
	r := kuredOn(t, l, one).Drain(t.Context(), drain.Options{Timeout: time.Minute, GracePeriod: -1, SkipWaitForDelete: 2 * time.Second}, nil)
	if want := "; not waited for, being deleted for too long: " + l.Name + "/stuck"; !r.Drained || r.Gone != 1 || !strings.HasSuffix(r.String(), want) {
		t.Errorf("%s, want %s", r, want)
	}
	if pods := l.PodsOn(one.Name()); len(pods) != 1 || pods[0].Name != "stuck" {
		t.Errorf("%d pods on the node", len(pods))
	}
}

func TestDrainRealSelectsPods(t *testing.T) {
	l := plane.New(t, "drain-select")
	one := l.Machine("one")
	l.Deployment("web", 2, nil)
	l.NakedPod("other", one.Name(), nil)
	l.Running(one.Name(), 3)
	kured := kuredOn(t, l, one)
	_, err := kured.Cordon(t.Context())
	l.Must(err)
	r := kured.Drain(t.Context(), drain.Options{Timeout: time.Minute, GracePeriod: -1, PodSelector: "app=web"}, nil)
	if !r.Drained || r.Gone != 2 {
		t.Errorf("%s", r)
	}
	l.Running(one.Name(), 1)
}
