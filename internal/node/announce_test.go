package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

var announcedAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func drainingStatus() status.Status {
	return status.Status{Phase: status.Draining, Detail: "12 of 14 pods gone", Since: announcedAt.Add(time.Millisecond), Boot: bootA, Cycle: bootA,
		Demand: &status.Demand{Since: announcedAt.Add(-time.Hour), Path: "/run/reboot-required", Reasons: []string{"linux-image-6.1.0-40", "libc6"}}}
}

func TestAnnouncementText(t *testing.T) {
	got := announce(drainingStatus(), announcedAt.Add(-24*time.Hour), "1.2.3").encode()
	want := `{"v":1,"phase":"draining","detail":"12 of 14 pods gone","since":"2026-11-22T12:00:00Z","wanted":"2026-11-22T11:00:00Z",` +
		`"packages":["linux-image-6.1.0-40","libc6"],"boot":"` + bootA + `","cycle":"` + bootA + `","rebooted":"2026-11-21T12:00:00Z","version":"1.2.3"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := announce(status.Status{Phase: status.Idle, Since: announcedAt, Boot: bootA}, time.Time{}, "1").encode(); got !=
		`{"v":1,"phase":"idle","since":"2026-11-22T12:00:00Z","boot":"`+bootA+`","version":"1"}` {
		t.Errorf("idle: %s", got)
	}
	for text, want := range map[string]string{
		``:                                    "no JSON object with a version v",
		`[]`:                                  "no JSON object with a version v",
		`{}`:                                  "version 0, this kured reads version 1",
		`{"v":2,"phase":7}`:                   "version 2, this kured reads version 1",
		`{"v":1,"phase":7}`:                   "a field is not of its type",
		`{"v":1,"since":"yesterday"}`:         "a field is not of its type",
		`{"v":1}`:                             `unknown phase ""`,
		"{\"v\":1,\"phase\":\"x\\u001b[2J\"}": `unknown phase "x [2J"`,
		`{"v":1,"phase":"idle","detail":"` + strings.Repeat("x", maxAnnouncement) + `"}`: "longer than 4096 bytes",
	} {
		if _, err := ParseAnnouncement(text); err == nil || err.Error() != want {
			t.Errorf("%.60s: %v, want %s", text, err, want)
		}
	}
	// Of a newer kured with more words.
	a, err := ParseAnnouncement(`{"v":1,"phase":"blocked","reason":"full\u202emoon","more":1,"packages":["a\nb"],"since":"9999-12-31T23:59:59-10:00"}`)
	if err != nil || a.Reason != "full moon" || a.Packages[0] != "a b" || !a.Since.IsZero() {
		t.Errorf("%+v, %v", a, err)
	}
}

// Whatever a node writes is read as something bounded that can be printed; and what is written is read back as it is.
func FuzzParseAnnouncement(f *testing.F) {
	f.Add(announce(drainingStatus(), announcedAt, "1").encode())
	f.Add(`{"v":1,"phase":"idle","detail":"` + strings.Repeat("<", 300) + `","packages":["` + strings.Repeat("日", 300) + `"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAnnouncement(text)
		if err != nil {
			if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("error %q", err)
			}
			return
		}
		again, err := ParseAnnouncement(a.encode())
		if err != nil {
			t.Fatalf("%s becomes %s: %v", text, a.encode(), err)
		}
		if fmt.Sprint(again) != fmt.Sprint(a) && len(a.Packages) == len(again.Packages) {
			t.Errorf("%+v becomes %+v", a, again)
		}
	})
}

// serveAnnouncements adds JSON patches of the annotation to the API.
func serveAnnouncements(api *fakeapi.API) {
	api.Before = func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Content-Type") != string(types.JSONPatchType) {
			return nil, nil
		}
		requests := api.Requests(http.MethodPatch, "/n1")
		var steps []struct{ Op, Path, Value string }
		if err := json.Unmarshal([]byte(requests[len(requests)-1].Body), &steps); err != nil || len(steps) != 2 ||
			steps[0].Op != "test" || steps[1].Op != "replace" || steps[1].Path != "/metadata/annotations/kured.dev~1status" {
			return fakeapi.Refuse(apierrors.NewBadRequest(fmt.Sprint(steps, err))), nil
		}
		is := api.Node().Annotations[StatusAnnotation]
		if is != steps[0].Value { // as k8s.io/apiserver/pkg/endpoints/handlers/patch.go answers
			return fakeapi.Refuse(&apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 422, Reason: metav1.StatusReasonInvalid}}), nil
		}
		api.SetNode(func(obj *corev1.Node) { obj.Annotations[StatusAnnotation] = steps[1].Value })
		return fakeapi.Reply(http.StatusOK, api.Node()), nil
	}
}

func TestAnnounce(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(func(obj *corev1.Node) { obj.Annotations = map[string]string{"x": "y"} })
	serveAnnouncements(api)
	n := New(api.Client(), "n1", bootA)
	c := Chronicle{Node: n, Annotate: true, Version: "1"}
	known := ""
	step := func(s status.Status, rebooted time.Time, gets, patches int, want string) {
		t.Helper()
		before := len(api.Requests("", ""))
		is, err := c.Announce(t.Context(), s, rebooted, known)
		if err != nil {
			t.Fatal(err)
		}
		known = is
		all := api.Requests("", "")[before:]
		var got [2]int
		for _, r := range all {
			if r.Method == http.MethodGet {
				got[0]++
			} else {
				got[1]++
			}
		}
		if got != [2]int{gets, patches} {
			t.Errorf("%d reads and %d writes, want %d and %d", got[0], got[1], gets, patches)
		}
		if on := api.Node().Annotations[StatusAnnotation]; on != is || !strings.Contains(on, want) || (want == "") != (on == "") {
			t.Errorf("announced %s, known %s, want %s", on, is, want)
		}
	}
	idle := status.Status{Phase: status.Idle, Since: announcedAt, Boot: bootA}
	step(idle, time.Time{}, 1, 1, `"idle"`) // the first one
	step(idle, time.Time{}, 0, 0, `"idle"`)
	step(drainingStatus(), time.Time{}, 0, 1, `"draining"`)
	longer := drainingStatus()
	longer.Detail, longer.Since = "13 of 14 pods gone", announcedAt.Add(time.Minute)
	step(longer, time.Time{}, 0, 0, `"12 of 14 pods gone"`)
	step(idle, announcedAt, 0, 1, `"rebooted":"2026-11-22T12:00:00Z"`)
	step(drainingStatus(), time.Time{}, 0, 1, `"rebooted":"2026-11-22T12:00:00Z"`) // which stays

	// Another process has announced meanwhile: what it knows of the reboot stays.
	other := announce(idle, announcedAt.Add(time.Hour), "1").encode()
	api.SetNode(func(obj *corev1.Node) { obj.Annotations[StatusAnnotation] = other })
	blocked := status.Status{Phase: status.Blocked, Reason: status.OutsideWindow, Since: announcedAt, Boot: bootA}
	step(blocked, time.Time{}, 1, 2, `"rebooted":"2026-11-22T13:00:00Z"`)
	api.SetNode(func(obj *corev1.Node) { obj.Annotations[StatusAnnotation] = other })
	step(idle, time.Time{}, 1, 1, other) // and says it already: only the failed try is a write
	// Garbage, and none.
	api.SetNode(func(obj *corev1.Node) { obj.Annotations[StatusAnnotation] = "what?" })
	known = "what?"
	step(idle, time.Time{}, 0, 1, `"idle"`)
	api.SetNode(func(obj *corev1.Node) { delete(obj.Annotations, StatusAnnotation) })
	step(drainingStatus(), time.Time{}, 1, 2, `"draining"`)

	c.Annotate = false // from now on it is not wanted
	step(idle, time.Time{}, 1, 1, "")
	step(drainingStatus(), time.Time{}, 0, 0, "")
	if api.Node().Annotations["x"] != "y" {
		t.Error("somebody else's annotation is gone")
	}
	if err := CheckDress(Dress{AnnotationsAfter: map[string]string{StatusAnnotation: "x"}}, "", true); err == nil {
		t.Error("the annotation may be configured as an owner's")
	}
}
