//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv"
)

// identity gives a node a credential of kured's own, first a token and then a certificate, and takes it back.
func (r *rollout) identity(n *nodes.Node) {
	r.Helper()
	const file = "/var/lib/kured/kubeconfig"
	dedicated := []string{"--limit", n.Name, "-e", "kured_doctor=fail", "-e", "kured_identity=dedicated", "-e", "kured_control_program=" + cluster.ControlProgram}
	r.play("a token", something, dedicated...)
	token, err := n.ReadFile(file)
	r.must(err)
	if out := r.sh(n, "stat -c '%U %a' "+file+"; systemctl is-enabled kured-renew.timer; systemctl is-active kured-renew.timer"); out != "root 600\nenabled\nactive\n" {
		r.Errorf("the credential and its renewal: %q", out)
	}
	again := append(slices.Clone(dedicated), "-e", "kured_cluster=false", "-e", "kured_sentinel=unmanaged", "--diff")
	r.play("with a token that is good", nothing, again...)
	began := time.Now()
	r.reboots(n, "kured-lock-gpu", func() { r.must(cluster.Want(n)) })
	requests, err := r.Plane.Requests(testenv.RequestFilter{Since: began, Verb: "patch", Resource: "configmaps"})
	r.must(err)
	for _, request := range requests {
		if request.User != "system:serviceaccount:kube-system:kured" {
			r.Errorf("the lock was written by %s", request.User)
		}
	}
	if len(requests) == 0 {
		r.Error("nobody wrote the lock")
	}

	again = append(again, "-e", "kured_identity_method=certificate")
	r.play("check mode of a certificate", something, append(again, "--check")...)
	if now, err := n.ReadFile(file); err != nil || string(now) != string(token) {
		r.Errorf("check mode replaced the credential (%v)", err)
	}
	out := r.play("a certificate", something, again...)
	certificate, err := n.ReadFile(file)
	r.must(err)
	if string(certificate) == string(token) || !strings.Contains(string(certificate), "client-certificate-data") {
		r.Error("there is no certificate")
	}
	if strings.Contains(out, "client-key-data") || strings.Contains(out, "PRIVATE") {
		r.Errorf("the credential is shown:\n%s", out)
	}
	// A person names it in a file of the node's own: then it is that person's.
	const dropIn = "/etc/kured/kured.toml.d/50-own.toml"
	r.must(n.WriteFile(dropIn, fmt.Appendf(nil, "[kubernetes]\nkubeconfig = '%s'\n", file), 0o644))
	kubelet := append(slices.Clone(dedicated[:4]), "-e", "kured_cluster=false", "-e", "kured_sentinel=unmanaged")
	r.play("the kubelet's own, where a file of the node's names another", something, kubelet...)
	if now, err := n.ReadFile(file); err != nil || string(now) != string(certificate) {
		r.Errorf("the credential that a file of the node's own names is not left alone (%v)", err)
	}
	if out := r.sh(n, "systemctl is-active kured-renew.timer || true"); out != "active\n" {
		r.Errorf("the timer of a credential that is used is %s", out)
	}
	r.must(n.Remove(dropIn))
	// Named as it is found without.
	kubelet = append(kubelet, "-e", `{"kured_config_host": {"kubernetes": {"kubeconfig": "/etc/kubernetes/kubelet.conf"}}}`)
	r.play("the kubelet's own", something, kubelet...)
	if there, err := n.Exists(file); err != nil || there {
		r.Errorf("the credential that nobody uses is still there (%v)", err)
	}
	if out := r.sh(n, "systemctl is-active kured-renew.timer || true"); out != "inactive\n" {
		r.Errorf("the timer that renews it is %s", out)
	}
}
