package testenv_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kured-host/kured/internal/testenv"
)

// cluster is shared by the tests of this package, none of which is parallel:
// one of them takes the API server away.
var cluster *testenv.ControlPlane

func TestMain(m *testing.M) {
	if os.Getenv(testenv.ParentOf) != "" {
		if err := testenv.BeParent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testenv.Main(m, testenv.Options{Audit: true}, func(cp *testenv.ControlPlane) { cluster = cp }))
}

func clientOf(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func createNode(t *testing.T, name string) {
	t.Helper()
	nodes := cluster.Admin().CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestKubeletMayChangeOnlyItsOwnNode(t *testing.T) {
	createNode(t, "rights-1")
	createNode(t, "rights-2")
	credential, err := cluster.NodeCredential("rights-1")
	if err != nil {
		t.Fatal(err)
	}
	nodes := clientOf(t, credential.Config()).CoreV1().Nodes()
	cordon := []byte(`{"spec":{"unschedulable":true}}`)
	begin := time.Now()
	if _, err := nodes.Patch(t.Context(), "rights-1", types.MergePatchType, cordon, metav1.PatchOptions{}); err != nil {
		t.Errorf("patch of the own Node: %v", err)
	}
	if _, err := nodes.Patch(t.Context(), "rights-2", types.MergePatchType, cordon, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("patch of another Node: got %v, want forbidden", err)
	}
	for _, c := range []struct {
		filter testenv.RequestFilter
		want   int
	}{
		{testenv.RequestFilter{}, 2},
		{testenv.RequestFilter{Verb: "patch", Resource: "nodes", Subresource: "-"}, 2},
		{testenv.RequestFilter{Verb: "patch", Resource: "nodes", Subresource: "status"}, 0},
		{testenv.RequestFilter{Code: 200, Name: "rights-1"}, 1},
		{testenv.RequestFilter{Code: 403, Name: "rights-2"}, 1},
		{testenv.RequestFilter{Verb: "get"}, 0},
		{testenv.RequestFilter{Since: time.Now()}, 0},
	} {
		c.filter.User = "system:node:rights-1"
		if c.filter.Since.IsZero() {
			c.filter.Since = begin
		}
		if got, err := cluster.CountRequests(c.filter); err != nil || got != c.want {
			t.Errorf("requests %+v: got %d, %v, want %d", c.filter, got, err, c.want)
		}
	}
}

func TestAuditListsAWatchOnceFromItsBeginning(t *testing.T) {
	user := "watcher-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	credential, err := cluster.Issue(testenv.Subject{User: user, Groups: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	filter := testenv.RequestFilter{User: user, Verb: "watch", Resource: "configmaps", Namespace: "default"}
	events, err := clientOf(t, credential.Config()).CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the open watch in the audit log", func() error { return wantCount(filter, 1) })
	events.Stop()
	eventually(t, "the end of the watch in the audit log", func() error {
		content, err := os.ReadFile(cluster.Dir() + "/audit.log")
		if err != nil {
			return err
		}
		if n := strings.Count(string(content), `"username":"`+user+`"`); n != 2 {
			return fmt.Errorf("%d lines, want 2", n)
		}
		return nil
	})
	if err := wantCount(filter, 1); err != nil {
		t.Error(err)
	}
}

func wantCount(filter testenv.RequestFilter, want int) error {
	if got, err := cluster.CountRequests(filter); err != nil || got != want {
		return fmt.Errorf("got %d requests, %v, want %d", got, err, want)
	}
	return nil
}

func TestCredentialsInEveryForm(t *testing.T) {
	dir := t.TempDir()
	credential, err := cluster.NodeCredential("form")
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := cluster.NodeKubeconfig("form")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/embedded", embedded, 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := credential.Write(dir, "files")
	if err != nil {
		t.Fatal(err)
	}
	other, err := cluster.Kubeconfig("other", testenv.Subject{User: "other", Groups: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "form"}}
	if _, err := cluster.Admin().CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "form"}}
	if _, err := cluster.Admin().CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bound, err := cluster.NodeToken(t.Context(), "default", "form", "form")
	if err != nil {
		t.Fatal(err)
	}
	token, err := bound.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/token", token, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, user, groups string }{
		{dir + "/token", "system:serviceaccount:default:form", "system:serviceaccounts system:serviceaccounts:default system:authenticated"},
		{dir + "/embedded", "system:node:form", "system:nodes system:authenticated"},
		{files, "system:node:form", "system:nodes system:authenticated"},
		{other, "other", "a b system:authenticated"},
		{cluster.AdminKubeconfig(), "admin", "system:masters system:authenticated"},
	} {
		config, err := clientcmd.BuildConfigFromFlags("", c.path)
		if err != nil {
			t.Fatal(err)
		}
		review, err := clientOf(t, config).AuthenticationV1().SelfSubjectReviews().Create(
			t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if user := review.Status.UserInfo; user.Username != c.user || strings.Join(user.Groups, " ") != c.groups {
			t.Errorf("%s: got user %s in %s, want %s in %s", c.path, user.Username, user.Groups, c.user, c.groups)
		}
	}
	if info, err := os.Stat(dir + "/files.key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: mode %v, %v", info.Mode(), err)
	}
}

func TestAPIServerOutages(t *testing.T) {
	maps := cluster.Admin().CoreV1().ConfigMaps("default")
	created, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "outage"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := maps.Delete(context.Background(), "outage", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	unreachable := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := maps.Get(ctx, "outage", metav1.GetOptions{})
		return err
	}
	still := func() {
		t.Helper()
		if got, err := maps.Get(t.Context(), "outage", metav1.GetOptions{}); err != nil || got.UID != created.UID {
			t.Errorf("after the outage: got %s, %v, want the object %s of before", got.UID, err, created.UID)
		}
	}

	if err := cluster.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := unreachable(); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("paused API server: got %v, want no answer", err)
	}
	if err := cluster.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	still()

	server := cluster.Server()
	if err := cluster.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := unreachable(); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("stopped API server: got %v, want no answer", err)
	}
	if err := cluster.Err(); err != nil {
		t.Errorf("a wanted stop counts as a crash: %v", err)
	}
	if err := cluster.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cluster.StartAPIServer(t.Context()); err == nil {
		t.Error("an API server was started twice")
	}
	if cluster.Server() != server {
		t.Errorf("the API server moved from %s to %s", server, cluster.Server())
	}
	still()
}

func TestApply(t *testing.T) {
	const manifests = `# only a comment
---
apiVersion: v1
kind: Namespace
metadata: {name: applied}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: here, namespace: applied}
data: {key: one}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: nowhere}
`
	for _, value := range []string{"one", "two"} {
		if err := cluster.Apply(t.Context(), []byte(strings.ReplaceAll(manifests, "key: one", "key: "+value))); err != nil {
			t.Fatal(err)
		}
		got, err := cluster.Admin().CoreV1().ConfigMaps("applied").Get(t.Context(), "here", metav1.GetOptions{})
		if err != nil || got.Data["key"] != value {
			t.Errorf("got %v, %v, want key: %s", got.Data, err, value)
		}
	}
	if _, err := cluster.Admin().CoreV1().ConfigMaps("default").Get(t.Context(), "nowhere", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	err := cluster.Apply(t.Context(), []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\n"))
	if err == nil || !strings.Contains(err.Error(), "apply Pod bad: ") {
		t.Errorf("an invalid object: got %v, want an error that names it", err)
	}
}

func TestStartRefusesWhatCannotWork(t *testing.T) {
	for _, options := range []testenv.Options{
		{BindAddress: "localhost"},
		{Scheduler: true},
		{Dir: t.TempDir() + "/" + strings.Repeat("long", 25)},
	} {
		if cp, err := testenv.Start(t.Context(), options); err == nil {
			cp.Stop()
			t.Errorf("%+v was started", options)
		}
	}
}

// eventually calls check until it succeeds, for half a minute.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
