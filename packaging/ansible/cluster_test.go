//go:build ansible

// Package ansible_test runs what the collection does in a cluster against a real API server, with the real kubectl:
// .ci/ansible, or with Ansible installed: go test -tags ansible ./packaging/ansible
package ansible_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/testenv"
)

const (
	namespace = "kube-system"
	oldLock   = "weave.works/kured-node-lock"
	// notifyURL is a secret of the DaemonSet.
	notifyURL = "slack://hook:T01234567-B01234567-5ecretGHIJABCDEFGHIJ0123@webhook"
	// sentinelCommand has a variable that is for the nodes to know.
	sentinelCommand = "--reboot-sentinel-command=sh -c 'test -e $HOME/wanted'"
)

// world is a control plane, and Ansible with a home of its own.
type world struct {
	*testing.T
	plane *testenv.ControlPlane
	admin kubernetes.Interface
	dir   string
	env   []string
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, plane: testenv.New(t, testenv.Options{}), dir: t.TempDir()}
	w.admin = w.plane.Admin()
	w.command(".", nil, "go", "build", "-o", w.path("kured"), "../../cmd/kured")
	w.command("tests/kubectl", []string{"CGO_ENABLED=0"}, "go", "build", "-o", w.path("kubectl"), ".")
	if err := os.WriteFile(w.path("ansible.cfg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.plane.AdminKubeconfig(), w.path("admin.conf")); err != nil {
		t.Fatal(err)
	}
	roles, err := filepath.Abs("tests/roles")
	if err != nil {
		t.Fatal(err)
	}
	w.env = []string{
		"HOME=" + w.dir, "ANSIBLE_CONFIG=" + w.path("ansible.cfg"), "ANSIBLE_HOME=" + w.path("ansible"),
		"ANSIBLE_LOCAL_TEMP=" + w.path("tmp"), "ANSIBLE_COLLECTIONS_PATH=" + w.path("collections"),
		"ANSIBLE_ROLES_PATH=" + roles, "ANSIBLE_NOCOLOR=1", "ANSIBLE_RETRY_FILES_ENABLED=0",
	}
	w.command(".", w.env, "ansible-galaxy", "collection", "install", "--offline", "-p", w.path("collections"), ".")
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) command(dir string, env []string, name string, args ...string) {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("%s: %v\n%s", cmd, err, output)
	}
}

// play runs a playbook for two hosts, and returns what it says and whether it went through.
func (w *world) play(book string, more ...string) (string, bool) {
	w.Helper()
	args := append([]string{"-i", "node-a,node-b,", "-e", "kured_kubeconfig=~/admin.conf",
		"-e", "kured_kubectl=" + w.path("kubectl"), "-e", "kured_program=" + w.path("kured")}, more...)
	cmd := exec.CommandContext(w.Context(), "ansible-playbook", append(args, book)...)
	cmd.Env = append(os.Environ(), w.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if strings.Contains(out.String(), "5ecret") {
		w.Errorf("a secret is shown:\n%s", out.String())
	}
	return out.String(), err == nil
}

// changed is how many tasks changed something, on all hosts together.
func changed(output string) (n int) {
	for _, found := range regexp.MustCompile(`(?m)changed=(\d+)`).FindAllStringSubmatch(output, -1) {
		n += len(strings.TrimLeft(found[1], "0"))
	}
	return n
}

func TestCluster(t *testing.T) {
	w := newWorld(t)
	locks := w.admin.CoreV1().ConfigMaps(namespace)
	pools := []string{"-e", `{"kured_pools": [{"name": "web", "selector": "pool=web"}, {"name": "gpu", "selector": "pool=gpu"}]}`}

	out, ok := w.play("tests/cluster.yml", append(pools, "--check", "--diff")...)
	if !ok || changed(out) == 0 || !strings.Contains(out, "kured-lock-gpu") {
		t.Errorf("check mode does not say what would be changed:\n%s", out)
	}
	if _, err := locks.Get(t.Context(), "kured-lock-web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("check mode changes the cluster: %v", err)
	}
	if out, ok = w.play("tests/cluster.yml", pools...); !ok || changed(out) == 0 {
		t.Fatalf("the first run:\n%s", out)
	}
	for _, name := range []string{"kured-lock-web", "kured-lock-gpu", "kured-policy"} {
		if _, err := locks.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	for _, mode := range [][]string{nil, {"--check", "--diff"}} {
		if out, ok = w.play("tests/cluster.yml", append(mode, pools...)...); !ok || changed(out) != 0 {
			t.Errorf("the second run %q changes something:\n%s", mode, out)
		}
	}
}

func TestMigrate(t *testing.T) {
	w := newWorld(t)
	w.deploy()
	sets := w.admin.AppsV1().DaemonSets(namespace)
	out, saved := w.path("out"), w.path("saved.yml")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := []string{"-e", "render_out=" + out, "-e", "render_kured=" + w.path("kured"), "-e", "kured_migrate_save=" + saved}
	accept := append([]string{"-e", `{"kured_migrate_accept": ["--lock-ttl"]}`}, settings...)

	before, err := sets.Get(t.Context(), "kured", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, ok := w.play("tests/migrate.yml", settings...)
	if ok || !strings.Contains(text, "Cannot be carried over: --lock-ttl.") {
		t.Errorf("what cannot be carried over does not stop the play:\n%s", text)
	}
	if text, ok = w.play("tests/migrate.yml", append(accept, "--check", "--diff")...); !ok {
		t.Errorf("check mode fails:\n%s", text)
	}
	after, err := sets.Get(t.Context(), "kured", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after.ResourceVersion != before.ResourceVersion {
		t.Error("what was only to look has changed the DaemonSet")
	}
	if _, err := os.Stat(saved); err == nil {
		t.Error("check mode writes a file")
	}

	// What has gone wrong half-way is gone on with.
	text, ok = w.play("tests/migrate.yml", append(accept, "-e", "kured_migrate_patience=5")...)
	if ok || !strings.Contains(text, `still holds its lock: {'nodeID': 'node-b'}`) {
		t.Errorf("a DaemonSet that holds its lock does not stop the play, or it is not said who holds:\n%s", text)
	}

	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan []string, 1)
	go func() { seen <- w.standIn(ctx) }()
	text, ok = w.play("tests/migrate.yml", accept...)
	stop()
	args := <-seen
	if !ok {
		t.Fatalf("the migration:\n%s", text)
	}
	if slices.Contains(args, "--reboot-days=sat") || !slices.Contains(args, "--reboot-days=") {
		t.Errorf("the DaemonSet could begin a reboot, with %q", args)
	}
	if !slices.Contains(args, sentinelCommand) {
		t.Errorf("the DaemonSet has lost %q: %q", sentinelCommand, args)
	}
	if _, err := sets.Get(t.Context(), "kured", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the DaemonSet is not deleted: %v", err)
	}
	for _, name := range []string{"node-a", "node-b"} {
		node, err := w.admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, labelled := node.Labels["kured.dev/migrated"]; labelled {
			t.Errorf("%s keeps the label", name)
		}
		toml, err := os.ReadFile(filepath.Join(out, name+".toml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"max_concurrent = 2\n", "days = [\"sat\"]\n", `daemonset = "kube-system/kured"`, `url_file = "/etc/kured/notify-daemonset.url"`,
		} {
			if !strings.Contains(string(toml), want) {
				t.Errorf("%s: no %q in\n%s", name, want, toml)
			}
		}
	}
	kept, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(kept, []byte("max_concurrent: 2")) || bytes.Contains(kept, []byte("compat:")) || bytes.Contains(kept, []byte("5ecret")) {
		t.Errorf("what is kept for the inventory:\n%s", kept)
	}
}

// deploy makes the nodes, the DaemonSet with its lock held, its Secret and its pods.
func (w *world) deploy() {
	w.Helper()
	ctx := w.Context()
	must := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	_, err := w.admin.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "kured-notify"}, StringData: map[string]string{"url": notifyURL},
	}, metav1.CreateOptions{})
	must(err)
	labels := map[string]string{"name": "kured"}
	pod := corev1.PodSpec{Containers: []corev1.Container{{
		Name: "kured", Image: "ghcr.io/kubereboot/kured:1.23.0", Command: []string{"/usr/bin/kured"},
		Args: []string{"--concurrency=2", "--lock-ttl=2h", "--reboot-days=sat", sentinelCommand},
		Env: []corev1.EnvVar{
			{Name: "KURED_NODE_ID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
			{Name: "KURED_NOTIFY_URL", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kured-notify"}, Key: "url",
			}}},
		},
	}}}
	set, err := w.admin.AppsV1().DaemonSets(namespace).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kured", Annotations: map[string]string{oldLock: `{"nodeID":"node-b"}`}},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType},
		},
	}, metav1.CreateOptions{})
	must(err)
	// Nobody rolls it out here: there are no controllers. As if each generation that comes were.
	set.Status.ObservedGeneration = 1000
	_, err = w.admin.AppsV1().DaemonSets(namespace).UpdateStatus(ctx, set, metav1.UpdateOptions{})
	must(err)
	for _, name := range []string{"node-a", "node-b"} {
		_, err := w.admin.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		must(err)
		spec := pod
		spec.NodeName = name
		_, err = w.admin.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "kured-" + name, Labels: labels, OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("DaemonSet")),
			}},
			Spec: spec,
		}, metav1.CreateOptions{})
		must(err)
		_, err = w.admin.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "alone-on-" + name}, Spec: spec,
		}, metav1.CreateOptions{})
		must(err)
	}
}

// standIn does what the old kured and the controller of DaemonSets do: when no day is left it gives the lock back, and
// pods leave nodes with the label. It returns the flags that it saw last.
func (w *world) standIn(ctx context.Context) (args []string) {
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	for ; ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		set, err := w.admin.AppsV1().DaemonSets(namespace).Get(ctx, "kured", metav1.GetOptions{})
		if err != nil {
			continue // not there any more, or the end
		}
		args = set.Spec.Template.Spec.Containers[0].Args
		if slices.Contains(args, "--reboot-days=") && set.Annotations[oldLock] != "" {
			patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{oldLock: nil}}})
			_, err := w.admin.AppsV1().DaemonSets(namespace).Patch(ctx, "kured", types.MergePatchType, patch, metav1.PatchOptions{})
			if err != nil && ctx.Err() == nil {
				w.Error(err)
			}
		}
		nodes, err := w.admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "kured.dev/migrated"})
		if err != nil {
			continue
		}
		for _, node := range nodes.Items {
			err := w.admin.CoreV1().Pods(namespace).Delete(ctx, "kured-"+node.Name, now)
			if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
				w.Error(err)
			}
		}
	}
	return args
}
