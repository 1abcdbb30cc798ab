package node

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

// serveEvents adds Events to the API.
func serveEvents(t *testing.T, api *fakeapi.API) (stored map[string]*corev1.Event) {
	stored = map[string]*corev1.Event{}
	api.Before = func(req *http.Request) (*http.Response, error) {
		name, ours := strings.CutPrefix(req.URL.Path, "/api/v1/namespaces/default/events")
		if !ours {
			return nil, nil
		}
		requests := api.Requests(req.Method, "/events")
		body, e := []byte(requests[len(requests)-1].Body), &corev1.Event{}
		if req.Method == http.MethodPost {
			if err := json.Unmarshal(body, e); err != nil || e.ResourceVersion != "" {
				t.Errorf("event %s: %v", body, err)
			}
			stored[e.Name] = e
		} else {
			old := stored[strings.TrimPrefix(name, "/")]
			if old == nil {
				return fakeapi.Refuse(apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, name)), nil
			}
			merged, err := strategicpatch.StrategicMergePatch(encode(old), body, e)
			if err != nil || json.Unmarshal(merged, e) != nil {
				t.Errorf("patch %s: %v", body, err)
			}
			stored[e.Name] = e
		}
		e.APIVersion, e.Kind = "v1", "Event"
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(bytes.NewReader(encode(e))),
		}, nil
	}
	return stored
}

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		stored := serveEvents(t, api)
		c := Chronicle{Node: New(api.Client(), "n1", bootA), Recorder: &Recorder{}}
		record := func(phase status.Phase, reason status.Reason, detail string) {
			t.Helper()
			time.Sleep(time.Second)
			if err := c.Record(t.Context(), status.Status{Phase: phase, Reason: reason, Detail: detail, Since: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		counts := func() map[string]int32 {
			out := map[string]int32{}
			for _, e := range stored {
				out[e.Type+" "+e.Reason+" "+e.Message] += e.Count
			}
			return out
		}
		record(status.Blocked, status.OutsideWindow, "opens at 02:00")
		record(status.Queued, status.LockFull, "held by\nnode-a")
		record(status.Blocked, status.OutsideWindow, "opens at 02:00")
		c.Node = New(api.Client(), "n1", bootA) // connected anew
		record(status.Blocked, status.OutsideWindow, "opens at 02:00")
		record(status.Held, status.EntryForeign, "")
		record(status.Draining, "", "")
		got := counts()
		for text, count := range map[string]int32{
			"Normal OutsideWindow blocked: opens at 02:00":                   3,
			"Normal LockFull queued: held by node-a":                         1,
			"Warning EntryForeign held: " + status.EntryForeign.Help().Means: 1,
			"Normal Draining " + status.Draining.Help().Means:                1,
		} {
			if strings.HasPrefix(text, "Warning") {
				text = strings.Replace(text, "EntryForeign", ConditionReason(status.EntryForeign), 1)
			}
			if got[text] != count {
				t.Errorf("%q: %d, want %d of %v", text, got[text], count, got)
			}
		}
		if len(got) != 4 || len(stored) != 4 {
			t.Errorf("%d Events: %v", len(stored), got)
		}
		// An Event that the API server has forgotten is made anew.
		clear(stored)
		record(status.Draining, "", "")
		if len(stored) != 1 {
			t.Errorf("not made anew: %v", counts())
		}
		// A phase that changes without end does not fill the cluster.
		before := len(api.Requests("", "/events"))
		for range 100 {
			record(status.Blocked, status.Inhibited, time.Now().String())
		}
		if n := len(api.Requests("", "/events")) - before; n > 25 {
			t.Errorf("%d requests for 100 changes in 100 s", n)
		}
		c.Recorder = nil
		record(status.Idle, "", "")
	})
}

// Whatever the word, the API server takes the Event (its bounds: validateV1EventUpdate and legacyValidateEvent in
// k8s.io/kubernetes/pkg/apis/core/validation/events.go).
func TestEventOfEachWord(t *testing.T) {
	for _, reason := range append(status.Reasons(), "") {
		for _, phase := range status.Phases() {
			for _, detail := range []string{"", strings.Repeat("日", 2000)} {
				e := event("n1", status.Status{Phase: phase, Reason: reason, Detail: detail, Since: time.Now()})
				if e.Reason == "" || len(e.Message) < 10 || len(e.Message) > 1024 || e.Namespace != "default" || e.InvolvedObject.UID != "n1" {
					t.Errorf("%s, %s: %+v", phase, reason, e)
				}
			}
		}
	}
	for reason, want := range map[status.Reason]bool{status.OutsideWindow: false, status.DrainTimeout: true, status.APIForbidden: true, status.SentinelGone: false} {
		if got := troubling(status.RollingBack, reason); got != want {
			t.Errorf("%s is a warning: %v", reason, got)
		}
	}
}
