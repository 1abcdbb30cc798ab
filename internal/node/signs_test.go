package node

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func TestCheckDress(t *testing.T) {
	const own = "example.org/x"
	for _, tt := range []struct {
		name  string
		dress Dress
		taint string
		// what is said to a kubelet, and to another identity; "": nothing
		kubelet, other string
	}{
		{name: "nothing"},
		{name: "own names", dress: Dress{LabelsBefore: texts{own: "a", "plain": ""}, LabelsAfter: texts{own: "{time}"}, AnnotationsBefore: texts{own: "any thing"}}},
		{name: "annotations of Kubernetes", dress: Dress{AnnotationsAfter: texts{"node.alpha.kubernetes.io/x": "{}", "Mixed.Case/X": ""}}},
		{name: "load balancers", dress: Dress{ExcludeFromLoadBalancers: true}},
		{name: "a label of Kubernetes", dress: Dress{LabelsBefore: texts{"node-role.kubernetes.io/x": ""}},
			kubelet: `node.labels_before: "node-role.kubernetes.io/x": with a kubelet's credential the API server refuses this label`},
		{name: "taint", taint: own, kubelet: `node.waiting_taint: "example.org/x": with a kubelet's credential the API server refuses`},
		{name: "no name", dress: Dress{LabelsAfter: texts{"a b": ""}},
			kubelet: `node.labels_after: "a b": not the name of a label: `, other: `node.labels_after: "a b": not the name of a label: `},
		{name: "no taint", taint: "a/b/c", kubelet: "not the name of a taint", other: "not the name of a taint"},
		{name: "no value", dress: Dress{LabelsAfter: texts{own: "a b"}}, kubelet: `"a b" cannot be the value of a label`, other: `"a b" cannot`},
		{name: "an unknown word", dress: Dress{LabelsAfter: texts{own: "{node}"}}, kubelet: `"{node}" cannot be`, other: `"{node}" cannot be`},
		{name: "too long with its words", dress: Dress{LabelsBefore: texts{own: "{boot}{boot}"}}, kubelet: "cannot be", other: "cannot be"},
		{name: "a reason finds room", dress: Dress{LabelsBefore: texts{own: strings.Repeat("x", 62) + "{reason}"}}},
		{name: "no room for a reason", dress: Dress{LabelsBefore: texts{own: strings.Repeat("x", 63) + "{reason}"}}, kubelet: "cannot be", other: "cannot be"},
		{name: "begins with a dash", dress: Dress{LabelsBefore: texts{own: "-{reason}"}}, kubelet: "cannot be", other: "cannot be"},
		{name: "kured's own", dress: Dress{AnnotationsBefore: texts{MarkAnnotation: "x"}}, kubelet: "kured uses this annotation itself", other: "kured uses"},
		{name: "a long annotation", dress: Dress{AnnotationsBefore: texts{own: strings.Repeat("x", 1025)}}, kubelet: "longer than 1024 bytes", other: "longer"},
		{name: "twice", dress: Dress{LabelsAfter: texts{lb: ""}, ExcludeFromLoadBalancers: true}, kubelet: "exclude_from_load_balancers sets", other: "sets"},
		{name: "all at once, in order", dress: Dress{LabelsBefore: texts{"b b": "", "a a": ""}, AnnotationsAfter: texts{"c c": ""}},
			other: `node.labels_before: "a a": not the name of a label: `, kubelet: `; node.annotations_after: "c c": not the name of an annotation: `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, kubelet := range []bool{true, false} {
				want := map[bool]string{true: tt.kubelet, false: tt.other}[kubelet]
				err := CheckDress(tt.dress, tt.taint, kubelet)
				var permanent interface{ Permanent() bool }
				switch {
				case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
					t.Errorf("kubelet %v: %v, want %q", kubelet, err, want)
				case err != nil && (!errors.As(err, &permanent) || !permanent.Permanent() || strings.Contains(err.Error(), "\n")):
					t.Errorf("kubelet %v: not permanent, or not one line: %v", kubelet, err)
				}
			}
		})
	}
}

func TestSetWaiting(t *testing.T) {
	const key = "example.org/waits"
	soft := func(key, value string) corev1.Taint {
		return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectPreferNoSchedule}
	}
	added := metav1.NewTime(time.Unix(1, 0).UTC())
	others := []corev1.Taint{
		{Key: key, Effect: corev1.TaintEffectNoSchedule}, soft("another", ""), {Key: "x", Value: "y", Effect: corev1.TaintEffectNoExecute, TimeAdded: &added},
	}
	for _, tt := range []struct {
		name   string
		before []corev1.Taint
		on     bool
		after  []corev1.Taint
		writes int
	}{
		{"on", nil, true, []corev1.Taint{soft(key, "")}, 1},
		{"on beside others", others, true, append(slices.Clone(others), soft(key, "")), 1},
		{"on already", []corev1.Taint{soft(key, "")}, true, []corev1.Taint{soft(key, "")}, 0},
		{"on, somebody's", []corev1.Taint{soft(key, "v")}, true, []corev1.Taint{soft(key, "v")}, 0},
		{"off", []corev1.Taint{soft(key, "")}, false, nil, 1},
		{"off beside others", append([]corev1.Taint{soft(key, "")}, others...), false, others, 1},
		{"off already", others, false, others, 0},
		{"off, somebody's", []corev1.Taint{soft(key, "v")}, false, []corev1.Taint{soft(key, "v")}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := fakeapi.New(t)
			api.SetNode(func(obj *corev1.Node) { obj.Spec.Taints = tt.before })
			n := New(api.Client(), "n1", bootA)
			for range 2 {
				if err := n.SetWaiting(t.Context(), key, tt.on); err != nil {
					t.Fatal(err)
				}
			}
			if got := api.Node().Spec.Taints; !equality.Semantic.DeepEqual(got, tt.after) {
				t.Errorf("taints %+v\nwant %+v", got, tt.after)
			}
			if got := len(api.Requests(http.MethodPatch, "")); got != tt.writes {
				t.Errorf("%d writes, want %d", got, tt.writes)
			}
		})
	}
}

// Every reason of the status has a form of its own that a condition's reason may have (metav1.Condition).
func TestConditionReason(t *testing.T) {
	if got := ConditionReason(status.OutsideWindow); got != "OutsideWindow" {
		t.Errorf("got %q", got)
	}
	form := regexp.MustCompile(`^[A-Z][A-Za-z]*$`)
	seen := map[string]status.Reason{}
	for _, r := range append(status.Reasons(), "") {
		text := ConditionReason(r)
		if other, twice := seen[text]; twice || !form.MatchString(text) {
			t.Errorf("%q and %q: %q", r, other, text)
		}
		seen[text] = r
	}
}

func TestConditions(t *testing.T) {
	want := map[status.Phase]string{
		status.Blocked: "MaintenancePlanned", status.Queued: "MaintenancePlanned", status.Locked: "MaintenancePlanned",
		status.BackingOff: "MaintenancePlanned", status.Held: "MaintenancePlanned",
		status.Draining:  "MaintenancePlanned DrainInProgress",
		status.Rebooting: "Drained MaintenanceInProgress", status.Returning: "Drained MaintenanceInProgress",
	}
	for _, phase := range status.Phases() {
		var types []string
		for _, c := range Conditions(phase, status.LockFull, "m") {
			types = append(types, string(c.Type))
			if c.Reason != "LockFull" || c.Message != "m" {
				t.Errorf("%s: %+v", phase, c)
			}
		}
		if got := strings.Join(types, " "); got != want[phase] {
			t.Errorf("%s: %q, want %q", phase, got, want[phase])
		}
	}
}

// serveStatus adds the status of the Node to the API: strategic merge patches with a precondition.
func serveStatus(t *testing.T, api *fakeapi.API) (writes *int) {
	writes = new(int)
	api.Before = func(req *http.Request) (*http.Response, error) {
		if req.Method != http.MethodPatch || !strings.HasSuffix(req.URL.Path, "/n1/status") {
			return nil, nil
		}
		if got := req.Header.Get("Content-Type"); got != string(types.StrategicMergePatchType) {
			t.Errorf("a patch of type %s", got)
		}
		requests := api.Requests(http.MethodPatch, "/status")
		body := requests[len(requests)-1].Body
		var version struct {
			Metadata struct{ ResourceVersion string }
		}
		now, before := api.Node().ResourceVersion, encode(api.Node())
		if err := json.Unmarshal([]byte(body), &version); err != nil || version.Metadata.ResourceVersion != now {
			t.Errorf("patch %s on version %s: %v", body, now, err)
		}
		merged, err := strategicpatch.StrategicMergePatch(before, []byte(body), &corev1.Node{})
		if err != nil {
			t.Errorf("patch %s: %v", body, err)
		}
		*writes++
		api.SetNode(func(obj *corev1.Node) {
			*obj = corev1.Node{}
			if err := json.Unmarshal(merged, obj); err != nil {
				t.Error(err)
			}
		})
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(merged)))}, nil
	}
	return writes
}

func TestSetConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		writes := serveStatus(t, api)
		admins := corev1.NodeCondition{Type: corev1.NodeDrained, Status: corev1.ConditionTrue, Reason: "AdminRequested", Message: "by hand"}
		api.SetNode(reports(bootA, corev1.ConditionTrue, "KubeletReady", ""))
		api.SetNode(func(obj *corev1.Node) {
			obj.Status.Conditions = append(obj.Status.Conditions, admins,
				corev1.NodeCondition{Type: corev1.NodeMaintenanceInProgress, Status: corev1.ConditionFalse, Reason: "AdminRequested"})
		})
		n := New(api.Client(), "n1", bootA)
		begun := time.Now()
		set := func(wantWrites int, want []Condition) {
			t.Helper()
			*writes = 0
			for range 2 {
				if err := n.SetConditions(t.Context(), want); err != nil {
					t.Fatal(err)
				}
			}
			if *writes != wantWrites {
				t.Errorf("%d writes, want %d", *writes, wantWrites)
			}
		}
		expect := func(own []string, want map[string]string) {
			t.Helper()
			s, err := n.Get(t.Context())
			if err != nil || !slices.Equal(s.Conditions, own) || !s.Ready {
				t.Errorf("state %+v, %v; want our conditions %v", s, err, own)
			}
			got := map[string]string{}
			for _, c := range api.Node().Status.Conditions {
				if slices.Contains(lifecycle(), c.Type) {
					got[string(c.Type)] = string(c.Status) + " " + c.Reason + ": " + c.Message
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("conditions\n%v\nwant\n%v", got, want)
			}
		}
		const hand, off = "True AdminRequested: by hand", "False AdminRequested: "

		set(0, nil)
		expect(nil, map[string]string{"Drained": hand, "MaintenanceInProgress": off})
		set(1, Conditions(status.Blocked, status.OutsideWindow, "outside\nthe window"))
		expect([]string{"MaintenancePlanned"}, map[string]string{
			"MaintenancePlanned": "True OutsideWindow: kured: outside the window", "Drained": hand, "MaintenanceInProgress": off})
		time.Sleep(time.Hour)
		set(1, Conditions(status.Draining, "", "0 of 3 pods gone"))
		expect([]string{"MaintenancePlanned", "DrainInProgress"}, map[string]string{
			"MaintenancePlanned": "True RebootRequired: kured: 0 of 3 pods gone", "DrainInProgress": "True RebootRequired: kured: 0 of 3 pods gone",
			"Drained": hand, "MaintenanceInProgress": off})
		if c := conditionOf(api.Node(), corev1.NodeMaintenancePlanned); !c.LastTransitionTime.Time.Equal(begun) || !c.LastHeartbeatTime.After(begun) {
			t.Errorf("planned since %s, heard of at %s; want %s and an hour later", c.LastTransitionTime, c.LastHeartbeatTime, begun)
		}
		set(1, Conditions(status.Rebooting, "", "x"))
		expect([]string{"MaintenanceInProgress"}, map[string]string{"Drained": hand, "MaintenanceInProgress": "True RebootRequired: kured: x"})
		set(1, nil)
		expect(nil, map[string]string{"Drained": hand})
	})
}
