package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// The API server is away in the middle of it: nothing is lost, and the drain ends soon after it is back.
func TestDrainOutlastsTheAPIServer(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		for i := range 40 {
			api.AddPod(testPod("shop", fmt.Sprintf("web-%02d", i)))
		}
		var down atomic.Bool
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPost {
				time.Sleep(50 * time.Millisecond) // so that the watch is there when it goes down
			}
			if down.Load() {
				return nil, errors.New("dial tcp 127.0.0.1:6443: connect: connection refused")
			}
			return nil, nil
		}
		// Half of the evictions get through, the rest find nobody.
		var served atomic.Int32
		api.After = func(req *http.Request, resp *http.Response) (*http.Response, error) {
			if req.Method == http.MethodPost {
				if served.Add(1) == 20 {
					down.Store(true)
					go api.Cut()
					time.AfterFunc(2*time.Minute, func() { down.Store(false) })
					return nil, errors.New("unexpected EOF") // carried out, its reply lost
				}
			}
			return resp, nil
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, told []Progress) {
		if !r.Drained || r.Gone != 40 || r.Evicted != 40 {
			t.Errorf("%s; evicted %d", r, r.Evicted)
		}
		if r.Took > 2*time.Minute+30*time.Second {
			t.Errorf("took %s for an outage of 2 minutes", r.Took)
		}
		if !slices.ContainsFunc(told, func(p Progress) bool {
			s := p.String()
			return p.Trouble != "" && strings.Contains(s, "connection refused") &&
				strings.Contains(s, "not evicted: no good answer from the API server") && strings.Contains(s, " more pods")
		}) {
			t.Errorf("told of the outage: %v", told)
		}
		if r.Trouble != "" {
			t.Errorf("trouble left: %s", r.Trouble)
		}
	})
}

// A server that takes requests and never answers is one that does not answer, after half a minute.
func TestDrainOutlastsSilence(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "web"))
		silent := time.Now().Add(time.Minute)
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPost && time.Now().Before(silent) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			return nil, nil
		}
	}, func(t *testing.T, _ *fakeapi.API, r Result, told []Progress) {
		const want = "0 of 1 pod gone; pod shop/web not evicted: no good answer from the API server: no answer within 30s"
		if !r.Drained || told[1].String() != want {
			t.Errorf("%s; told %v", r, told)
		}
	})
}

// It is cancelled at every stage, and returns at once with what it knows.
func TestDrainIsCancelled(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, time.Second, 20 * time.Second} {
		for _, server := range []string{"well", "refuses", "hangs"} {
			synctest.Test(t, func(t *testing.T) {
				api := fakeapi.New(t)
				api.AddPod(testPod("shop", "web"))
				api.Stop = func(*corev1.Pod) time.Duration { return time.Minute }
				api.Before = func(req *http.Request) (*http.Response, error) {
					switch server {
					case "refuses":
						return nil, errors.New("connection refused")
					case "hangs":
						<-req.Context().Done()
						return nil, req.Context().Err()
					}
					return nil, nil
				}
				why := errors.New("the sentinel is gone")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(after, func() { cancel(why) })
				r := PodsOf(api.Client(), "n1").Drain(ctx, Options{GracePeriod: -1}, nil)
				if r.Drained || !errors.Is(r.Err, why) || r.Took != after {
					t.Errorf("after %s, server %s: %+v", after, server, r)
				}
			})
		}
	}
}

// Without the right to read DaemonSets nothing is evicted, and the drain does not sit on the lock for its whole time.
func TestDrainThatCannotChoose(t *testing.T) {
	forbid := func(req *http.Request) (*http.Response, error) {
		if strings.Contains(req.URL.Path, "daemonsets") {
			return fakeapi.Refuse(apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "daemonsets"}, "proxy", errors.New("no right"))), nil
		}
		return nil, nil
	}
	pods := func(api *fakeapi.API) {
		api.Sets["kube-system/proxy"] = true
		api.AddPod(testPod("kube-system", "proxy-1", ownedBy("DaemonSet", "proxy")))
		api.AddPod(testPod("kube-system", "proxy-2", ownedBy("DaemonSet", "proxy")))
		api.AddPod(testPod("shop", "web"))
	}
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		pods(api)
		api.Before = forbid
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !errors.Is(r.Err, ErrUndecided) || !strings.Contains(r.Err.Error(), `daemonsets.apps "proxy" is forbidden`) || r.Took > 2*time.Minute {
			t.Errorf("result %s", r)
		}
		if n := len(api.Requests(http.MethodPost, "")); n != 0 {
			t.Errorf("%d evictions before everything was decided", n)
		}
		if n := len(api.Requests(http.MethodGet, "daemonsets")); n > 6 {
			t.Errorf("the DaemonSet was asked for %d times", n)
		}
	})
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		pods(api)
		begun := time.Now()
		api.Before = func(req *http.Request) (*http.Response, error) {
			if time.Since(begun) < 20*time.Second {
				return forbid(req)
			}
			return nil, nil
		}
	}, func(t *testing.T, _ *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Gone != 1 {
			t.Errorf("after a short refusal: %s", r)
		}
	})
}

// A balancer that has no API server behind it for a moment says 404 to all. That makes no DaemonSet go, whose pods would
// leave then, and no pod.
func TestDrainDoesNotBelieveABalancer(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.Sets["sys/there"] = true
		api.AddPod(testPod("sys", "daemon", ownedBy("DaemonSet", "there")))
		api.AddPod(testPod("sys", "orphan", ownedBy("DaemonSet", "deleted")))
		api.AddPod(testPod("shop", "web"))
		begun := time.Now()
		api.Before = func(req *http.Request) (*http.Response, error) {
			if time.Since(begun) > 20*time.Second || strings.HasSuffix(req.URL.Path, "/pods") {
				return nil, nil
			}
			return &http.Response{
				StatusCode: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain"}},
				Body: io.NopCloser(strings.NewReader("404 page not found\n")),
			}, nil
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Gone != 2 || api.Pods()["sys/daemon"] == nil || r.Took < 20*time.Second {
			t.Errorf("%s; pods left %d", r, len(api.Pods()))
		}
	})
}

// Answers that say gone are not believed before the watch agrees: admission answers 404 from a cache
// that is behind after a start of the API server.
func TestDrainBelievesTheWatch(t *testing.T) {
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		api.AddPod(testPod("shop", "early"))
		api.Evict = func(_ *corev1.Pod, attempt int) *apierrors.StatusError {
			if attempt == 1 {
				return apierrors.NewNotFound(podResource, "early")
			}
			return nil
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Evicted != 1 || len(api.Pods()) != 0 {
			t.Errorf("%s; %d pods left", r, len(api.Pods()))
		}
	})
	// And when it is really gone, the watch tells sooner than the next eviction would.
	drainIn(t, Options{GracePeriod: -1}, func(_ *testing.T, api *fakeapi.API) {
		pod := api.AddPod(testPod("shop", "going"))
		api.Evict = func(*corev1.Pod, int) *apierrors.StatusError {
			time.AfterFunc(2*time.Second, func() { api.RemovePod("shop", "going", pod.UID) })
			return apierrors.NewNotFound(podResource, "going")
		}
	}, func(t *testing.T, api *fakeapi.API, r Result, _ []Progress) {
		if !r.Drained || r.Took > 3*time.Second || len(api.Requests(http.MethodPost, "")) != 1 {
			t.Errorf("%s", r)
		}
	})
}
