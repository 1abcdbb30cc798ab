package kubernetes_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/testenv"
)

// testWithoutWall shows that kured needs no wall, as on old clusters, with none of its credentials.
func testWithoutWall(t *testing.T, cluster *testenv.ControlPlane) {
	applyFile(t, cluster, "identity.yaml")
	w := &world{plane: cluster, admin: newCaller(t, "admin", cluster.AdminConfig())}
	w.learnUIDs(t)
	createPod(t, cluster, "pod-of-node-a", "node-a")
	createVolume(t, cluster, "volume-of-node-a")
	for _, kind := range []string{byKubelet, byCertificate, byToken} {
		node := w.caller(t, kind, "node-a")
		awaitRight(t, func() error {
			if got := w.send(t, node, w.eviction("pod-of-node-a", "pod-of-node-a")); got.refused() {
				return apierrors.NewForbidden(corev1.Resource("pods"), "pod-of-node-a", nil)
			}
			return nil
		})
		w.honestLife(t, node)
	}
}

// testTypes shows that the API server, which knows the types, has no doubts about the policies' expressions.
func testTypes(t *testing.T, cluster *testenv.ControlPlane) {
	applyFile(t, cluster, "wall.yaml")
	all := cluster.Admin().AdmissionregistrationV1().ValidatingAdmissionPolicies()
	ours, err := all.List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=kured"})
	if err != nil || len(ours.Items) < 9 {
		t.Fatalf("%d policies of kured, %v", len(ours.Items), err)
	}
	for _, policy := range ours.Items {
		for name := policy.Name; ; {
			policy, err := all.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if policy.Status.TypeChecking == nil || policy.Status.ObservedGeneration != policy.Generation {
				time.Sleep(20 * time.Millisecond) // a controller does it
				continue
			}
			for _, warning := range policy.Status.TypeChecking.ExpressionWarnings {
				t.Errorf("%s, %s: %s", name, warning.FieldRef, warning.Warning)
			}
			break
		}
	}
}

// testCleaningUp shows that the controllers which delete what nobody needs any more delete locks, too: with their
// namespace, and with their owner. Nobody else deletes one that is held.
func testCleaningUp(t *testing.T, cluster *testenv.ControlPlane) {
	ctx := t.Context()
	client := cluster.Admin().CoreV1()
	w := &world{plane: cluster, admin: newCaller(t, "admin", cluster.AdminConfig())}
	w.learnUIDs(t)
	if _, err := client.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	maps := client.ConfigMaps("pool")
	owner, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lock := func(name string, owners ...metav1.OwnerReference) {
		t.Helper()
		object := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners,
				Labels: map[string]string{"app.kubernetes.io/name": "kured", "app.kubernetes.io/component": "lock"}},
			Data: map[string]string{"holder.node-b": "{}"},
		}
		if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	lock("held")
	lock("owned", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID})
	await := func(what string, get func() error) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !apierrors.IsNotFound(get()); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is still there", what)
			}
		}
	}
	w.await(t, w.admin, request{method: "DELETE", path: "/api/v1/namespaces/pool/configmaps/held?dryRun=All"}, "the lock is held")

	if err := maps.Delete(ctx, owner.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("the lock whose owner was deleted", func() error {
		_, err := maps.Get(ctx, "owned", metav1.GetOptions{})
		return err
	})
	if err := client.Namespaces().Delete(ctx, "pool", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("the namespace with a lock in it", func() error {
		_, err := client.Namespaces().Get(ctx, "pool", metav1.GetOptions{})
		return err
	})
}
