package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// A reboot is wanted and everything that it needs is missing. The daemon names
// one thing after another, and goes on by itself as each is repaired, up to the
// reboot and back. The API server is real, the kubelet a stand-in, logind a fake.
func TestEverythingIsRepaired(t *testing.T) {
	plane := testenv.New(t, testenv.Options{Controllers: true, Scheduler: true})
	ctx := t.Context()
	manifest, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kubernetes", "kured.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	login := fakelogin1.Start(t)
	var dir string
	var cfg config.Config
	_, told, ended := start(t, func(d string, c *config.Config) {
		c.Sentinel.Paths = []string{filepath.Join(d, "run", "reboot-required")}
		if err := os.WriteFile(c.Sentinel.Paths[0], nil, 0o644); err != nil {
			t.Fatal(err)
		}
		dir, cfg = d, *c
	})

	await(t, told, "kubelet.conf not found")
	credential, err := plane.NodeCredential("node-a")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := credential.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Kubernetes.Kubeconfig, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}

	await(t, told, `there is no Node "node-a"`)
	n := testenv.NewNode(t, plane, standin.Options{NodeName: "node-a"})

	await(t, told, "forbidden")
	if err := plane.Apply(ctx, manifest); err != nil {
		t.Fatal(err)
	}
	if err := plane.Admin().CoreV1().ConfigMaps("kube-system").Delete(ctx, "kured-lock", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, told, lock.ErrMissing.Error())
	if err := plane.Apply(ctx, manifest); err != nil {
		t.Fatal(err)
	}

	await(t, told, "STATUS=blocked: ") // no D-Bus
	release := login.Inhibit("apt", "shutdown", "block", "upgrading")
	if err := os.Symlink(socketPath(login.Address()), filepath.Join(dir, "no-bus")); err != nil {
		t.Fatal(err)
	}
	await(t, told, "STATUS=blocked: apt")
	rebooted := make(chan struct{})
	login.OnReboot(func() { close(rebooted) })
	release()
	<-rebooted
	select {
	case err := <-ended:
		t.Fatalf("the daemon ended: %v", err)
	default:
	}

	// The machine boots.
	if err := n.Reboot(); err != nil {
		t.Fatal(err)
	}
	boot, err := node.NormalizeBootID(n.BootID())
	if err != nil {
		t.Fatal(err)
	}
	p := testPlan(t, dir, login.Address(), boot, cfg)
	back := cycle.Runner{Mode: cycle.Return, Boot: p.boot, Parts: p.parts(nil), Publish: func(status.Status) {}}
	if err := back.Do(ctx); err != nil {
		t.Fatal(err)
	}
	self, err := plane.Admin().CoreV1().Nodes().Get(ctx, "node-a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if self.Spec.Unschedulable || self.Annotations[node.MarkAnnotation] != "" {
		t.Errorf("still cordoned: %v", self.Annotations)
	}
	cm, err := plane.Admin().CoreV1().ConfigMaps("kube-system").Get(ctx, "kured-lock", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cm.Data) != 0 {
		t.Errorf("left in the lock: %v", cm.Data)
	}
}

// socketPath is the path in an address "unix:path=…,guid=…".
func socketPath(address string) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(address, "unix:path="), ",")
	return path
}
