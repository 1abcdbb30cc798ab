package drain

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

// A budget that never allows anything, a pod that never stops and one that the server does not let go: what can
// be deleted goes, the rest is named, and the drain is done.
func TestDrainByForce(t *testing.T) {
	opts := Options{Timeout: 10 * time.Minute, GracePeriod: -1, OnTimeout: Force}
	drainIn(t, opts, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("kube-system", "dns", priority(systemCritical)))
		api.AddPod(testPod("shop", "held"))
		api.AddPod(testPod("shop", "kept", func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/keep"} }))
		api.AddPod(testPod("shop", "refused"))
		api.AddPod(testPod("shop", "stuck", deleted(0)))
		api.Evict = neverAllowed
		api.Stop = func(pod *corev1.Pod) time.Duration {
			if pod.Name == "kept" {
				return -1
			}
			return 10 * time.Second
		}
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodDelete && strings.HasSuffix(req.URL.Path, "/refused") {
				return fakeapi.Refuse(forbidden("pods", "refused")), nil
			}
			return nil, nil
		}
		time.AfterFunc(10*time.Minute+5*time.Second, func() { api.AddPod(testPod("shop", "late")) })
	}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		// refused gives up after its grace period and a minute, kept when it was deleted that long ago: the same here.
		const want = "drained by force: 2 of 6 pods gone in 11m30s; " +
			"deleted when the time was up: kube-system/dns; shop/held; shop/kept; " +
			"left behind: pod shop/kept still terminating: its grace period of 30s is over, finalizers example.com/keep; " +
			"pod shop/late not evicted yet; " +
			`pod shop/refused not evicted: refused: pods "refused" is forbidden: no right; and 1 more pod; ` +
			"1 pod came meanwhile, is the node still cordoned?"
		if !r.Drained || r.String() != want {
			t.Errorf("got  %s\nwant %s", r, want)
		}
		if r.Evicted != 0 || len(r.Forced) != 3 || len(r.Left) != 4 || r.Left[3].Why != WhyTerminating {
			t.Errorf("evicted %d, forced %v, left %v", r.Evicted, r.Forced, r.Left)
		}
		begun := api.Requests("", "")[0].At
		for _, e := range api.Requests(http.MethodPost, "/eviction") {
			if e.At.Sub(begun) > opts.Timeout {
				t.Errorf("evicted after the time was up: %s", e.Path)
			}
		}
		for _, e := range api.Requests(http.MethodDelete, "") {
			if e.At.Sub(begun) < opts.Timeout || !strings.Contains(e.Body, `"uid":"uid-`) || strings.Contains(e.Body, "gracePeriod") {
				t.Errorf("deleted after %s: %s %s", e.At.Sub(begun), e.Path, e.Body)
			}
		}
		if n := len(api.Requests(http.MethodDelete, "/held")) + len(api.Requests(http.MethodDelete, "/dns")); n != 2 {
			t.Errorf("%d deletions of two pods", n)
		}
		if n := len(api.Requests(http.MethodDelete, "/refused")); n > 6 {
			t.Errorf("%d deletions of a pod that is refused", n)
		}
		if len(api.Requests(http.MethodDelete, "/late"))+len(api.Requests(http.MethodDelete, "/stuck")) != 0 {
			t.Error("deleted what it should leave")
		}
	})
}

// An eviction is under way when the time is up, and refused after that: the pod is deleted then.
func TestDrainByForceMeetsAnEviction(t *testing.T) {
	drainIn(t, Options{Timeout: time.Minute, GracePeriod: 5 * time.Second, OnTimeout: Force}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		api.Evict = neverAllowed
		begun := time.Now()
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPost && time.Since(begun) > 30*time.Second {
				time.Sleep(time.Until(begun.Add(80 * time.Second)))
			}
			return nil, nil
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if d := api.Requests(http.MethodDelete, ""); len(d) != 1 || !strings.Contains(d[0].Body, `"gracePeriodSeconds":5`) {
			t.Errorf("deletions %v", d)
		}
		if !r.Drained || r.Took > 95*time.Second || !slices.Equal(r.Forced, []string{"shop/web"}) || r.Gone != 1 {
			t.Errorf("%s", r)
		}
	})
}

// What is not known cannot be forced: the API server never said which pods are here, or which stay.
func TestDrainByForceNeedsToKnow(t *testing.T) {
	drainIn(t, Options{Timeout: time.Minute, GracePeriod: -1, OnTimeout: Force}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		api.Before = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	}, func(t *testing.T, _ *fakeapi.API, r Result, _ []Progress) {
		if r.Drained || !errors.Is(r.Err, ErrTimeout) || r.Took != time.Minute {
			t.Errorf("%s", r)
		}
	})
}

// It goes down when the time is up, and the end by force still has an end.
func TestDrainByForceEndsWithoutTheAPIServer(t *testing.T) {
	drainIn(t, Options{Timeout: time.Minute, GracePeriod: -1, OnTimeout: Force}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		api.Evict = neverAllowed
		begun := time.Now()
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodDelete || time.Since(begun) > time.Minute {
				return nil, errors.New("connection refused")
			}
			return nil, nil
		}
	}, func(t *testing.T, _ *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Took != 2*time.Minute+30*time.Second || len(r.Left) != 1 || r.Left[0].Why != WhyUnreachable || len(r.Forced) != 0 {
			t.Errorf("%s", r)
		}
	})
}
