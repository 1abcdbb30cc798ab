package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kured-host/kured/internal/status"
)

// pods answers by label selector.
type pods struct {
	lists map[string]*corev1.PodList
	err   error
	asked []metav1.ListOptions
}

func (p *pods) List(_ context.Context, options metav1.ListOptions) (*corev1.PodList, error) {
	p.asked = append(p.asked, options)
	list, ok := p.lists[options.LabelSelector]
	if !ok {
		return nil, p.err
	}
	return list, nil
}

func podList(more string, phases map[string]corev1.PodPhase) *corev1.PodList {
	list := &corev1.PodList{ListMeta: metav1.ListMeta{Continue: more}}
	for name, phase := range phases {
		list.Items = append(list.Items, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: name}, Status: corev1.PodStatus{Phase: phase}})
	}
	return list
}

func TestBlockingPods(t *testing.T) {
	many := map[string]corev1.PodPhase{}
	for i := range 9 {
		many[fmt.Sprintf("m%d", i)] = corev1.PodRunning
	}
	lists := map[string]*corev1.PodList{
		"none":     podList("", nil),
		"two":      podList("", map[string]corev1.PodPhase{"b": corev1.PodRunning, "a": corev1.PodPending}),
		"same":     podList("", map[string]corev1.PodPhase{"a": corev1.PodPending, "c": corev1.PodUnknown}),
		"finished": podList("", map[string]corev1.PodPhase{"d": corev1.PodSucceeded, "e": corev1.PodFailed}),
		"no phase": podList("", map[string]corev1.PodPhase{"f": ""}),
		"many":     podList("", many),
		"paged":    podList("page 2", many),
		"nameless": podList("page 2", map[string]corev1.PodPhase{"d": corev1.PodSucceeded}),
	}
	for _, c := range []struct {
		selectors []string
		reason    status.Reason
		detail    string
	}{
		{nil, "", ""},
		{[]string{"none", "finished"}, "", ""},
		{[]string{"none", "two"}, status.BlockingPods, "waits for pods: jobs/a, jobs/b"},
		{[]string{"two", "same"}, status.BlockingPods, "waits for pods: jobs/a, jobs/b, jobs/c"},
		{[]string{"no phase"}, status.BlockingPods, "waits for pods: jobs/f"},
		{[]string{"many"}, status.BlockingPods, "waits for pods: jobs/m0, jobs/m1, jobs/m2 and 6 more"},
		{[]string{"paged"}, status.BlockingPods, "waits for pods: jobs/m0, jobs/m1, jobs/m2 and 6 more, or even more"},
		{[]string{"nameless"}, status.BlockingPods, "waits for pods of which the first answer names none"},
		{[]string{"none", "broken\nselector", "two"}, status.PodsUnreadable, "pods broken selector on this node cannot be listed: server is ill"},
	} {
		p := &pods{lists: lists, err: errors.New("server\nis ill")}
		v := BlockingPods{Pods: p, Node: "node-a", Selectors: c.selectors}.Check(t.Context(), Within)
		if v.Open != (c.reason == "") || v.Reason != c.reason || v.Detail != c.detail {
			t.Errorf("%v: %+v", c.selectors, v)
		}
		for _, options := range p.asked {
			if !strings.Contains(options.FieldSelector, "spec.nodeName=node-a") || options.Limit == 0 {
				t.Errorf("asked %+v", options)
			}
		}
		if c.reason != status.PodsUnreadable && len(p.asked) != len(c.selectors) {
			t.Errorf("%d requests for %d selectors", len(p.asked), len(c.selectors))
		}
	}
}

// daemonSets has one DaemonSet, "kured", with these annotations, or an error.
type daemonSets struct {
	annotations map[string]string
	err         error
}

func (d daemonSets) Get(_ context.Context, name string, _ metav1.GetOptions) (*appsv1.DaemonSet, error) {
	if d.err != nil {
		return nil, d.err
	}
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: d.annotations}}, nil
}

const rivalLock = "weave.works/kured-node-lock"

// The values of the annotation, with the clock at noon.
var rivals = []struct {
	name, value string
	reason      status.Reason
	detail      string
	next        time.Time
}{
	{"one", `{"nodeID":"n1","metadata":{"unschedulable":false},"created":"2026-11-22T11:00:00Z","TTL":0}`,
		status.RivalHolds, "held by n1 since 2026-11-22T11:00:00Z", time.Time{}},
	{"by hand", `{"nodeID":"manual"}`, status.RivalHolds, "held by manual", time.Time{}},
	{"nobody in particular", `{"nodeID":""}`, status.RivalHolds, "held by somebody without a name", time.Time{}},
	{"in time", `{"nodeID":"n1","created":"2026-11-22T11:00:00Z","TTL":7200000000000}`, status.RivalHolds, "held by n1", noon.Add(time.Hour)},
	{"timed out", `{"nodeID":"n1","created":"2026-11-22T11:00:00Z","TTL":3600000000000}`, "", "", time.Time{}},
	{"from the future", `{"nodeID":"n1","created":"2027-11-22T11:00:00Z","TTL":1}`, status.RivalHolds, "held by n1 since 2027", noon.AddDate(1, 0, 0).Add(1 - time.Hour)},
	{"a negative time", `{"nodeID":"n1","created":"2026-11-22T11:00:00Z","TTL":-1}`, status.RivalHolds, "held by n1", time.Time{}},

	{"released, of several", `{"maxOwners":2,"locks":[]}`, "", "", time.Time{}},
	{"none of several", `{"maxOwners":2,"locks":null}`, "", "", time.Time{}},
	{"two", `{"maxOwners":2,"locks":[{"nodeID":"n1","metadata":{},"created":"2026-11-22T11:00:00Z","TTL":0},{"nodeID":"n2","created":"2026-11-22T11:30:00Z","TTL":0}]}`,
		status.RivalHolds, "held by n1 since 2026-11-22T11:00:00Z, n2 since 2026-11-22T11:30:00Z", time.Time{}},
	{"two, one timed out", `{"maxOwners":2,"locks":[{"nodeID":"n1","created":"2026-11-22T11:00:00Z","TTL":1},{"nodeID":"n2","created":"2026-11-22T11:30:00Z","TTL":3600000000000}]}`,
		status.RivalHolds, "held by n2 since 2026-11-22T11:30:00Z", noon.Add(30 * time.Minute)},
	{"two, one without an end", `{"maxOwners":2,"locks":[{"nodeID":"n2","created":"2026-11-22T11:30:00Z","TTL":3600000000000},{"nodeID":"n1"}]}`,
		status.RivalHolds, "n2 since 2026-11-22T11:30:00Z, n1", time.Time{}},
	{"two, the first without an end", `{"maxOwners":2,"locks":[{"nodeID":"n1"},{"nodeID":"n2","created":"2026-11-22T11:30:00Z","TTL":3600000000000}]}`,
		status.RivalHolds, "n1, n2 since 2026-11-22T11:30:00Z", time.Time{}},
	{"five", `{"maxOwners":5,"locks":[{"nodeID":"n1"},{"nodeID":"n2"},{"nodeID":"n3"},{"nodeID":"n4"},{"nodeID":"n5"}]}`,
		status.RivalHolds, "n1, n2, n3 and 2 more", time.Time{}},
	{"a list, and by hand", `{"maxOwners":2,"locks":[],"nodeID":"manual"}`, status.RivalHolds, "held by manual", time.Time{}},
	{"ugly", `{"nodeID":"\u001b[2J` + strings.Repeat("n", 5000) + `"}`, status.RivalHolds, "[2Jnnn", time.Time{}},

	{"empty", ``, status.RivalUnreadable, rivalLock, time.Time{}},
	{"nothing", `{}`, status.RivalUnreadable, "neither a node nor a list", time.Time{}},
	{"null", `null`, status.RivalUnreadable, "neither a node nor a list", time.Time{}},
	{"an entry of nobody", `{"locks":[{"created":"2026-11-22T11:00:00Z"}]}`, status.RivalUnreadable, "names no node", time.Time{}},
	{"garbage", `held by bob`, status.RivalUnreadable, "invalid character", time.Time{}},
	{"another type", `{"nodeID":7}`, status.RivalUnreadable, "nodeID", time.Time{}},
	{"a time that is none", `{"nodeID":"n1","created":"yesterday"}`, status.RivalUnreadable, "yesterday", time.Time{}},
}

func TestRival(t *testing.T) {
	check := func(d daemonSets) Verdict {
		return Rival{DaemonSets: d, DaemonSet: "kured", Annotation: rivalLock, Now: func() time.Time { return noon }}.Check(t.Context(), Before)
	}
	for _, c := range rivals {
		v := check(daemonSets{annotations: map[string]string{rivalLock: c.value}})
		if v.Open != (c.reason == "") || v.Reason != c.reason || !strings.Contains(v.Detail, c.detail) || !v.Next.Equal(c.next) {
			t.Errorf("%s: %+v", c.name, v)
		}
		if len(v.Detail) > 1000 || strings.ContainsFunc(v.Detail, unicode.IsControl) {
			t.Errorf("%s: detail %q", c.name, v.Detail)
		}
	}
	resource := schema.GroupResource{Group: "apps", Resource: "daemonsets"}
	for _, c := range []struct {
		name string
		sets daemonSets
		open bool
	}{
		{"no lock", daemonSets{}, true},
		{"another lock", daemonSets{annotations: map[string]string{"example.com/lock": `{"nodeID":"n1"}`}}, true},
		{"no such DaemonSet", daemonSets{err: apierrors.NewNotFound(resource, "kured")}, true},
		{"a proxy's 404", daemonSets{err: apierrors.NewGenericServerResponse(http.StatusNotFound, "get", resource, "kured", "<html>", 0, true)}, false},
		{"forbidden", daemonSets{err: apierrors.NewForbidden(resource, "kured", errors.New("not you"))}, false},
		{"no answer", daemonSets{err: context.DeadlineExceeded}, false},
	} {
		v := check(c.sets)
		if v.Open != c.open || !c.open && v.Reason != status.RivalUnreadable {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func FuzzRival(f *testing.F) {
	for _, c := range rivals {
		f.Add(c.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		held, err := parseRival(value, noon)
		if err != nil && len(held) > 0 {
			t.Errorf("%v with an error: %v", held, err)
		}
		sets := daemonSets{annotations: map[string]string{rivalLock: value}}
		v := Rival{DaemonSets: sets, DaemonSet: "kured", Annotation: rivalLock, Now: func() time.Time { return noon }}.Check(t.Context(), Before)
		if v.Open != (err == nil && len(held) == 0) || v.Open == (v.Reason != "") || len(v.Detail) > 4000 || strings.ContainsFunc(v.Detail, unicode.IsControl) {
			t.Errorf("%+v", v)
		}
		if v.Open && slices.Contains([]string{"", "null", "{}"}, strings.TrimSpace(value)) {
			t.Error("nothing is a permission")
		}
	})
}
