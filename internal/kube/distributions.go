package kube

// Distribution is what one way to run a kubelet looks like on a node.
type Distribution struct {
	Name       string   // as its makers write it
	Places     []string // of the kubelet's kubeconfig; if it has several, the first that exists is the kubelet's
	Units      []string // of systemd, that run the kubelet
	Credential string   // what the kubeconfig has
}

// Distributions are those that are known. Find searches their Places, and
// kured-uncordon.service is ordered after their Units. The page
// docs/distributions.md has the same table.
func Distributions() []Distribution {
	const (
		kubeadm = "/etc/kubernetes/kubelet.conf"
		common  = "/var/lib/kubelet/kubeconfig"
		kubelet = "kubelet.service"

		rotated = "client certificate, rotated behind a symbolic link"
		inline  = "client certificate in the file itself"
	)
	return []Distribution{
		{"kubeadm, Kubespray", []string{kubeadm}, []string{kubelet}, rotated + "; at first " + inline},
		{"Canonical Kubernetes", []string{kubeadm}, []string{"snap.k8s.kubelet.service"}, inline},
		{"EKS", []string{common}, []string{kubelet, "snap.kubelet-eks.daemon.service"}, "credential plugin: aws or aws-iam-authenticator"},
		{"AKS", []string{common}, []string{kubelet}, rotated},
		{"GKE", []string{common}, []string{kubelet}, "credential plugin: gke-exec-auth-plugin"},
		{"kOps", []string{common}, []string{kubelet}, inline},
		{"OpenShift", []string{common}, []string{kubelet}, rotated},
		{"k3s", []string{"/var/lib/rancher/k3s/agent/kubelet.kubeconfig"}, []string{"k3s.service", "k3s-agent.service"}, "client certificate, renewed when the service starts"},
		{"RKE2", []string{"/var/lib/rancher/rke2/agent/kubelet.kubeconfig"}, []string{"rke2-server.service", "rke2-agent.service"}, "client certificate, renewed when the service starts"},
		{"MicroK8s", []string{"/var/snap/microk8s/current/credentials/kubelet.config"}, []string{"snap.microk8s.daemon-kubelite.service", "snap.microk8s.daemon-kubelet.service"}, "client certificate; a token in old versions"},
		// The first one leads to the load balancer on the node. The second one
		// keeps the server that the node joined by, also when that one is gone.
		{"k0s", []string{"/run/k0s/nllb/kubeconfig.yaml", "/var/lib/k0s/kubelet.conf"}, []string{"k0scontroller.service", "k0sworker.service"}, rotated},
		{"MicroShift", []string{"/var/lib/microshift/resources/kubelet/kubeconfig"}, []string{"microshift.service"}, inline},
	}
}

// Places are the files searched for the kubelet's kubeconfig, each once.
func Places() []string {
	var places []string
	seen := map[string]bool{}
	for _, d := range Distributions() {
		for _, place := range d.Places {
			if !seen[place] {
				seen[place] = true
				places = append(places, place)
			}
		}
	}
	return places
}
