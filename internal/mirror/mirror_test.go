package mirror

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: name}}
}

// follow runs a mirror of the fake's pods; the returned function gives its names and the last error.
func follow(t *testing.T, api *fakeapi.API) func() (names string, err error) {
	m := OfPods(api.Client(), "n1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() (string, error) {
		synctest.Wait()
		pods, synced, err := m.Snapshot()
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
		api := fakeapi.New(t)
		a := api.AddPod(pod("a"))
		see := follow(t, api)
		expect := func(want string) {
			t.Helper()
			if got, err := see(); got != want || err != nil {
				t.Errorf("see %q, %v; want %q", got, err, want)
			}
		}
		expect("a")
		api.AddPod(pod("b"))
		expect("ab")
		time.Sleep(time.Hour)
		api.Cut()
		api.RemovePod("x", "a", a.UID)
		expect("b")
		if lists := len(api.Requests(http.MethodGet, "/pods")); lists != 3 {
			t.Errorf("%d requests, want a list and two watches", lists)
		}

		time.Sleep(time.Hour)
		api.Expire()
		api.Forget() // the history is gone with it
		if _, err := see(); err == nil {
			t.Error("an expired watch is no error")
		}
		time.Sleep(time.Second)
		expect("")
		api.AddPod(pod("c"))
		expect("c")
		if n := len(api.Requests("", "")); n != 5 {
			t.Errorf("%d requests, want two lists and three watches", n)
		}
	})
}

// A server or proxy that ends every watch at once is not asked in a busy loop.
func TestMirrorOfAServerWithoutWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.URL.Query().Get("watch") == "true" {
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{"Content-Type": {"application/json"}}}, nil
			}
			return nil, nil
		}
		see := follow(t, api)
		time.Sleep(10 * time.Minute)
		if n := len(api.Requests("", "")); n > 150 {
			t.Errorf("%d requests in ten minutes", n)
		}
		if names, err := see(); names != "" || err == nil {
			t.Errorf("see %q, %v; want an error", names, err)
		}
	})
}
