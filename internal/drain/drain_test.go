package drain

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func testPod(namespace, name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	pod.Status.Phase = corev1.PodRunning
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func ownedBy(kind, name string) func(*corev1.Pod) {
	yes := true
	return func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: &yes,
		}}
	}
}

func mirrored(pod *corev1.Pod) {
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
}

func finished(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded }

func withEmptyDir(pod *corev1.Pod) {
	pod.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

func tolerant(pod *corev1.Pod) {
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
}

// drainIn runs a drain in a synctest bubble and checks what must hold for every drain: no pod is read by
// name, every eviction carries a UID, and no pod is asked to go faster than every 5 s.
func drainIn(t *testing.T, opts Options, script func(t *testing.T, api *fakeapi.API), check func(t *testing.T, api *fakeapi.API, r Result, told []Progress)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		script(t, api)
		var told []Progress
		r := PodsOf(api.Client(), "n1").Drain(t.Context(), opts, func(p Progress) { told = append(told, p) })
		synctest.Wait()
		if got := api.Requests(http.MethodGet, "/namespaces/"); len(got) > 0 {
			for _, g := range got {
				if strings.Contains(g.Path, "/pods/") {
					t.Errorf("a pod was read by its name: %s", g.Path)
				}
			}
		}
		last := map[string]time.Time{}
		for _, e := range api.Requests(http.MethodPost, "/eviction") {
			_, uid, found := strings.Cut(e.Body, `"uid":"`)
			if !found {
				t.Errorf("eviction without a UID: %s", e.Body)
			}
			if at, again := last[uid]; again && e.At.Sub(at) < evictDelay && api.Evict != nil {
				t.Errorf("%s was asked again after %s", e.Path, e.At.Sub(at))
			}
			last[uid] = e.At
		}
		if !r.Drained && r.Err == nil || r.Drained && (r.Err != nil || len(r.Held) > 0) {
			t.Errorf("contradiction in the result: %+v", r)
		}
		for i := 1; i < len(told); i++ {
			if told[i].same(told[i-1]) {
				t.Errorf("told twice: %s", told[i])
			}
		}
		check(t, api, r, told)
	})
}

// The pods of a usual node: 110 leave in the time of the slowest, with two requests beside the evictions
// and one more for each DaemonSet.
func TestDrainOfAFullNode(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(t *testing.T, api *fakeapi.API) {
		for i := range 110 {
			api.AddPod(testPod("shop", fmt.Sprintf("web-%03d", i), ownedBy("ReplicaSet", "web"), withEmptyDir))
		}
		for _, set := range []string{"proxy", "logs"} {
			api.Sets["kube-system/"+set] = true
			for i := range 2 {
				api.AddPod(testPod("kube-system", fmt.Sprintf("%s-%d", set, i), ownedBy("DaemonSet", set)))
			}
		}
		api.AddPod(testPod("kube-system", "etcd-n1", mirrored, ownedBy("Node", "n1")))
		var underWay atomic.Int32
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPost {
				if n := underWay.Add(1); n > evictionsAtOnce {
					t.Errorf("%d evictions at once", n)
				}
				time.Sleep(50 * time.Millisecond)
				underWay.Add(-1)
			}
			return nil, nil
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Total != 110 || r.Evicted != 110 || r.Gone != 110 {
			t.Errorf("result %+v", r)
		}
		if r.Took > 11*time.Second {
			t.Errorf("took %s, the slowest pod 10 s", r.Took)
		}
		if n := len(api.Requests(http.MethodPost, "/eviction")); n != 110 {
			t.Errorf("%d evictions, want 110", n)
		}
		if n := len(api.Requests(http.MethodGet, "")); n != 4 {
			t.Errorf("%d requests beside the evictions, want 4", n)
		}
		if got, want := r.String(), "drained: 110 pods gone in 10s"; got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	})
}

func TestDrainChoosesAsKubectlDoes(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.Sets["sys/there"] = true
		api.AddPod(testPod("sys", "daemon", ownedBy("DaemonSet", "there")))
		api.AddPod(testPod("sys", "daemon-finished", ownedBy("DaemonSet", "there"), finished))
		api.AddPod(testPod("sys", "daemon-orphan", ownedBy("DaemonSet", "deleted")))
		api.AddPod(testPod("sys", "mirror", mirrored))
		api.AddPod(testPod("app", "naked", withEmptyDir))
		api.AddPod(testPod("app", "naked-finished", finished))
		api.AddPod(testPod("app", "replica", ownedBy("ReplicaSet", "app")))
		api.AddPod(testPod("app", "db-0", ownedBy("StatefulSet", "db")))
		api.AddPod(testPod("app", "tolerant", ownedBy("ReplicaSet", "app"), tolerant))
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		var stayed []string
		for id := range api.Pods() {
			stayed = append(stayed, id)
		}
		if !r.Drained || r.Gone != 7 || len(stayed) != 2 || api.Pods()["sys/daemon"] == nil || api.Pods()["sys/mirror"] == nil {
			t.Errorf("stayed %v, result %s", stayed, r)
		}
	})
}

func TestDrainGracePeriod(t *testing.T) {
	for _, tt := range []struct {
		given time.Duration
		want  string
	}{
		{-1, `"deleteOptions":{"preconditions"`},
		{0, `"gracePeriodSeconds":1,`},
		{1500 * time.Millisecond, `"gracePeriodSeconds":2,`},
		{time.Minute, `"gracePeriodSeconds":60,`},
	} {
		drainIn(t, Options{GracePeriod: tt.given}, func(_ *testing.T, api *fakeapi.API) {
			api.AddPod(testPod("app", "web"))
		}, func(t *testing.T, api *fakeapi.API, _ Result, _ []Progress) {
			if e := api.Requests(http.MethodPost, "/eviction"); len(e) != 1 || !strings.Contains(e[0].Body, tt.want) {
				t.Errorf("grace %s: evictions %v, want %s", tt.given, e, tt.want)
			}
		})
	}
}

// A budget that allows nothing: few evictions, the time-out is kept, and the result says which budget.
func TestDrainHeldByABudget(t *testing.T) {
	drainIn(t, Options{Timeout: 10 * time.Minute, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web-7"))
		api.AddPod(testPod("shop", "free"))
		api.Evict = func(pod *corev1.Pod, _ int) *apierrors.StatusError {
			if pod.Name == "free" {
				return nil
			}
			return budgetRefusal("The disruption budget web needs 2 healthy pods and has 2 currently", 0)
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		const held = "pod shop/web-7 held by PodDisruptionBudget shop/web: needs 2 healthy, has 2"
		if got, want := r.String(), "not drained after 10m0s: time is up; 1 of 2 pods left; "+held; got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
		if !errors.Is(r.Err, ErrTimeout) || r.Took != 10*time.Minute || r.Gone != 1 || r.Evicted != 1 {
			t.Errorf("result %+v", r)
		}
		if h := r.Held[0]; h.Why != WhyBudget || h.Budget != "web" || h.UID == "" || h.Attempts < 15 || h.Attempts > 22 || time.Since(h.Since) < 9*time.Minute {
			t.Errorf("held %+v", h)
		}
		if n := len(api.Requests(http.MethodPost, "/web-7/eviction")); n > 22 {
			t.Errorf("%d evictions in ten minutes", n)
		}
		if len(told) > 5 || len(told[len(told)-1].Held) != 1 {
			t.Errorf("told %d times: %v", len(told), told)
		}
	})
}

// "Still being processed" comes with Retry-After: 10, on which client-go would retry ten times by itself.
func TestRetryAfterIsNotFollowedBehindOurBack(t *testing.T) {
	drainIn(t, Options{Timeout: 35 * time.Second, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		api.Evict = func(*corev1.Pod, int) *apierrors.StatusError {
			return budgetRefusal("The disruption budget web is still being processed by the server.", 10)
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		sent := len(api.Requests(http.MethodPost, "/eviction"))
		if sent != r.Held[0].Attempts || sent > 3 {
			t.Errorf("%d evictions were sent, %d known", sent, r.Held[0].Attempts)
		}
	})
}

// A pod that two budgets select is answered "201 Created" with a failure in the body.
func TestDrainReadsTheBodyOfSuccess(t *testing.T) {
	drainIn(t, Options{Timeout: 20 * time.Second, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPost {
				return nil, nil
			}
			return fakeapi.Reply(http.StatusCreated, &metav1.Status{
				Status: metav1.StatusFailure, Code: 500,
				Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
			}), nil
		}
	}, func(t *testing.T, _ *fakeapi.API, r Result, _ []Progress) {
		if r.Drained || r.Evicted != 0 || r.Held[0].Why != WhyRefused || !strings.Contains(r.String(), "refused: This pod has more than one") {
			t.Errorf("%s; evicted %d", r, r.Evicted)
		}
	})
}

// Five pods of one budget that lets one go at a time: when it moves the others are asked soon.
func TestDrainFollowsABudgetThatMoves(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		for i := range 5 {
			api.AddPod(testPod("shop", fmt.Sprintf("web-%d", i)))
		}
		free := time.Now().Add(time.Minute)
		api.Evict = func(*corev1.Pod, int) *apierrors.StatusError {
			if time.Now().Before(free) {
				return budgetRefusal("The disruption budget web needs 4 healthy pods and has 4 currently", 0)
			}
			free = time.Now().Add(8 * time.Second)
			return nil
		}
	}, func(t *testing.T, _ *fakeapi.API, r Result, _ []Progress) {
		// Before it moves: at most 37.5 s late. Then four times at most 8 s and one wait of 12.5 s.
		if limit := 60*time.Second + 37500*time.Millisecond + 4*21*time.Second + 10*time.Second; !r.Drained || r.Took > limit {
			t.Errorf("%s, want drained within %s", r, limit)
		}
	})
}

func TestDrainNamesAPodThatDoesNotStop(t *testing.T) {
	drainIn(t, Options{Timeout: time.Minute, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "stuck", func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/keep"} }))
		api.Stop = func(*corev1.Pod) time.Duration { return -1 }
	}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		want := "not drained after 1m0s: time is up; 1 of 1 pod left; pod shop/stuck still terminating: its grace period of 30s is over, finalizers example.com/keep"
		if r.String() != want {
			t.Errorf("String() = %q\nwant       %q", r.String(), want)
		}
		if n := len(api.Requests(http.MethodPost, "")); n != 1 {
			t.Errorf("%d evictions of a pod that terminates, want 1", n)
		}
		if len(told) != 3 { // begun, evicted, overdue
			t.Errorf("told %v", told)
		}
	})
}

// The kubelet deletes a pod that has stopped with a grace period of 0, which the watch shows a moment before the pod is
// gone: it holds nobody up.
func TestDrainOfAPodThatHasStopped(t *testing.T) {
	drainIn(t, Options{Timeout: time.Minute, GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "slow"))
		api.Stop = func(pod *corev1.Pod) time.Duration {
			time.AfterFunc(20*time.Second, func() {
				stopped := pod.DeepCopy()
				stopped.DeletionGracePeriodSeconds = new(int64)
				api.AddPod(stopped)
			})
			return 20*time.Second + 100*time.Millisecond
		}
	}, func(t *testing.T, _ *fakeapi.API, r Result, told []Progress) {
		if !r.Drained || r.Gone != 1 {
			t.Errorf("%s", r)
		}
		for _, p := range told {
			if len(p.Held) > 0 {
				t.Errorf("told as held: %+v", p.Held)
			}
		}
	})
}

// A StatefulSet makes its pod anew under the same name: elsewhere, which the watch shows as gone; or, when
// it must, here, which is another pod.
func TestDrainOfAPodThatIsMadeAnew(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		first := api.AddPod(testPod("shop", "db-0", ownedBy("StatefulSet", "db")))
		api.Stop = func(pod *corev1.Pod) time.Duration {
			if pod.UID == first.UID {
				time.AfterFunc(3*time.Second+time.Millisecond, func() { api.AddPod(testPod("shop", "db-0", ownedBy("StatefulSet", "db"))) })
			}
			return 3 * time.Second
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Gone < 1 || len(api.Pods()) > 1 {
			t.Errorf("%s; pods %d", r, len(api.Pods()))
		}
		for _, e := range api.Requests(http.MethodPost, "") {
			if !strings.Contains(e.Body, "uid-shop-db-0-") {
				t.Errorf("eviction %s", e.Body)
			}
		}
	})
}

// The scheduler binds a pod that it had placed before it saw the cordon: found by the watch, evicted too.
func TestDrainTakesPodsThatCameAfterTheList(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.Sets["sys/there"] = true
		time.AfterFunc(900*time.Millisecond, func() {
			api.AddPod(testPod("shop", "late", ownedBy("ReplicaSet", "web")))
			api.AddPod(testPod("sys", "late-daemon", ownedBy("DaemonSet", "there"), tolerant))
			api.AddPod(testPod("shop", "late-tolerant", ownedBy("ReplicaSet", "agent"), tolerant))
		})
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Gone != 1 || api.Pods()["shop/late"] != nil || len(api.Pods()) != 2 {
			t.Errorf("%s; pods left %d", r, len(api.Pods()))
		}
	})
}

// A controller that puts its pod on this very node whatever the cordon says: a few rounds, then it stays.
func TestDrainDoesNotEvictForEver(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		n := 0
		again := func() {
			n++
			api.AddPod(testPod("shop", fmt.Sprintf("pinned-%d", n), ownedBy("ReplicaSet", "pinned")))
		}
		again()
		api.Stop = func(*corev1.Pod) time.Duration {
			time.AfterFunc(10*time.Millisecond, again)
			return time.Second
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		const want = "drained: 4 pods gone in 16.02s; left in place, for they are put here again and again: shop/pinned-5"
		if !r.Drained || r.Gone != 4 || len(r.Returning) != 1 || r.Returning[0] != "shop/pinned-5" {
			t.Errorf("%s, want like %s", r, want)
		}
	})
}

func TestDrainOfAnEmptyNodeIsQuick(t *testing.T) {
	drainIn(t, Options{}, func(*testing.T, *fakeapi.API) {}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		if !r.Drained || r.Took != settle || len(api.Requests("", "")) != 2 || len(told) != 0 {
			t.Errorf("%s, %d requests, told %v", r, len(api.Requests("", "")), told)
		}
	})
}

// Pods that terminate already are waited for; a configured grace period that is shorter is sent to them.
func TestDrainOfPodsThatTerminateAlready(t *testing.T) {
	for _, tt := range []struct {
		grace     time.Duration
		evictions int
	}{{-1, 0}, {time.Minute, 1}, {2 * time.Hour, 0}} {
		drainIn(t, Options{GracePeriod: tt.grace, Timeout: 2 * time.Hour}, func(_ *testing.T, api *fakeapi.API) {
			hour := int64(3600)
			pod := api.AddPod(testPod("shop", "slow", func(pod *corev1.Pod) {
				end := metav1.NewTime(time.Now().Add(time.Hour))
				pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, &hour
			}))
			time.AfterFunc(time.Hour, func() { api.RemovePod("shop", "slow", pod.UID) })
		}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
			if n := len(api.Requests(http.MethodPost, "")); !r.Drained || n != tt.evictions || r.Evicted != tt.evictions {
				t.Errorf("grace %s: %s, %d evictions, want %d", tt.grace, r, n, tt.evictions)
			}
		})
	}
}
