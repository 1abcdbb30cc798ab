package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
)

// cluster is a real API server with a lock, as people use it.
type cluster struct {
	*testenv.ControlPlane
	t   *testing.T
	dir string
}

// as writes the kubeconfig of a user and returns its path.
func (c *cluster) as(s testenv.Subject) string {
	c.t.Helper()
	credential, err := c.Issue(s)
	if err != nil {
		c.t.Fatal(err)
	}
	path, err := credential.Write(c.dir, strings.ReplaceAll(s.User, ":", "-"))
	if err != nil {
		c.t.Fatal(err)
	}
	return path
}

// kured runs a command, which must end with the given code, and returns what it wrote.
func (c *cluster) kured(code int, line ...string) (out string, err error) {
	c.t.Helper()
	var b bytes.Buffer
	root := newRoot()
	root.SetArgs(append(line, "--config", filepath.Join(c.dir, "kured.toml")))
	root.SetOut(&b)
	err = root.ExecuteContext(c.t.Context())
	var coded *exitError
	switch {
	case err == nil && code != 0, err != nil && code == 0,
		err != nil && errors.As(err, &coded) && coded.code != code, err != nil && coded == nil && code != 1:
		c.t.Fatalf("%q: code %d expected, got %v\n%s", line, code, err, b.String())
	}
	return b.String(), err
}

func (c *cluster) node(name string) *corev1.Node {
	c.t.Helper()
	n, err := c.Admin().CoreV1().Nodes().Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// put writes into the lock as somebody does who may do everything.
func (c *cluster) put(data string) {
	c.t.Helper()
	_, err := c.Admin().CoreV1().ConfigMaps("kube-system").Patch(c.t.Context(), "kured-lock", types.MergePatchType, []byte(`{"data":`+data+`}`), metav1.PatchOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

// may gives a user a right.
func (c *cluster) may(user, verb, resource string) {
	c.t.Helper()
	name := strings.Join([]string{user, verb, resource}, "-")
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{verb}}}}
	if _, err := c.Admin().RbacV1().ClusterRoles().Create(c.t.Context(), role, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.bind(user, name, verb, resource)
}

// bind gives a user a ClusterRole, and waits until one of its rights takes effect.
func (c *cluster) bind(user, role, verb, resource string) {
	c.t.Helper()
	name := user + "-" + role
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}}
	if _, err := c.Admin().RbacV1().ClusterRoleBindings().Create(c.t.Context(), binding, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.eventually(name, func() bool {
		review, err := c.Admin().AuthorizationV1().SubjectAccessReviews().Create(c.t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: resource, Namespace: "kube-system"}}}, metav1.CreateOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		return review.Status.Allowed
	})
}

// guard installs the admission policy, and waits until it refuses what the user may not do.
func (c *cluster) guard(s testenv.Subject) {
	c.t.Helper()
	c.apply("wall.yaml")
	credential, err := c.Issue(s)
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(credential.Config())
	if err != nil {
		c.t.Fatal(err)
	}
	c.eventually("the wall", func() bool {
		guarded, err := lock.ConfigMap{Client: client, Namespace: "kube-system", Name: "kured-lock"}.Enforced(c.t.Context(), "node-b")
		if err != nil {
			c.t.Fatal(err)
		}
		return guarded
	})
}

// apply applies one of the shipped manifests.
func (c *cluster) apply(name string) {
	c.t.Helper()
	manifest, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kubernetes", name))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.Apply(c.t.Context(), manifest); err != nil {
		c.t.Fatal(err)
	}
}

// events are those that kubectl describe node shows, of kured.
func (c *cluster) events(name string) (messages []string) {
	c.t.Helper()
	for _, uid := range []types.UID{types.UID(name), "the Node's own UID is asked for, too"} {
		list, err := c.Admin().CoreV1().Events("").SearchWithContext(c.t.Context(), scheme.Scheme, &corev1.ObjectReference{Kind: "Node", Name: name, UID: uid})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Reason == node.EventReason && e.Type == corev1.EventTypeWarning {
				messages = append(messages, e.Message)
			}
		}
	}
	return messages
}

func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("never: %s", what)
		}
	}
}

// journal is what a daemon logs.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// blockDrain puts a pod on the node that a budget keeps there, until the returned function is called.
func blockDrain(c *cluster, on string) (unblock func()) {
	c.t.Helper()
	app := map[string]string{"app": "web"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: app},
		Spec: corev1.PodSpec{NodeName: on, Containers: []corev1.Container{{Name: "c", Image: "registry.example/web"}}}}
	if _, err := c.Admin().CoreV1().Pods("default").Create(c.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	one := intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: app}}}
	if _, err := c.Admin().PolicyV1().PodDisruptionBudgets("default").Create(c.t.Context(), budget, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	return func() {
		c.t.Helper()
		if err := c.Admin().PolicyV1().PodDisruptionBudgets("default").Delete(c.t.Context(), "web", metav1.DeleteOptions{}); err != nil {
			c.t.Fatal(err)
		}
	}
}
