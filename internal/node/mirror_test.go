package node

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// follow runs a mirror of the fake's pods; the returned function gives its names and the last error.
func follow(t *testing.T, api *fakeAPI) func() (names string, err error) {
	n := New(api.client(), "n1", bootA)
	m := newMirror(n.listPods, n.watchPods)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() (string, error) {
		synctest.Wait()
		pods, synced, err := m.snapshot()
		names := ""
		for _, pod := range pods {
			names += pod.Name
		}
		if !synced {
			names = "?"
		}
		return names, err
	}
}

func TestMirrorGoesOnWhereAWatchEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t)
		a := api.addPod(testPod("x", "a"))
		see := follow(t, api)
		expect := func(want string) {
			t.Helper()
			if got, err := see(); got != want || err != nil {
				t.Errorf("see %q, %v; want %q", got, err, want)
			}
		}
		expect("a")
		api.addPod(testPod("x", "b"))
		expect("ab")
		time.Sleep(time.Hour)
		api.cut()
		api.removePod("x", "a", a.UID)
		expect("b")
		if lists := len(api.requests(http.MethodGet, "/pods")); lists != 3 {
			t.Errorf("%d requests, want a list and two watches", lists)
		}

		time.Sleep(time.Hour)
		api.expire()
		api.mu.Lock()
		api.events, api.pods = nil, map[string]*corev1.Pod{} // the history is gone with it
		api.mu.Unlock()
		if _, err := see(); err == nil {
			t.Error("an expired watch is no error")
		}
		time.Sleep(time.Second)
		expect("")
		api.addPod(testPod("x", "c"))
		expect("c")
		if n := len(api.requests("", "")); n != 5 {
			t.Errorf("%d requests, want two lists and three watches", n)
		}
	})
}

// A server or proxy that ends every watch at once is not asked in a busy loop.
func TestMirrorOfAServerWithoutWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t)
		api.before = func(req *http.Request) (*http.Response, error) {
			if req.URL.Query().Get("watch") == "true" {
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{"Content-Type": {"application/json"}}}, nil
			}
			return nil, nil
		}
		see := follow(t, api)
		time.Sleep(10 * time.Minute)
		if n := len(api.requests("", "")); n > 150 {
			t.Errorf("%d requests in ten minutes", n)
		}
		if names, err := see(); names != "" || err == nil {
			t.Errorf("see %q, %v; want an error", names, err)
		}
	})
}
