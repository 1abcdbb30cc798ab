package drain

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func priority(p int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Priority = &p }
}

func labelled(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Labels = map[string]string{key: value} }
}

// deleted is a pod that terminates, and whose grace period ends after so long.
func deleted(in time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		end, grace := metav1.NewTime(time.Now().Add(in)), int64(30)
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, &grace
	}
}

func neverAllowed(*corev1.Pod, int) *apierrors.StatusError {
	return budgetRefusal("The disruption budget web needs 2 healthy pods and has 2 currently", 0)
}

// asked returns the names of the pods in the order of their evictions, and how long after the first.
func asked(api *fakeapi.API) (names []string, after []time.Duration) {
	all := api.Requests(http.MethodPost, "/eviction")
	for _, e := range all {
		names = append(names, strings.Split(e.Path, "/")[6])
		after = append(after, e.At.Sub(all[0].At).Round(time.Second))
	}
	return names, after
}

func TestDrainInTiers(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		order Order
		names []string
		after []time.Duration
	}{
		{"", []string{"a-batch", "b-web", "c-db", "x-dns", "y-cni"}, []time.Duration{0, 0, 0, 10 * s, 10 * s}},
		{ByPriority, []string{"a-batch", "c-db", "b-web", "x-dns", "y-cni"}, []time.Duration{0, 10 * s, 20 * s, 30 * s, 40 * s}},
		{Together, []string{"a-batch", "b-web", "c-db", "x-dns", "y-cni"}, []time.Duration{0, 0, 0, 0, 0}},
	} {
		drainIn(t, Options{GracePeriod: -1, Order: tt.order}, func(_ *testing.T, api *fakeapi.API) {
			api.AddPod(testPod("shop", "a-batch", priority(-10)))
			api.AddPod(testPod("shop", "b-web", priority(1000)))
			api.AddPod(testPod("shop", "c-db"))
			api.AddPod(testPod("kube-system", "x-dns", priority(systemCritical)))
			api.AddPod(testPod("kube-system", "y-cni", priority(systemCritical+1000)))
		}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
			names, after := asked(api)
			if tt.order != ByPriority { // sent at the same instant by several
				slices.Sort(names)
			}
			if !r.Drained || !slices.Equal(names, tt.names) || !slices.Equal(after, tt.after) {
				t.Errorf("%q: %s\n got %v %v\nwant %v %v", tt.order, r, names, after, tt.names, tt.after)
			}
		})
	}
}

// A budget in a lower tier keeps the critical pods where they are until the time is up.
func TestDrainTierIsHeldByABudget(t *testing.T) {
	drainIn(t, Options{Timeout: 10 * time.Minute, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		api.AddPod(testPod("kube-system", "dns", priority(systemCritical)))
		api.Evict = neverAllowed
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		const want = "not drained after 10m0s: time is up; 2 of 2 pods left; " +
			"pod kube-system/dns not evicted yet: pods of lower priority go first; " +
			"pod shop/web held by PodDisruptionBudget shop/web: needs 2 healthy, has 2"
		if r.String() != want || len(api.Requests(http.MethodPost, "/dns/")) != 0 {
			t.Errorf("got  %s\nwant %s", r, want)
		}
	})
}

// A pod that should have stopped does not keep the next tier back: the killed containers need nobody.
func TestDrainTierIsNotHeldByAPodThatIsStuck(t *testing.T) {
	drainIn(t, Options{Timeout: 10 * time.Minute, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "stuck"))
		api.AddPod(testPod("kube-system", "dns", priority(systemCritical)))
		api.Stop = func(pod *corev1.Pod) time.Duration {
			if pod.Name == "stuck" {
				return -1
			}
			return time.Second
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if names, after := asked(api); len(names) != 2 || after[1] != 35*time.Second || r.Gone != 1 {
			t.Errorf("%v %v: %s", names, after, r)
		}
	})
}

// A pod of a lower tier that comes while the critical ones leave goes before those that were not asked yet.
func TestDrainLatePodJoinsItsTier(t *testing.T) {
	drainIn(t, Options{Timeout: 10 * time.Minute, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("kube-system", "dns-1", priority(systemCritical)))
		api.AddPod(testPod("kube-system", "dns-2", priority(systemCritical)))
		api.Evict = func(pod *corev1.Pod, attempt int) *apierrors.StatusError {
			if pod.Name == "dns-2" && attempt == 1 {
				return neverAllowed(pod, attempt)
			}
			return nil
		}
		time.AfterFunc(2*time.Second, func() { api.AddPod(testPod("shop", "late")) })
	}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		names, after := asked(api)
		slices.Sort(names[:2])
		if !r.Drained || !slices.Equal(names, []string{"dns-1", "dns-2", "late", "dns-2"}) || after[3] != 12*time.Second {
			t.Errorf("%v %v: %s", names, after, r)
		}
		if r.Came != 1 || !strings.HasSuffix(r.String(), "; 1 pod came meanwhile, is the node still cordoned?") {
			t.Errorf("came %d: %s", r.Came, r)
		}
		if !slices.ContainsFunc(told, func(p Progress) bool { return p.Came == 1 && p.Gone == 0 }) {
			t.Errorf("told late that a pod came: %v", told)
		}
	})
}

func TestDrainSelectsPods(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1, PodSelector: "tier in (web), app!=keep"}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web", labelled("tier", "web")))
		api.AddPod(testPod("shop", "other", labelled("tier", "db")))
		api.AddPod(testPod("shop", "bare", ownedBy("DaemonSet", "unread")))
		api.Sets["kube-system/agent"] = true
		api.AddPod(testPod("kube-system", "agent-1", labelled("tier", "web"), ownedBy("DaemonSet", "agent")))
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Total != 1 || len(api.Pods()) != 3 || api.Pods()["shop/web"] != nil {
			t.Errorf("%s, %d pods left", r, len(api.Pods()))
		}
		if n := len(api.Requests(http.MethodGet, "daemonsets")); n != 1 {
			t.Errorf("%d DaemonSets read, want 1", n)
		}
	})
}

func TestDrainRefusesBadOptions(t *testing.T) {
	opts := Options{PodSelector: "a in", EmptyDir: "keep", NakedPods: "x", Order: "random", OnTimeout: "panic"}
	drainIn(t, opts, func(_ *testing.T, api *fakeapi.API) { api.AddPod(testPod("shop", "web")) },
		func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
			for _, want := range []string{"pod selector", "keep", `"x"`, "random", "panic"} {
				if r.Err == nil || !strings.Contains(r.Err.Error(), want) {
					t.Errorf("%v does not name %s", r.Err, want)
				}
			}
			if n := len(api.Requests("", "")); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
}

// Pods that would lose something: all of them are named, and not one pod is evicted.
func TestDrainRefusesWhatWouldBeLost(t *testing.T) {
	pods := func(api *fakeapi.API) {
		api.Sets["sys/there"] = true
		api.AddPod(testPod("sys", "daemon", ownedBy("DaemonSet", "there"), withEmptyDir))
		api.AddPod(testPod("sys", "orphan", ownedBy("DaemonSet", "gone")))
		api.AddPod(testPod("app", "cache", ownedBy("ReplicaSet", "cache"), withEmptyDir))
		api.AddPod(testPod("app", "done", finished, withEmptyDir))
		api.AddPod(testPod("app", "dying", deleted(time.Second), withEmptyDir))
		api.AddPod(testPod("app", "naked"))
		api.AddPod(testPod("app", "web", ownedBy("ReplicaSet", "web")))
	}
	const lost, anew = "it would lose the data of its emptyDir volumes", "nobody would make it anew"
	for _, tt := range []struct {
		opts Options
		want string
	}{
		{Options{EmptyDir: Refuse}, "pod app/cache may not be evicted: " + lost},
		{Options{NakedPods: Refuse}, "pod app/naked may not be evicted: " + anew + "; pod sys/orphan may not be evicted: " + anew},
		{
			Options{EmptyDir: Refuse, NakedPods: Refuse, OnTimeout: Force}, "pod app/cache may not be evicted: " + lost +
				"; pod app/naked may not be evicted: " + anew + "; pod sys/orphan may not be evicted: " + anew,
		},
	} {
		tt.opts.GracePeriod = -1
		drainIn(t, tt.opts, func(_ *testing.T, api *fakeapi.API) { pods(api) }, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
			if want := "not drained: pods that may not be evicted: " + tt.want; !errors.Is(r.Err, ErrRefused) || r.String() != want {
				t.Errorf("got  %s\nwant %s", r, want)
			}
			if n := len(api.Requests(http.MethodPost, "")); n != 0 || r.Took != 0 {
				t.Errorf("%d evictions, took %s", n, r.Took)
			}
		})
	}
	// One that comes in the midst of it ends the drain too.
	drainIn(t, Options{GracePeriod: -1, EmptyDir: Refuse}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("app", "web"))
		time.AfterFunc(5*time.Second, func() { api.AddPod(testPod("app", "late", withEmptyDir)) })
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !errors.Is(r.Err, ErrRefused) || r.Took != 5*time.Second || len(api.Requests(http.MethodPost, "/late/")) != 0 {
			t.Errorf("%s after %s", r, r.Took)
		}
	})
}

// A pod found in the midst of its deletion is judged by its deletionTimestamp, one that we evict by our clock.
func TestDrainDoesNotWaitForOldDeletions(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1, SkipWaitForDelete: time.Minute}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "old", deleted(-time.Hour)))
		api.AddPod(testPod("shop", "recent", deleted(-40*time.Second)))
		api.AddPod(testPod("shop", "stuck"))
		api.Stop = func(*corev1.Pod) time.Duration { return -1 }
	}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		const want = "drained: 0 of 3 pods gone in 1m30s; not waited for, being deleted for too long: shop/old; shop/recent; shop/stuck"
		if r.String() != want || len(api.Requests(http.MethodPost, "")) != 1 {
			t.Errorf("got  %s\nwant %s", r, want)
		}
		if len(told) < 3 || !slices.Equal(told[0].Skipped, []string{"shop/old"}) {
			t.Errorf("told %v", told)
		}
	})
	drainIn(t, Options{GracePeriod: -1, Timeout: time.Minute}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "old", deleted(-time.Hour)))
	}, func(t *testing.T, _ *fakeapi.API, r Result, _ []Progress) {
		if r.Drained || len(r.Held) != 1 {
			t.Errorf("without the option: %s", r)
		}
	})
}

func forbidden(resource, name string) *apierrors.StatusError {
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, name, errors.New("no right"))
}
