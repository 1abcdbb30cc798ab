package manifests

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/testenv"
)

// A real API server takes what is made, twice; then a node takes the lock of a
// pool, the wall stands around each of them, and there is no other lock.
func TestPoolsAtRealAPIServer(t *testing.T) {
	plane := testenv.New(t, testenv.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	uids := map[string]string{}
	for _, name := range []string{"node-a", "node-b"} {
		n, err := plane.Admin().CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		uids[name] = string(n.UID)
	}
	if _, err := plane.Admin().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ops"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{Identity: Dedicated, Wall: true},
		{Identity: Dedicated, Namespace: "ops", Name: "turns", Policy: "limits", Wall: true, Pools: []Pool{{"web", "pool=web"}, {"db", "pool=db"}}},
	} {
		text, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := plane.Apply(ctx, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	credential, err := plane.NodeCredential("node-a")
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(credential.Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"turns-web", "turns-db"} {
		object := lock.ConfigMap{Client: client, Namespace: "ops", Name: name, PolicyName: "limits"}
		for { // policies and rights take effect an instant after they are applied
			if guarded, err := object.Enforced(ctx, "node-a"); err == nil && guarded {
				break
			} else if ctx.Err() != nil {
				t.Fatalf("no wall around %s: %v", name, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		l := lock.Lock{
			Store: object, Rules: object, Pace: lock.DefaultPace(), Node: "node-a", UID: uids["node-a"],
			Boot: "0123456789abcdef0123456789abcdef", Max: intstr.FromInt32(1), Room: 8,
		}
		if err := l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(lock.Report) {}); err != nil {
			t.Fatalf("take %s: %v", name, err)
		}
		snap, err := object.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := object.Write(ctx, snap.Revision, lock.Edit{Set: map[string]string{"waiter.node-b": "x"}}); !apierrors.IsForbidden(err) {
			t.Errorf("in %s a node writes the entry of another one: %v", name, err)
		}
	}
	if _, err := (lock.ConfigMap{Client: client, Namespace: "ops", Name: "turns"}).Read(ctx); !apierrors.IsForbidden(err) {
		t.Errorf("a lock that is none of a pool's: %v", err)
	}
}
