// Package kubernetes_test shows against a real API server that the manifest gives a kubelet's identity what kured
// needs and nothing more, and that it can be applied again while nodes hold the lock.
package kubernetes_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/testenv"
)

const (
	namespace = "kube-system"
	lockName  = "kured-lock"
)

func TestMain(m *testing.M) {
	os.Exit(testenv.Main(m, testenv.Options{}, func(cp *testenv.ControlPlane) { shared.plane = cp }))
}

func manifest(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile("kured.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// kubelet returns a client with the credential of a node's kubelet.
func kubelet(t *testing.T, cluster *testenv.ControlPlane, node string) kubernetes.Interface {
	t.Helper()
	credential, err := cluster.NodeCredential(node)
	if err != nil {
		t.Fatal(err)
	}
	config := credential.Config()
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// The order matters, so this is one test: at first there is no manifest.
func TestManifest(t *testing.T) {
	cluster := testenv.New(t, testenv.Options{Controllers: true})
	t.Run("rights of a node", func(t *testing.T) { testRights(t, cluster) })
	t.Run("apply again", func(t *testing.T) { testApplyAgain(t, cluster) })
	t.Run("life without a wall", func(t *testing.T) { testWithoutWall(t, cluster) })
	t.Run("types", func(t *testing.T) { testTypes(t, cluster) })
	t.Run("cleaning up", func(t *testing.T) { testCleaningUp(t, cluster) })
}

func testRights(t *testing.T, cluster *testenv.ControlPlane) {
	ctx := t.Context()
	for _, name := range []string{"node-a", "node-b"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := cluster.Admin().CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kured-lock-of-others"}}
	if _, err := cluster.Admin().CoreV1().ConfigMaps(namespace).Create(ctx, other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node := kubelet(t, cluster, "node-a")
	locks := node.CoreV1().ConfigMaps(namespace)
	named := metav1.ListOptions{FieldSelector: "metadata.name=" + lockName}
	dryRun := []string{metav1.DryRunAll}
	patch := []byte(`{"data":{"waiter.node-a":"{}"}}`)

	watch := func(options metav1.ListOptions) error {
		watcher, err := locks.Watch(ctx, options)
		if err == nil {
			watcher.Stop()
		}
		return err
	}
	tests := []struct {
		name    string
		allowed bool
		request func() error
	}{
		{"get the lock", true, func() error {
			_, err := locks.Get(ctx, lockName, metav1.GetOptions{})
			return err
		}},
		{"list the lock by name", false, func() error {
			_, err := locks.List(ctx, named)
			return err
		}},
		{"watch the lock by name", true, func() error { return watch(named) }},
		{"update the lock", false, func() error {
			lock, err := locks.Get(ctx, lockName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			_, err = locks.Update(ctx, lock, metav1.UpdateOptions{DryRun: dryRun})
			return err
		}},
		{"patch the lock", true, func() error {
			_, err := locks.Patch(ctx, lockName, types.MergePatchType, patch, metav1.PatchOptions{DryRun: dryRun})
			return err
		}},
		{"get the policy", true, func() error {
			_, err := locks.Get(ctx, "kured-policy", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil // there need not be one
			}
			return err
		}},
		{"list all Nodes", true, func() error {
			_, err := node.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			return err
		}},
		{"patch the policy", false, func() error {
			_, err := locks.Patch(ctx, "kured-policy", types.MergePatchType, patch, metav1.PatchOptions{DryRun: dryRun})
			return err
		}},
		{"get a DaemonSet", true, func() error {
			_, err := node.AppsV1().DaemonSets(namespace).Get(ctx, "none", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil // allowed to know that there is none
			}
			return err
		}},
		{"get another Node", true, func() error {
			_, err := node.CoreV1().Nodes().Get(ctx, "node-b", metav1.GetOptions{})
			return err
		}},

		{"delete the lock", false, func() error {
			return locks.Delete(ctx, lockName, metav1.DeleteOptions{DryRun: dryRun})
		}},
		{"create a lock", false, func() error {
			lock := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: lockName}}
			_, err := locks.Create(ctx, lock, metav1.CreateOptions{DryRun: dryRun})
			return err
		}},
		{"list all ConfigMaps", false, func() error {
			_, err := locks.List(ctx, metav1.ListOptions{})
			return err
		}},
		{"watch all ConfigMaps", false, func() error { return watch(metav1.ListOptions{}) }},
		{"patch another ConfigMap", false, func() error {
			_, err := locks.Patch(ctx, other.Name, types.MergePatchType, patch, metav1.PatchOptions{DryRun: dryRun})
			return err
		}},
		{"list DaemonSets", false, func() error {
			_, err := node.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
			return err
		}},
		{"patch another Node", false, func() error {
			_, err := node.CoreV1().Nodes().Patch(ctx, "node-b", types.MergePatchType,
				[]byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{DryRun: dryRun})
			return err
		}},
	}

	// Before the manifest every request is refused: nothing in it is superfluous.
	for _, test := range tests {
		if err := test.request(); !apierrors.IsForbidden(err) {
			t.Errorf("without the manifest, %s: %v, want forbidden", test.name, err)
		}
	}
	if err := cluster.Apply(ctx, manifest(t)); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		if test.allowed {
			awaitRight(t, test.request)
		}
	}
	for _, test := range tests {
		err := test.request()
		if test.allowed && err != nil {
			t.Errorf("%s: %v, want success", test.name, err)
		}
		if !test.allowed && !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want forbidden", test.name, err)
		}
	}
}

// awaitRight waits until the API server's authorizer has seen a new binding.
func awaitRight(t *testing.T, request func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for apierrors.IsForbidden(request()) {
		select {
		case <-ctx.Done():
			t.Fatal("the manifest's rights did not take effect")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// testApplyAgain shows that holders stay, in both ways of kubectl apply: on the server, and with the three-way merge
// that it computes itself and that is the default.
func testApplyAgain(t *testing.T, cluster *testenv.ControlPlane) {
	ctx := t.Context()
	if err := cluster.Apply(ctx, manifest(t)); err != nil {
		t.Fatal(err)
	}
	locks := cluster.Admin().CoreV1().ConfigMaps(namespace)
	if _, err := locks.Patch(ctx, lockName, types.MergePatchType,
		[]byte(`{"data":{"holder.node-a":"{}"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	if err := cluster.Apply(ctx, manifest(t)); err != nil {
		t.Fatal(err)
	}
	held, err := locks.Get(ctx, lockName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if held.Data["holder.node-a"] != "{}" {
		t.Errorf("after server-side apply data is %v, want the holder", held.Data)
	}

	current, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	document := lockDocument(t)
	var fields map[string]any
	if err := json.Unmarshal(document, &fields); err != nil {
		t.Fatal(err)
	}
	if data, ok := fields["data"]; ok {
		t.Errorf("the manifest claims data %v, which belongs to the nodes", data)
	}
	schema, err := strategicpatch.NewPatchMetaFromStruct(corev1.ConfigMap{})
	if err != nil {
		t.Fatal(err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(document, document, current, schema, true)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := strategicpatch.StrategicMergePatch(current, patch, corev1.ConfigMap{})
	if err != nil {
		t.Fatal(err)
	}
	var after corev1.ConfigMap
	if err := json.Unmarshal(merged, &after); err != nil {
		t.Fatal(err)
	}
	if after.Data["holder.node-a"] != "{}" {
		t.Errorf("after client-side apply data is %v, want the holder; patch %s", after.Data, patch)
	}
}

// lockDocument returns the manifest's lock as JSON.
func lockDocument(t *testing.T) []byte {
	t.Helper()
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest(t))))
	for {
		document, err := reader.Read()
		if err != nil {
			t.Fatalf("no ConfigMap %s in the manifest: %v", lockName, err)
		}
		content, err := yaml.ToJSON(document)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(`"kind":"ConfigMap"`)) {
			return content
		}
	}
}
