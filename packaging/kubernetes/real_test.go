package kubernetes_test

import (
	"context"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// evidence looks up Nodes as kured does.
type evidence struct{ client kubernetes.Interface }

func (e evidence) NodeUID(ctx context.Context, node string) (uid string, found bool, err error) {
	object, err := e.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", false, nil
	}
	return string(object.UID), err == nil, err
}

// TestRealLock shows that kured's own lock gets by behind the wall, whatever the credential: it finds a node that is gone,
// buries it, takes the lock, goes on and releases, and knows that there is a wall.
func TestRealLock(t *testing.T) {
	w := theWorld(t)
	credential, err := w.plane.NodeCredential("node-c")
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(credential.Config())
	if err != nil {
		t.Fatal(err)
	}
	store := lock.ConfigMap{Client: client, Namespace: namespace, Name: lockName, PolicyName: "kured-policy"}
	real := &lock.Lock{
		Store: store, Evidence: evidence{client}, Rules: store, Pace: lock.DefaultPace(),
		Node: "node-c", UID: w.uids.Replace("<uid of node-c>"), Boot: strings.Repeat("c", 32), Zone: "eu-1a",
		Max: intstr.FromInt32(1), Room: 8,
	}
	w.set(t, scene{lock: map[string]string{"holder.node-f": holds("node-f")}}.under("max", "2"))

	if enforced, err := store.Enforced(t.Context(), "node-c"); err != nil || !enforced {
		t.Errorf("a wall: %v, %v", enforced, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	demand := lock.Demand{Reason: `linux-image "6.1" <größer> \ & more`, Since: time.Now()}
	if err := real.Acquire(ctx, demand, func(r lock.Report) {
		if r.Err != nil {
			t.Errorf("while waiting: %v", r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []status.Phase{status.Draining, status.Rebooting} {
		if err := real.Advance(ctx, phase); err != nil {
			t.Fatal(err)
		}
	}
	entries := w.entries(t)
	if len(entries) != 1 || !strings.Contains(entries["holder.node-c"], `"phase":"rebooting"`) {
		t.Errorf("while it holds: %v", entries)
	}
	if err := real.Release(ctx, real.Boot); err != nil {
		t.Fatal(err)
	}
	if entries := w.entries(t); len(entries) > 0 {
		t.Errorf("after it: %v", entries)
	}
}
