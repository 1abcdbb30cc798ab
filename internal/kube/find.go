package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Places are the files searched for the kubelet's kubeconfig, in this order.
func Places() []string {
	return []string{
		"/etc/kubernetes/kubelet.conf",                          // kubeadm, Kubespray
		"/var/lib/kubelet/kubeconfig",                           // EKS, AKS, GKE, kOps, OpenShift
		"/var/lib/rancher/k3s/agent/kubelet.kubeconfig",         // k3s
		"/var/lib/rancher/rke2/agent/kubelet.kubeconfig",        // RKE2
		"/var/snap/microk8s/current/credentials/kubelet.config", // MicroK8s
		"/run/k0s/nllb/kubeconfig.yaml",                         // k0s with its load balancer on the node
		"/var/lib/k0s/kubelet.conf",                             // k0s
	}
}

// Find is the kubeconfig to use: the configured path, or the first of Places
// that exists. Errors are *Error.
func Find(configured string) (string, error) { return find("/", configured) }

// find is Find below another root. A configured path is taken as it is.
func find(root, configured string) (string, error) {
	if configured != "" {
		return configured, check(configured)
	}
	for _, place := range Places() {
		path := filepath.Join(root, place)
		err := check(path)
		var e *Error
		if errors.As(err, &e) && e.Kind == NotFound {
			continue
		}
		// A place that exists and cannot be used is the answer too: taking
		// the next one would make us act as somebody else.
		return path, err
	}
	return "", &Error{Kind: NotFound, Err: fmt.Errorf("the kubelet has none in its usual places: %s", strings.Join(Places(), ", "))}
}

// check sees that path is a file that can be read.
func check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fileError(path, err)
	}
	if info.IsDir() {
		return &Error{Kind: Unreadable, Path: path, Err: errors.New("is a directory")}
	}
	return nil
}
