package cluster

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The helpers decide whether the other tests see a violation, so they must see one.
func TestHistory(t *testing.T) {
	second := 0
	at := func() time.Time { second++; return time.Unix(int64(second), 0) }
	node := func(name, boot string, cordoned bool) Version {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Spec.Unschedulable = cordoned
		n.Status.NodeInfo.BootID = boot
		return Version{At: at(), Node: n}
	}
	lock := func(keys ...string) Version {
		data := make(map[string]string)
		for _, k := range keys {
			data[k] = "{}"
		}
		return Version{At: at(), Lock: &corev1.ConfigMap{Data: data}}
	}
	r := &Recorder{versions: []Version{
		node("a", "11-11", false), node("b", "22-22", false), // 1, 2
		lock("holder.a", "waiter.b"),                        // 3
		node("a", "11-11", true),                            // 4
		node("b", "22-22", true),                            // 5: two cordoned, for one version
		node("b", "22-22", false),                           // 6
		node("a", "33-33", true), node("a", "33-33", false), // 7, 8
		lock("holder.a", "holder.b"), // 9: two holders, for one version
		lock("holder.b"),             // 10
	}}
	h := r.Since(2)
	if got := h.MaxHolders(); got != 2 {
		t.Errorf("MaxHolders %d, want 2", got)
	}
	if got := h.MaxCordoned(); got != 2 {
		t.Errorf("MaxCordoned %d, want 2", got)
	}
	if got, want := h.BootIDs("a"), []string{"1111", "3333"}; !slices.Equal(got, want) {
		t.Errorf("BootIDs %v, want %v", got, want)
	}
	wantSpans := []Span{{"a", time.Unix(3, 0), time.Unix(10, 0)}, {"b", time.Unix(9, 0), time.Time{}}}
	if got := h.HolderSpans(); !slices.Equal(got, wantSpans) {
		t.Errorf("HolderSpans %v, want %v", got, wantSpans)
	}
	if got := r.Since(6).MaxCordoned(); got != 1 {
		t.Errorf("MaxCordoned since 6 is %d, want 1", got)
	}
	if got := r.Since(7).Before; !got.IsCordoned("a") || !got.Holds("a") || got.Holds("b") || !slices.Equal(got.Waiters(), []string{"b"}) {
		t.Errorf("state at 7: %s", got)
	}
	if got := h.LockWrites(); got != 3 {
		t.Errorf("LockWrites %d, want 3", got)
	}
	gone := *r.versions[9].Lock
	r.versions = append(r.versions, Version{At: at(), Lock: &gone, Deleted: true}, Version{At: at(), Node: r.versions[7].Node, Deleted: true})
	if s := r.State(); len(s.Holders()) != 0 || len(s.Nodes) != 1 {
		t.Errorf("after deletions: %s", s)
	}
}

func TestAwaitSeesShortStates(t *testing.T) {
	r := &Recorder{changed: make(chan struct{}), seen: make(map[string]string)}
	go func() {
		for i, cordoned := range []bool{false, true, false} {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: string(rune('1' + i))}}
			n.Spec.Unschedulable = cordoned
			r.add(n, false, false)
		}
	}()
	got, err := r.Await(t.Context(), 0, "a cordon", func(s State) bool { return s.IsCordoned("a") })
	if err != nil || got != 2 {
		t.Errorf("Await: %d, %v, want position 2", got, err)
	}
}
