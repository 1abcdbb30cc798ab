package kube

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/testenv"
)

// TestRealAPIServer asks a real kube-apiserver with the Node authorizer what the
// fake only stands for: which answers a kubelet's credential gets.
func TestRealAPIServer(t *testing.T) {
	cp := testenv.New(t, testenv.Options{})
	for _, name := range []string{"kube-a", "kube-b"} {
		if _, err := cp.Admin().CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "eu-1a"}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// issue writes a kubeconfig with files as the kubelet keeps them.
	issue := func(t *testing.T, s testenv.Subject) (files, string) {
		t.Helper()
		c, err := cp.Issue(s)
		if err != nil {
			t.Fatal(err)
		}
		f := files{t.TempDir()}
		f.write(t, "ca.crt", c.CA)
		rotate(t, f, c)
		return f, f.kubeconfig(t, cp.Server(), certificateUser)
	}
	t.Run("the end of a token", func(t *testing.T) {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "kured"}}
		if _, err := cp.Admin().CoreV1().ServiceAccounts(metav1.NamespaceSystem).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		token, err := cp.NodeToken(t.Context(), metav1.NamespaceSystem, account.Name, "kube-a")
		if err != nil {
			t.Fatal(err)
		}
		text, err := token.Kubeconfig()
		if err != nil {
			t.Fatal(err)
		}
		f := files{t.TempDir()}
		f.write(t, "kubeconfig", text)
		valid, err := NewCredential(f.path("kubeconfig")).Validity()
		if err != nil || valid.Kind != BearerToken || valid.Ends.Sub(valid.Begins) != time.Hour || time.Until(valid.Ends) > time.Hour {
			t.Errorf("%+v, %v, want that it is good for an hour from now", valid, err)
		}
	})

	_, own := issue(t, testenv.NodeSubject("kube-a"))

	t.Run("identity", func(t *testing.T) {
		c, err := Connect(t.Context(), Options{Kubeconfig: own})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdle()
		if c.NodeName != "kube-a" || c.NodeNameSource != SourceCredential || c.User != "system:node:kube-a" {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("dedicated certificate", func(t *testing.T) {
		grantNodes(t, cp)
		_, path := issue(t, testenv.Subject{User: "kured:node:kube-b", Groups: []string{"kured:nodes"}})
		c, err := Connect(t.Context(), Options{Kubeconfig: path})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdle()
		if c.NodeName != "kube-b" || c.NodeNameSource != SourceCredential || c.User != "kured:node:kube-b" || c.Labels[corev1.LabelTopologyZone] != "eu-1a" {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("another node's name", func(t *testing.T) {
		_, err := Connect(t.Context(), Options{Kubeconfig: own, NodeName: "kube-b"})
		wantError(t, err, Mismatch, "kubernetes.node_name and kubeconfig "+own+` disagree: "kube-b" is configured, the credential is that of "kube-a" (`)
	})
	t.Run("own Node does not exist", func(t *testing.T) {
		_, path := issue(t, testenv.NodeSubject("kube-z"))
		_, err := Connect(t.Context(), Options{Kubeconfig: path})
		wantError(t, err, NoNode, `there is no Node "kube-z" in the cluster (`)
	})
	t.Run("no rights", func(t *testing.T) {
		_, path := issue(t, testenv.Subject{User: "somebody"})
		_, err := Connect(t.Context(), Options{Kubeconfig: path, NodeName: "kube-a"})
		wantError(t, err, Forbidden, "the API server "+cp.Server()+` does not let us read the Node "kube-a": nodes "kube-a" is forbidden: `)
	})
	t.Run("rotation", func(t *testing.T) {
		const lifetime = 5 * time.Second
		short := testenv.NodeSubject("kube-a")
		short.Lifetime = lifetime
		issued := time.Now()
		f, path := issue(t, short)
		c, err := Connect(t.Context(), Options{Kubeconfig: path})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdle()
		w, err := c.Client.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=kube-a"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if event := <-w.ResultChan(); event.Object == nil {
			t.Fatalf("the watch begins with %+v", event)
		}
		old, err := os.ReadFile(f.path("current.pem"))
		if err != nil {
			t.Fatal(err)
		}
		next, err := cp.Issue(testenv.NodeSubject("kube-a"))
		if err != nil {
			t.Fatal(err)
		}
		rotate(t, f, next)
		time.Sleep(time.Until(issued.Add(lifetime + 2*time.Second))) // real expiry, judged by the server's clock
		if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "kube-a", metav1.GetOptions{}); err != nil {
			t.Errorf("with the next certificate: %v", err)
		}
		select {
		case event, open := <-w.ResultChan():
			t.Errorf("the watch was cut: %+v, %v", event, open)
		default:
		}

		f.write(t, "old.pem", old)
		f.link(t, "old.pem")
		if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "kube-a", metav1.GetOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("with the expired certificate: %v", err)
		}
		_, err = Connect(t.Context(), Options{Kubeconfig: path})
		wantError(t, err, Unauthorized, "the API server "+cp.Server()+" does not accept the credential: Unauthorized (see whether the certificate or token in kubeconfig "+path+" has expired)")
	})
	t.Run("outage", func(t *testing.T) {
		c, err := Connect(t.Context(), Options{Kubeconfig: own})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdle()
		if err := cp.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		_, err = Connect(t.Context(), Options{Kubeconfig: own})
		wantError(t, err, Unreachable, "the API server "+cp.Server()+" cannot be reached: ")
		var e *Error
		if errors.As(err, &e) && e.Permanent() {
			t.Error("an outage is called permanent")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := cp.StartAPIServer(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Client.CoreV1().Nodes().Get(ctx, "kube-a", metav1.GetOptions{}); err != nil {
			t.Errorf("the client of before the outage: %v", err)
		}
	})
}

// grantNodes lets the group of the dedicated certificates read Nodes, and waits
// until the authorizer knows.
func grantNodes(t *testing.T, cp *testenv.ControlPlane) {
	t.Helper()
	rbac, ctx := cp.Admin().RbacV1(), t.Context()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "read-nodes"},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get"}}}}
	if _, err := rbac.ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "read-nodes"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "read-nodes"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "kured:nodes"}}}
	if _, err := rbac.ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rights", func() bool {
		review, err := cp.Admin().AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: "kured:node:kube-b", Groups: []string{"kured:nodes"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "nodes", Name: "kube-b"}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	})
}

// rotate writes a certificate beside the others and turns the link to it, as
// the kubelet does.
func rotate(t *testing.T, f files, c testenv.Credential) {
	t.Helper()
	name := time.Now().Format("150405.000000000") + ".pem"
	f.write(t, name, append(append([]byte(nil), c.Certificate...), c.Key...))
	f.link(t, name)
}
