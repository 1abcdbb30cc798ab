package kube

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		exist []string
		want  string
	}{
		"kubeadm":           {[]string{"etc/kubernetes/kubelet.conf"}, "etc/kubernetes/kubelet.conf"},
		"EKS":               {[]string{"var/lib/kubelet/kubeconfig"}, "var/lib/kubelet/kubeconfig"},
		"k3s":               {[]string{"var/lib/rancher/k3s/agent/kubelet.kubeconfig"}, "var/lib/rancher/k3s/agent/kubelet.kubeconfig"},
		"RKE2":              {[]string{"var/lib/rancher/rke2/agent/kubelet.kubeconfig"}, "var/lib/rancher/rke2/agent/kubelet.kubeconfig"},
		"MicroK8s":          {[]string{"var/snap/microk8s/current/credentials/kubelet.config"}, "var/snap/microk8s/current/credentials/kubelet.config"},
		"k0s":               {[]string{"var/lib/k0s/kubelet.conf"}, "var/lib/k0s/kubelet.conf"},
		"k0s with balancer": {[]string{"var/lib/k0s/kubelet.conf", "run/k0s/nllb/kubeconfig.yaml"}, "run/k0s/nllb/kubeconfig.yaml"},
		"none":              {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, p := range c.exist {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(root, p)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, p), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := find(root, "")
			if c.want != "" {
				if want := filepath.Join(root, c.want); got != want || err != nil {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != NotFound {
				t.Fatalf("got %v", err)
			}
			for _, place := range Places() {
				if !strings.Contains(err.Error(), place) {
					t.Errorf("%v does not name %s", err, place)
				}
			}
		})
	}
}

// A place that exists and cannot be used must not make us somebody else.
func TestFindDoesNotSkipABrokenPlace(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{"etc/kubernetes/kubelet.conf/x", "var/lib/k0s/kubelet.conf"} {
		if err := os.MkdirAll(filepath.Join(root, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := find(root, "")
	wantError(t, err, Unreadable, "kubeconfig "+root+"/etc/kubernetes/kubelet.conf cannot be read: is a directory")
}
