package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// preflightIn runs a preflight in a bubble and checks that it wrote nothing.
func preflightIn(t *testing.T, opts DrainOptions, script func(t *testing.T, api *fakeAPI), check func(t *testing.T, api *fakeAPI, r Report, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t)
		script(t, api)
		version := api.version
		r, err := New(api.client(), "n1", bootA).Preflight(t.Context(), opts)
		if api.version != version {
			t.Error("a preflight wrote")
		}
		for _, q := range api.log {
			eviction := q.method == http.MethodPost && strings.HasSuffix(q.path, "/eviction")
			if eviction && !(strings.Contains(q.body, `"dryRun":["All"]`) && strings.Contains(q.body, `"uid":"uid-`)) || !eviction && q.method != http.MethodGet {
				t.Errorf("%s %s %s", q.method, q.path, q.body)
			}
		}
		check(t, api, r, err)
	})
}

func TestPreflight(t *testing.T) {
	preflightIn(t, DrainOptions{GracePeriod: -1, SkipWaitForDelete: time.Hour}, func(_ *testing.T, api *fakeAPI) {
		api.sets["kube-system/proxy"] = true
		api.addPod(testPod("kube-system", "proxy-1", ownedBy("DaemonSet", "proxy")))
		api.addPod(testPod("kube-system", "etcd-n1", mirrored))
		api.addPod(testPod("kube-system", "dns-1", priority(systemCritical), ownedBy("ReplicaSet", "dns")))
		for i := range 5 {
			api.addPod(testPod("shop", fmt.Sprintf("web-%d", i), ownedBy("ReplicaSet", "web")))
		}
		api.addPod(testPod("shop", "db-0", ownedBy("StatefulSet", "db")))
		api.addPod(testPod("shop", "db-1", ownedBy("StatefulSet", "db")))
		api.addPod(testPod("shop", "going", deleted(10*time.Second)))
		api.addPod(testPod("shop", "old", deleted(-2*time.Hour)))
		api.addPod(testPod("shop", "stuck", deleted(-5*time.Minute)))
		api.addPod(testPod("shop", "hooked"))
		api.addPod(testPod("shop", "vanished"))
		api.evict = func(pod *corev1.Pod, _ int) *apierrors.StatusError {
			switch pod.Name {
			case "db-0":
				return budgetRefusal("The disruption budget db needs 2 healthy pods and has 2 currently", 0)
			case "vanished":
				return apierrors.NewNotFound(podResource, "vanished")
			case "hooked":
				return apierrors.NewBadRequest(`admission webhook "w.example.com" does not support dry run`)
			}
			return nil
		}
	}, func(t *testing.T, api *fakeAPI, r Report, err error) {
		const want = `10 pods have to leave, not system-critical: shop/db-0; shop/db-1; shop/going; and 7 more pods
1 pod leaves after that, system-critical: kube-system/dns-1
3 pods stay: kube-system/etcd-n1 (static pod); kube-system/proxy-1 (DaemonSet proxy); shop/old (being deleted for too long, not waited for)
2 pods would be held now: pod shop/db-0 held by PodDisruptionBudget shop/db: needs 2 healthy, has 2; pod shop/stuck still terminating: it should have stopped 5m0s ago
1 pod cannot be told by a dry run: pod shop/hooked not evicted: refused: admission webhook "w.example.com" does not support dry run
asked about one by one, a budget may let fewer go at a time: 5 pods of ReplicaSet shop/web`
		if err != nil || r.String() != want {
			t.Errorf("%v\ngot  %s\nwant %s", err, r, want)
		}
		if err := r.Err(); err == nil || errors.Is(err, ErrRefused) || !strings.HasPrefix(err.Error(), "pod shop/db-0 held by") {
			t.Errorf("Err() = %v", err)
		}
		if n := len(api.requests("", "")); n != 1+1+10 { // list, DaemonSet, a dry run for each that is not being deleted
			t.Errorf("%d requests", n)
		}
	})
	preflightIn(t, DrainOptions{}, func(*testing.T, *fakeAPI) {}, func(t *testing.T, _ *fakeAPI, r Report, err error) {
		if err != nil || r.Err() != nil || r.String() != "no pod has to leave" {
			t.Errorf("%v, %v: %s", err, r.Err(), r)
		}
	})
}

func TestPreflightRefusesByPolicy(t *testing.T) {
	opts := DrainOptions{EmptyDir: Refuse, NakedPods: Refuse, Order: Together, PodSelector: "app!=x"}
	preflightIn(t, opts, func(_ *testing.T, api *fakeAPI) {
		api.addPod(testPod("app", "cache", ownedBy("ReplicaSet", "cache"), withEmptyDir))
		api.addPod(testPod("app", "naked"))
		api.addPod(testPod("app", "other", labelled("app", "x")))
		api.addPod(testPod("app", "web", ownedBy("ReplicaSet", "web")))
		api.evict = neverAllowed
	}, func(t *testing.T, _ *fakeAPI, r Report, err error) {
		const want = `1 pod has to leave: app/web
1 pod stays: app/other (not selected)
2 pods may not be evicted, so nothing would be: pod app/cache may not be evicted: it would lose the data of its emptyDir volumes; pod app/naked may not be evicted: nobody would make it anew
1 pod would be held now: pod app/web held by PodDisruptionBudget app/web: needs 2 healthy, has 2`
		if err != nil || r.String() != want || !errors.Is(r.Err(), ErrRefused) {
			t.Errorf("%v, %v\ngot  %s\nwant %s", err, r.Err(), r, want)
		}
	})
}

// As in a drain: not more at once than a drain would send, and a server that is busy or away for a moment is asked again.
func TestPreflightIsPaced(t *testing.T) {
	var underWay, most, served atomic.Int32
	preflightIn(t, DrainOptions{GracePeriod: -1, Order: ByPriority}, func(_ *testing.T, api *fakeAPI) {
		for i := range 40 {
			api.addPod(testPod("shop", fmt.Sprintf("web-%02d", i), priority(int32(i%2))))
		}
		api.before = func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPost {
				return nil, nil
			}
			most.Store(max(most.Load(), underWay.Add(1)))
			time.Sleep(50 * time.Millisecond)
			underWay.Add(-1)
			switch {
			case strings.Contains(req.URL.Path, "web-07"):
				return nil, errors.New("connection refused")
			case served.Add(1)%10 == 0:
				return refuse(apierrors.NewTooManyRequests("too many requests, please try again later", 2)), nil
			}
			return nil, nil
		}
	}, func(t *testing.T, api *fakeAPI, r Report, err error) {
		if most.Load() > evictionsAtOnce || err != nil || len(r.Held) != 0 || len(r.Unknown) != 1 || r.Unknown[0].Name != "web-07" {
			t.Errorf("at most %d at once; %v: %s", most.Load(), err, r)
		}
		if !strings.HasPrefix(r.String(), "20 pods have to leave, of priority 0: ") || !strings.Contains(r.String(), "\n20 pods leave after that, of priority 1: ") {
			t.Errorf("%s", r)
		}
		if n := len(api.requests(http.MethodPost, "/web-07/")); n != preflightAttempts || r.Err() == nil || !strings.HasPrefix(r.Err().Error(), "a dry run does not tell: pod shop/web-07 ") {
			t.Errorf("%d attempts; %v", n, r.Err())
		}
	})
}

func TestPreflightThatCannotTell(t *testing.T) {
	noRight := func(part string) func(*fakeAPI) {
		return func(api *fakeAPI) {
			api.before = func(req *http.Request) (*http.Response, error) {
				if strings.Contains(req.URL.Path, part) {
					return refuse(apierrors.NewForbidden(schema.GroupResource{Resource: part}, "", errors.New("no right"))), nil
				}
				return nil, nil
			}
		}
	}
	for _, tt := range []struct {
		opts   DrainOptions
		script func(*fakeAPI)
		want   []string
	}{
		{DrainOptions{}, noRight("pods"), []string{"list the pods of node n1: ", "no right"}},
		{DrainOptions{}, noRight("daemonsets"), []string{ErrUndecided.Error(), "no right"}},
		{DrainOptions{Order: "x"}, func(*fakeAPI) {}, []string{`order "x" is unknown`}},
	} {
		preflightIn(t, tt.opts, func(_ *testing.T, api *fakeAPI) {
			api.addPod(testPod("sys", "proxy", ownedBy("DaemonSet", "proxy")))
			tt.script(api)
		}, func(t *testing.T, api *fakeAPI, r Report, err error) {
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %s", err, want)
				}
			}
			if slices.ContainsFunc(api.log, func(q fakeRequest) bool { return q.method == http.MethodPost }) {
				t.Error("evictions all the same")
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t)
		for i := range 40 {
			api.addPod(testPod("shop", fmt.Sprint("web-", i)))
		}
		api.before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPost {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			return nil, nil
		}
		why := errors.New("the window closed")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		begun := time.Now()
		if _, err := New(api.client(), "n1", bootA).Preflight(ctx, DrainOptions{}); !errors.Is(err, why) || time.Since(begun) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}
