package drain

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

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

// preflightIn runs a preflight in a bubble and checks that it wrote nothing.
func preflightIn(t *testing.T, opts Options, script func(t *testing.T, api *fakeapi.API), check func(t *testing.T, api *fakeapi.API, r Report, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		script(t, api)
		version := api.Version()
		r, err := PodsOf(api.Client(), "n1").Preflight(t.Context(), opts)
		if api.Version() != version {
			t.Error("a preflight wrote")
		}
		for _, q := range api.Requests("", "") {
			eviction := q.Method == http.MethodPost && strings.HasSuffix(q.Path, "/eviction")
			if eviction && !(strings.Contains(q.Body, `"dryRun":["All"]`) && strings.Contains(q.Body, `"uid":"uid-`)) || !eviction && q.Method != http.MethodGet {
				t.Errorf("%s %s %s", q.Method, q.Path, q.Body)
			}
		}
		check(t, api, r, err)
	})
}

func TestPreflight(t *testing.T) {
	preflightIn(t, Options{GracePeriod: -1, SkipWaitForDelete: time.Hour}, func(_ *testing.T, api *fakeapi.API) {
		api.Sets["kube-system/proxy"] = true
		api.AddPod(testPod("kube-system", "proxy-1", ownedBy("DaemonSet", "proxy")))
		api.AddPod(testPod("kube-system", "etcd-n1", mirrored))
		api.AddPod(testPod("kube-system", "dns-1", priority(systemCritical), ownedBy("ReplicaSet", "dns")))
		for i := range 5 {
			api.AddPod(testPod("shop", fmt.Sprintf("web-%d", i), ownedBy("ReplicaSet", "web")))
		}
		api.AddPod(testPod("shop", "db-0", ownedBy("StatefulSet", "db")))
		api.AddPod(testPod("shop", "db-1", ownedBy("StatefulSet", "db")))
		api.AddPod(testPod("shop", "going", deleted(10*time.Second)))
		api.AddPod(testPod("shop", "old", deleted(-2*time.Hour)))
		api.AddPod(testPod("shop", "stuck", deleted(-5*time.Minute)))
		api.AddPod(testPod("shop", "hooked"))
		api.AddPod(testPod("shop", "vanished"))
		api.Evict = func(pod *corev1.Pod, _ int) *apierrors.StatusError {
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
	}, func(t *testing.T, api *fakeapi.API, r Report, err error) {
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
		if n := len(api.Requests("", "")); n != 1+1+10 { // list, DaemonSet, a dry run for each that is not being deleted
			t.Errorf("%d requests", n)
		}
	})
	preflightIn(t, Options{}, func(*testing.T, *fakeapi.API) {}, func(t *testing.T, _ *fakeapi.API, r Report, err error) {
		if err != nil || r.Err() != nil || r.String() != "no pod has to leave" {
			t.Errorf("%v, %v: %s", err, r.Err(), r)
		}
	})
}

func TestPreflightRefusesByPolicy(t *testing.T) {
	opts := Options{EmptyDir: Refuse, NakedPods: Refuse, Order: Together, PodSelector: "app!=x"}
	preflightIn(t, opts, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("app", "cache", ownedBy("ReplicaSet", "cache"), withEmptyDir))
		api.AddPod(testPod("app", "naked"))
		api.AddPod(testPod("app", "other", labelled("app", "x")))
		api.AddPod(testPod("app", "web", ownedBy("ReplicaSet", "web")))
		api.Evict = neverAllowed
	}, func(t *testing.T, _ *fakeapi.API, r Report, err error) {
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
	preflightIn(t, Options{GracePeriod: -1, Order: ByPriority}, func(_ *testing.T, api *fakeapi.API) {
		for i := range 40 {
			api.AddPod(testPod("shop", fmt.Sprintf("web-%02d", i), priority(int32(i%2))))
		}
		api.Before = func(req *http.Request) (*http.Response, error) {
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
				return fakeapi.Refuse(apierrors.NewTooManyRequests("too many requests, please try again later", 2)), nil
			}
			return nil, nil
		}
	}, func(t *testing.T, api *fakeapi.API, r Report, err error) {
		if most.Load() > evictionsAtOnce || err != nil || len(r.Held) != 0 || len(r.Unknown) != 1 || r.Unknown[0].Name != "web-07" {
			t.Errorf("at most %d at once; %v: %s", most.Load(), err, r)
		}
		if !strings.HasPrefix(r.String(), "20 pods have to leave, of priority 0: ") || !strings.Contains(r.String(), "\n20 pods leave after that, of priority 1: ") {
			t.Errorf("%s", r)
		}
		if n := len(api.Requests(http.MethodPost, "/web-07/")); n != preflightAttempts || r.Err() == nil || !strings.HasPrefix(r.Err().Error(), "a dry run does not tell: pod shop/web-07 ") {
			t.Errorf("%d attempts; %v", n, r.Err())
		}
	})
}

func TestPreflightThatCannotTell(t *testing.T) {
	noRight := func(part string) func(*fakeapi.API) {
		return func(api *fakeapi.API) {
			api.Before = func(req *http.Request) (*http.Response, error) {
				if strings.Contains(req.URL.Path, part) {
					return fakeapi.Refuse(apierrors.NewForbidden(schema.GroupResource{Resource: part}, "", errors.New("no right"))), nil
				}
				return nil, nil
			}
		}
	}
	for _, tt := range []struct {
		opts   Options
		script func(*fakeapi.API)
		want   []string
	}{
		{Options{}, noRight("pods"), []string{"list the pods of node n1: ", "no right"}},
		{Options{}, noRight("daemonsets"), []string{ErrUndecided.Error(), "no right"}},
		{Options{Order: "x"}, func(*fakeapi.API) {}, []string{`order "x" is unknown`}},
	} {
		preflightIn(t, tt.opts, func(_ *testing.T, api *fakeapi.API) {
			api.AddPod(testPod("sys", "proxy", ownedBy("DaemonSet", "proxy")))
			tt.script(api)
		}, func(t *testing.T, api *fakeapi.API, r Report, err error) {
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %s", err, want)
				}
			}
			if slices.ContainsFunc(api.Requests("", ""), func(q fakeapi.Request) bool { return q.Method == http.MethodPost }) {
				t.Error("evictions all the same")
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		for i := range 40 {
			api.AddPod(testPod("shop", fmt.Sprint("web-", i)))
		}
		api.Before = func(req *http.Request) (*http.Response, error) {
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
		if _, err := PodsOf(api.Client(), "n1").Preflight(ctx, Options{}); !errors.Is(err, why) || time.Since(begun) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}
