package node

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func podOf(kind, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "x", Controller: &yes}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func podReady(status corev1.ConditionStatus, message string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.ContainersReady, Status: status}, {Type: corev1.PodReady, Status: status, Message: message}}
	}
}

func startedAt(at time.Time) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{
			{Name: "done", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: metav1.NewTime(at.Add(-time.Hour))}}},
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}}},
		}
	}
}

func TestMissingPods(t *testing.T) {
	booted := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	before, after := booted.Add(-time.Hour), booted.Add(time.Minute)
	yes := podReady(corev1.ConditionTrue, "")
	deleted := func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: after} }
	failed := func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodFailed }
	for _, tt := range []struct {
		name   string
		booted time.Time
		pods   []*corev1.Pod
		want   string
	}{
		{"none", booted, nil, ""},
		{"no DaemonSet's", booted, []*corev1.Pod{podOf("ReplicaSet", "a"), podOf("Node", "b"), {}}, ""},
		{"Ready", booted, []*corev1.Pod{podOf("DaemonSet", "a", yes, startedAt(after))}, ""},
		{"Ready, by a clock that was a little slow", booted, []*corev1.Pod{podOf("DaemonSet", "a", yes, startedAt(booted.Add(-time.Minute)))}, ""},
		{"Ready in the boot before", booted, []*corev1.Pod{podOf("DaemonSet", "a", yes, startedAt(before)), podOf("DaemonSet", "b", yes, startedAt(after))},
			"1 of 2 DaemonSet pods not Ready: ns/a still shows what it was before this boot"},
		{"Ready, and the boot time is not known", time.Time{}, []*corev1.Pod{podOf("DaemonSet", "a", yes, startedAt(before))}, ""},
		{"not Ready", booted, []*corev1.Pod{podOf("DaemonSet", "a", podReady(corev1.ConditionFalse, "containers with unready status:\n[main]"))},
			"1 of 1 DaemonSet pod not Ready: ns/a is Running: containers with unready status: [main]"},
		{"no condition yet, and failed", booted, []*corev1.Pod{podOf("DaemonSet", "a"), podOf("DaemonSet", "b", failed)},
			"2 of 2 DaemonSet pods not Ready: ns/a is Running; ns/b is Failed"},
		{"being deleted", booted, []*corev1.Pod{podOf("DaemonSet", "a", yes, startedAt(after), deleted)}, "1 of 1 DaemonSet pod not Ready: ns/a is being deleted"},
		{"many", booted, []*corev1.Pod{podOf("DaemonSet", "a"), podOf("DaemonSet", "b"), podOf("DaemonSet", "c"), podOf("DaemonSet", "d"), podOf("DaemonSet", "e", yes)},
			"4 of 5 DaemonSet pods not Ready: ns/a is Running; ns/b is Running; ns/c is Running; and 1 more pod"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := New(fakeapi.New(t).Client(), "n1", bootA, WithBootTime(tt.booted))
			if got := n.missingPods(tt.pods, true, nil); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A boot: the API server is down, then it shows the pods of before, the kubelet starts them one after the other.
func TestAwaitDaemonSetsTellsTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		old := startedAt(time.Now().Add(-time.Hour))
		yes := podReady(corev1.ConditionTrue, "")
		a := api.AddPod(podOf("DaemonSet", "a", yes, old))
		b := api.AddPod(podOf("DaemonSet", "b", yes, old))
		api.AddPod(podOf("ReplicaSet", "never"))
		var down atomic.Bool
		down.Store(true)
		api.Before = func(*http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, errors.New("connection refused")
			}
			return nil, nil
		}
		again := func(pod *corev1.Pod, change ...func(*corev1.Pod)) {
			pod = pod.DeepCopy()
			for _, c := range change {
				c(pod)
			}
			api.AddPod(pod)
		}
		go func() {
			time.Sleep(time.Minute)
			down.Store(false)
			time.Sleep(time.Minute)
			again(a, startedAt(time.Now()))
			again(b, podReady(corev1.ConditionFalse, ""))
			time.Sleep(time.Minute)
			again(b, startedAt(time.Now()))
		}()
		var told []string
		n := New(api.Client(), "n1", bootA, WithBootTime(time.Now()))
		if err := n.AwaitDaemonSets(t.Context(), func(s string) { told = append(told, s) }); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"the pods cannot be watched: list: Get \"http://api.invalid/api/v1/pods?fieldSelector=spec.nodeName%3Dn1\": connection refused",
			"2 of 2 DaemonSet pods not Ready: ns/a still shows what it was before this boot; ns/b still shows what it was before this boot",
			"1 of 2 DaemonSet pods not Ready: ns/b still shows what it was before this boot",
			"1 of 2 DaemonSet pods not Ready: ns/b is Running",
		}
		told = slices.DeleteFunc(told, func(s string) bool { return s == want[2] }) // seen or not
		if want = slices.Delete(want, 2, 3); !slices.Equal(told, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestAwaitDaemonSetsSaysWhatIsMissingWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.AddPod(podOf("DaemonSet", "a"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := New(api.Client(), "n1", bootA).AwaitDaemonSets(ctx, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the DaemonSet pods are not Ready in this boot: 1 of 1 DaemonSet pod not Ready: ns/a is Running") {
			t.Errorf("err = %v", err)
		}
	})
}

// The settle time runs from the start, and anew after each break, also one that happened while nobody could see.
func TestAwaitStillReady(t *testing.T) {
	at := func(obj *corev1.Node) {
		obj.Status.Conditions[1].LastTransitionTime = metav1.Now()
	}
	yes, no := reports(bootADashed, corev1.ConditionTrue, "", ""), reports(bootADashed, corev1.ConditionFalse, "KubeletNotReady", "")
	for _, tt := range []struct {
		name    string
		happens func(api *fakeapi.API, down *atomic.Bool)
		took    time.Duration
		told    []string
	}{
		{"no break", func(api *fakeapi.API, _ *atomic.Bool) {
			api.SetNode(func(obj *corev1.Node) { obj.Labels = texts{"a": "b"} })
		}, time.Minute, nil},
		{"a break", func(api *fakeapi.API, _ *atomic.Bool) {
			since := api.Node().Status.Conditions[1].LastTransitionTime
			api.SetNode(no)
			time.Sleep(time.Second)
			api.SetNode(func(obj *corev1.Node) { yes(obj); obj.Status.Conditions[1].LastTransitionTime = since }) // it has no parts of a second
		}, 91 * time.Second, []string{"Ready is False: KubeletNotReady"}},
		{"not seen: the watch is cut, and nothing happened", func(api *fakeapi.API, down *atomic.Bool) {
			down.Store(true)
			api.Cut()
			time.Sleep(10 * time.Second)
			down.Store(false)
		}, time.Minute, []string{"the Node cannot be watched: "}},
		{"not seen: there was a break", func(api *fakeapi.API, down *atomic.Bool) {
			down.Store(true)
			api.Cut()
			time.Sleep(5 * time.Second)
			api.SetNode(yes)
			api.SetNode(at)
			time.Sleep(5 * time.Second)
			down.Store(false)
		}, 100 * time.Second, []string{"the Node cannot be watched: "}},
		{"not seen at the end", func(api *fakeapi.API, down *atomic.Bool) {
			down.Store(true)
			api.Cut()
			time.Sleep(40 * time.Second)
			down.Store(false)
		}, 70 * time.Second, []string{"the Node cannot be watched: "}},
		{"another Node", func(api *fakeapi.API, _ *atomic.Bool) {
			api.SetNode(func(obj *corev1.Node) { obj.UID = "another"; obj.CreationTimestamp = metav1.Now() })
		}, 90 * time.Second, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := fakeapi.New(t)
				api.SetNode(yes)
				api.SetNode(at)
				var down atomic.Bool
				api.Before = func(*http.Request) (*http.Response, error) {
					if down.Load() {
						return nil, errors.New("connection refused")
					}
					return nil, nil
				}
				go func() {
					time.Sleep(30 * time.Second)
					tt.happens(api, &down)
				}()
				begun := time.Now()
				var told []string
				err := New(api.Client(), "n1", bootA).AwaitStillReady(t.Context(), time.Minute, func(s string) { told = append(told, s) })
				// The watch is taken up again with a delay of its own.
				if took := time.Since(begun); err != nil || took < tt.took || took > tt.took+15*time.Second {
					t.Errorf("%v after %s, want %s", err, took, tt.took)
				}
				const settling = "has to stay Ready for 1m0s"
				want := append([]string{settling}, tt.told...)
				if len(tt.told) > 0 {
					want = append(want, settling)
				}
				told = slices.CompactFunc(told, func(a, b string) bool { // one text for the watch and one for the list
					return len(tt.told) > 0 && strings.HasPrefix(a, tt.told[0]) && strings.HasPrefix(b, tt.told[0])
				})
				if tt.took == 70*time.Second {
					want = want[:2] // the time is over when the Node is seen again
				}
				if !slices.EqualFunc(told, want, strings.HasPrefix) {
					t.Errorf("told %q, want %q", told, want)
				}
			})
		})
	}
}
