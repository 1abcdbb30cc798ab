package lock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/testenv"
)

// What the real API server prints of Nodes is read as what they are, with a
// kubelet's credential and the rights of the shipped manifest.
func TestNodesOfTheRealServer(t *testing.T) {
	realLock(t)
	const pool = "kured.test/pool"
	var want []lock.Peer
	for _, ready := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown, ""} {
		for _, cordoned := range []bool{false, true} {
			for i, labels := range []map[string]string{
				{},
				{"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/ingress": ""},
				{"node-role.kubernetes.io/etcd": "true"},
				{"kubernetes.io/role": "master"},
				{"node-role.kubernetes.io/worker": ""},
			} {
				name := fmt.Sprintf("listed-%s-%t-%d", strings.ToLower(string(ready)+"x"), cordoned, i)
				labels[pool] = "a"
				addNode(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{Unschedulable: cordoned}}, ready)
				want = append(want, lock.Peer{Name: name, Ready: ready == corev1.ConditionTrue, Cordoned: cordoned, ControlPlane: i >= 1 && i <= 3})
			}
		}
	}
	addNode(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "listed-elsewhere", Labels: map[string]string{pool: "b"}}}, corev1.ConditionTrue)

	client := asNode(t, "node-a")
	got := listed(t, lock.Nodes{Client: client, Selector: pool + "=a"}, len(want))
	byName := func(a, b lock.Peer) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if !slices.Equal(got, want) {
		t.Errorf("of the pool are\n%+v\nwant\n%+v", got, want)
	}
	listed(t, lock.Nodes{Client: client, Selector: pool + " in (a, b)"}, len(want)+1)
	listed(t, lock.Nodes{Client: client, Selector: pool + "=c"}, 0)
	if all := listed(t, lock.Nodes{Client: client}, -1); len(all) <= len(want) {
		t.Errorf("of the cluster are %d nodes", len(all))
	}
	if _, err := (lock.Nodes{Client: client, Selector: "a b"}).Nodes(t.Context()); !apierrors.IsBadRequest(err) || errors.Is(err, lock.ErrListRefused) {
		t.Errorf("a wrong selector: %v", err)
	}
}

// listed lists until there are n Nodes (the watch cache is a moment behind),
// or once if n is negative.
func listed(t *testing.T, nodes lock.Nodes, n int) []lock.Peer {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := nodes.Nodes(t.Context())
		switch {
		case errors.Is(err, lock.ErrListRefused) && time.Now().Before(until): // the rights of a new manifest take effect a little later
		case err != nil:
			t.Fatal(err)
		case n < 0 || len(got) == n:
			return got
		case time.Now().After(until):
			t.Fatalf("%d nodes, want %d: %+v", len(got), n, got)
		}
	}
}

// addNode creates a Node for one test and returns its UID.
func addNode(t *testing.T, n *corev1.Node, ready corev1.ConditionStatus) string {
	t.Helper()
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: ready}}
	}
	nodes := plane.Admin().CoreV1().Nodes()
	created, err := nodes.Create(t.Context(), n, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Delete(context.WithoutCancel(t.Context()), n.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return string(created.UID)
}

// Who may not list is told so, in words that can be told from every other error.
func TestNodesRefused(t *testing.T) {
	credential, err := plane.Issue(testenv.Subject{User: "kured-stranger"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(credential.Config())
	if err != nil {
		t.Fatal(err)
	}
	got, err := lock.Nodes{Client: client}.Nodes(t.Context())
	if got != nil || !errors.Is(err, lock.ErrListRefused) || !apierrors.IsForbidden(err) {
		t.Errorf("got %v, %v", got, err)
	}
}
