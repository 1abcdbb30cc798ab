package lock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

var plane *testenv.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(testenv.Main(m, testenv.Options{}, func(cp *testenv.ControlPlane) { plane = cp }))
}

// asNode is a client with the kubelet credential of a node, as kured uses.
func asNode(t *testing.T, node string) kubernetes.Interface {
	t.Helper()
	credential, err := plane.NodeCredential(node)
	if err != nil {
		t.Fatal(err)
	}
	cfg := credential.Config()
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// realLock applies the shipped manifest and returns an empty lock object's name.
func realLock(t *testing.T) {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kubernetes", "kured.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	put(t, `{"data":null,"binaryData":null}`)
	mine := lock.ConfigMap{Client: asNode(t, "node-a"), Namespace: "kube-system", Name: "kured-lock"}
	for { // the rights of a new manifest take effect a little later
		_, err := mine.Read(t.Context())
		if err == nil {
			return
		}
		if !apierrors.IsForbidden(errors.Unwrap(err)) || t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func put(t *testing.T, patch string) {
	t.Helper()
	_, err := plane.Admin().CoreV1().ConfigMaps("kube-system").Patch(context.WithoutCancel(t.Context()), "kured-lock", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// The ConfigMap has the semantics that the lock rests on, with a kubelet's
// credential and the rights of the shipped manifest.
func TestConfigMapComparesAndSwaps(t *testing.T) {
	realLock(t)
	a := lock.ConfigMap{Client: asNode(t, "node-a"), Namespace: "kube-system", Name: "kured-lock"}
	b := lock.ConfigMap{Client: asNode(t, "node-b"), Namespace: "kube-system", Name: "kured-lock"}
	before, err := a.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	versions, err := b.Watch(t.Context(), before.Revision)
	if err != nil {
		t.Fatal(err)
	}
	edit := lock.Edit{Set: map[string]string{"holder.node-a": holds(1)}, Remove: []string{"waiter.node-a"}}
	after, err := a.Write(t.Context(), before.Revision, edit)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := after.State.Holders["node-a"]; !ok || after.Revision == before.Revision {
		t.Errorf("after the write: %+v", after)
	}
	if seen := <-versions; seen.Revision != after.Revision {
		t.Errorf("watched version %s, want %s", seen.Revision, after.Revision)
	}
	edit = lock.Edit{Set: map[string]string{"holder.node-b": holds(1)}}
	if _, err := b.Write(t.Context(), before.Revision, edit); !errors.Is(err, lock.ErrConflict) {
		t.Errorf("a write to an old version: %v", err)
	}
	if _, err := b.Write(t.Context(), "", edit); err == nil {
		t.Error("a write without a version was sent")
	}
	cm, err := plane.Admin().CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kured-lock", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cm.Data) != 1 || cm.Annotations["kured.dev/description"] == "" {
		t.Errorf("the object after it: %v %v", cm.Data, cm.Annotations)
	}
}

func TestConfigMapErrors(t *testing.T) {
	realLock(t)
	missing := lock.ConfigMap{Client: plane.Admin(), Namespace: "kube-system", Name: "kured-nowhere"}
	if _, err := missing.Read(t.Context()); !errors.Is(err, lock.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	forbidden := lock.ConfigMap{Client: asNode(t, "node-a"), Namespace: "kube-system", Name: "other"}
	if _, err := forbidden.Read(t.Context()); !apierrors.IsForbidden(errors.Unwrap(err)) {
		t.Errorf("another ConfigMap: %v", err)
	}
}

// Whatever somebody writes into the object: it holds, nothing is lost, and it
// is told which key it is.
func TestGarbageInTheConfigMap(t *testing.T) {
	realLock(t)
	put(t, `{"data":{"holder.node-x":"mine!"},"binaryData":{"blob":"AAAA"}}`)
	t.Cleanup(func() {
		put(t, `{"data":null,"binaryData":null}`)
	})
	l := &lock.Lock{Store: lock.ConfigMap{Client: asNode(t, "node-a"), Namespace: "kube-system", Name: "kured-lock"},
		Pace: lock.DefaultPace(), Node: "node-a", UID: "u", Boot: bootA, Max: intstr.FromInt32(1), Room: 8}
	ctx, cancel := context.WithCancel(t.Context())
	reports := make(chan lock.Report, 10)
	done := make(chan error)
	go func() {
		done <- l.Acquire(ctx, lock.Demand{Since: time.Now()}, func(r lock.Report) { reports <- r })
	}()
	if r := <-reports; r.Reason != status.LockUnreadable {
		t.Errorf("report %+v", r)
	}
	cancel()
	<-done
	if err := l.Release(t.Context(), l.Boot); err != nil {
		t.Fatal(err)
	}
	cm, err := plane.Admin().CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kured-lock", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cm.Data) != 1 || cm.Data["holder.node-x"] != "mine!" || len(cm.BinaryData) != 1 {
		t.Errorf("the object after it: %v %v", cm.Data, cm.BinaryData)
	}
}
