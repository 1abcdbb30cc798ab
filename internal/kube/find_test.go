package kube

import (
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// tree is a node in testdata.
type tree struct {
	dir, of, want  string // of: the distribution; want: the place
	hasCertificate bool   // that has an end
}

func trees() []tree {
	const certificate, other = true, false
	return []tree{
		{"kubeadm", "kubeadm, Kubespray", "etc/kubernetes/kubelet.conf", certificate},
		{"kubeadm-init", "kubeadm, Kubespray", "etc/kubernetes/kubelet.conf", certificate},
		{"canonical", "Canonical Kubernetes", "etc/kubernetes/kubelet.conf", certificate},
		{"eks", "EKS", "var/lib/kubelet/kubeconfig", other},
		{"eks-authenticator", "EKS", "var/lib/kubelet/kubeconfig", other},
		{"aks", "AKS", "var/lib/kubelet/kubeconfig", certificate},
		{"gke", "GKE", "var/lib/kubelet/kubeconfig", other},
		{"kops", "kOps", "var/lib/kubelet/kubeconfig", certificate},
		{"openshift", "OpenShift", "var/lib/kubelet/kubeconfig", certificate},
		{"k3s-server", "k3s", "var/lib/rancher/k3s/agent/kubelet.kubeconfig", certificate},
		{"k3s-agent", "k3s", "var/lib/rancher/k3s/agent/kubelet.kubeconfig", certificate},
		{"rke2", "RKE2", "var/lib/rancher/rke2/agent/kubelet.kubeconfig", certificate},
		{"microk8s", "MicroK8s", "var/snap/microk8s/current/credentials/kubelet.config", certificate},
		{"microk8s-token", "MicroK8s", "var/snap/microk8s/current/credentials/kubelet.config", other},
		{"k0s", "k0s", "var/lib/k0s/kubelet.conf", certificate},
		{"k0s-balanced", "k0s", "run/k0s/nllb/kubeconfig.yaml", certificate},
		{"microshift", "MicroShift", "var/lib/microshift/resources/kubelet/kubeconfig", certificate},
	}
}

// Each tree in testdata is a node as a distribution leaves it: the kubeconfig
// is found, and with it kured is that node. Only the server's address and the
// credentials themselves are put in here.
func TestDistributions(t *testing.T) {
	for _, c := range trees() {
		t.Run(c.dir, func(t *testing.T) {
			api := newFakeAPI(t)
			api.tokens["node-token"] = "system:node:node-a"
			root := t.TempDir()
			plant(t, api, c.dir, root)
			t.Setenv("PATH", filepath.Join(root, "usr/bin")+":"+os.Getenv("PATH"))

			path, err := find(root, "")
			if want := filepath.Join(root, c.want); path != want || err != nil {
				t.Fatalf("got %q, %v, want %q", path, err, want)
			}
			i := slices.IndexFunc(Distributions(), func(d Distribution) bool { return d.Name == c.of })
			if i < 0 || !slices.Contains(Distributions()[i].Places, "/"+c.want) {
				t.Errorf("%s is not a place of %s", c.want, c.of)
			}
			materialize(t, api, path)
			got, err := Connect(t.Context(), Options{Kubeconfig: path})
			if err != nil {
				t.Fatal(err)
			}
			defer got.CloseIdle()
			if got.NodeName != "node-a" || got.NodeNameSource != SourceCredential || !got.IsKubelet() {
				t.Errorf("we are %q by %s, as %q", got.NodeName, got.NodeNameSource, got.User)
			}
			if valid, err := NewCredential(path).Validity(); err != nil || valid.Ends.IsZero() == c.hasCertificate {
				t.Errorf("good until %v, %v", valid.Ends, err)
			}
		})
	}
}

// No distribution and no directory is forgotten in the list of trees.
func TestEachDistributionHasATree(t *testing.T) {
	for _, d := range Distributions() {
		if !slices.ContainsFunc(trees(), func(c tree) bool { return c.of == d.Name }) {
			t.Errorf("%s has no tree", d.Name)
		}
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.ContainsFunc(trees(), func(c tree) bool { return c.dir == entry.Name() }) {
			t.Errorf("testdata/%s is not tested", entry.Name())
		}
	}
}

var (
	serverLine   = regexp.MustCompile(`server: .*`)
	absolutePath = regexp.MustCompile(`([ '"])(/(?:etc|home|run|usr|var)/)`)
)

// plant puts a tree of testdata below root: paths in its files lead there, too,
// and the server is the fake. Programs are linked, not copied: a file that was
// just written may be busy when it is executed.
func plant(t *testing.T, api *fakeAPI, tree, root string) {
	t.Helper()
	from, err := filepath.Abs(filepath.Join("testdata", tree))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := api.ca.issue(t, "system:node:node-a")
	data := base64.StdEncoding.EncodeToString
	secrets := strings.NewReplacer("{{CA}}", data(api.ca.pem), "{{CERT}}", data(cert), "{{KEY}}", data(key),
		"{{CERT-JSON}}", strconv.Quote(string(cert)), "{{KEY-JSON}}", strconv.Quote(string(key)))
	err = filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(root, strings.TrimPrefix(path, from))
		switch {
		case entry.IsDir():
			return os.MkdirAll(to, 0o755)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case info.Mode()&0o100 != 0:
			return os.Symlink(path, to)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text = serverLine.ReplaceAll(text, []byte("server: "+api.URL))
		text = absolutePath.ReplaceAll(text, []byte("${1}"+root+"${2}"))
		return os.WriteFile(to, []byte(secrets.Replace(string(text))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// materialize writes the files that the kubeconfig names, as their owners keep
// them: the kubelet its certificate and key in one file behind a link.
func materialize(t *testing.T, api *fakeAPI, kubeconfig string) {
	t.Helper()
	raw, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, content []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, cluster := range raw.Clusters {
		if cluster.CertificateAuthority != "" {
			write(cluster.CertificateAuthority, api.ca.pem)
		}
	}
	user := currentUser(raw)
	if user == nil || user.ClientCertificate == "" {
		return
	}
	cert, key := api.ca.issue(t, "system:node:node-a")
	if user.ClientCertificate != user.ClientKey {
		write(user.ClientCertificate, cert)
		write(user.ClientKey, key)
		return
	}
	dated := strings.Replace(user.ClientCertificate, "current", "2026-11-22-10-00-00", 1)
	write(dated, append(cert, key...))
	if err := os.Symlink(dated, user.ClientCertificate); err != nil {
		t.Fatal(err)
	}
}

// put makes empty files below a new root, and directories where the path ends
// with a slash.
func put(t *testing.T, paths ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, path := range paths {
		dir := filepath.Dir(filepath.Join(root, path))
		if strings.HasSuffix(path, "/") {
			dir = filepath.Join(root, path)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "/") {
			continue
		}
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindNone(t *testing.T) {
	_, err := find(put(t, "etc/kubernetes/bootstrap-kubelet.conf"), "")
	wantError(t, err, NotFound, "kubeconfig not found: the kubelet has none in its usual places: /etc/kubernetes/kubelet.conf, ")
	for _, place := range Places() {
		if !strings.Contains(err.Error(), place) {
			t.Errorf("%v does not name %s", err, place)
		}
	}
}

// Where two distributions have left a kubeconfig, a wrong choice would hold the
// lock of one cluster and take a node of the other one down.
func TestFindDoesNotChoose(t *testing.T) {
	const old, present = "etc/kubernetes/kubelet.conf", "var/lib/rancher/k3s/agent/kubelet.kubeconfig"
	root := put(t, old, present)
	path, err := find(root, "")
	if path != "" {
		t.Errorf("it chose %s", path)
	}
	wantError(t, err, Ambiguous, "kubeconfigs of several kubelets found: "+root+"/"+old+", "+root+"/"+present+" (set kubernetes.kubeconfig to ")

	if path, err := find(root, filepath.Join(root, present)); err != nil || path != filepath.Join(root, present) {
		t.Errorf("configured: got %q, %v", path, err)
	}
	if err := os.Remove(filepath.Join(root, old)); err != nil {
		t.Fatal(err)
	}
	if path, err := find(root, ""); err != nil || path != filepath.Join(root, present) {
		t.Errorf("after the rest was removed: got %q, %v", path, err)
	}
	// One file under two names is no choice, and a link into nothing no file.
	if err := os.Symlink(filepath.Join(root, present), filepath.Join(root, old)); err != nil {
		t.Fatal(err)
	}
	if path, err := find(root, ""); err != nil || path != filepath.Join(root, old) {
		t.Errorf("two names: got %q, %v", path, err)
	}
	if err := os.Remove(filepath.Join(root, present)); err != nil {
		t.Fatal(err)
	}
	_, err = find(root, "")
	wantError(t, err, NotFound, "kubeconfig not found: ")
}

// A place that exists and cannot be used must not make us somebody else.
func TestFindDoesNotSkipABrokenPlace(t *testing.T) {
	root := put(t, "etc/kubernetes/kubelet.conf/", "var/lib/k0s/kubelet.conf")
	_, err := find(root, "")
	wantError(t, err, Unreadable, "kubeconfig "+root+"/etc/kubernetes/kubelet.conf cannot be read: is a directory")
}

// The daemon is root without capabilities: permissions count for it.
func TestFindWithoutPermission(t *testing.T) {
	root := put(t, "etc/kubernetes/kubelet.conf", "var/lib/k0s/kubelet.conf")
	hidden, file := filepath.Join(root, "etc/kubernetes"), filepath.Join(root, "var/lib/k0s/kubelet.conf")
	// t.TempDir makes the parent for its owner alone.
	for path, mode := range map[string]fs.FileMode{filepath.Dir(root): 0o755, hidden: 0, file: 0} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(hidden, 0o755) }) // else it cannot be removed
	var foundErr, loadErr, visible error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Without the override that root has, on this thread alone: it ends with the goroutine.
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if visible = syscall.Setfsuid(65534); visible != nil {
				return
			}
		}
		if _, visible = os.Stat(file); visible != nil {
			return
		}
		_, foundErr = find(root, "")
		_, loadErr = load(file, pluginTime)
	}()
	<-done
	if visible != nil {
		t.Fatal(visible)
	}
	wantError(t, foundErr, Unreadable, "kubeconfig "+hidden+"/kubelet.conf cannot be read: permission denied")
	wantError(t, loadErr, Unreadable, "kubeconfig "+file+" cannot be read: permission denied")
}

// The units' order knows every kubelet of the table, and needs none of them.
func TestUnitsAreOrderedAfterEveryKubelet(t *testing.T) {
	text, err := os.ReadFile("../../systemd/kured-uncordon.service")
	if err != nil {
		t.Fatal(err)
	}
	var after, needed []string
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "After":
			after = append(after, strings.Fields(value)...)
		case "Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds":
			needed = append(needed, strings.Fields(value)...)
		}
	}
	var kubelets []string
	for _, d := range Distributions() {
		kubelets = append(kubelets, d.Units...)
	}
	for _, unit := range kubelets {
		if !slices.Contains(after, unit) {
			t.Errorf("kured-uncordon.service is not ordered after %s", unit)
		}
		if slices.Contains(needed, unit) {
			t.Errorf("kured-uncordon.service needs %s, which few machines have", unit)
		}
	}
	ours := []string{"multi-user.target", "boot-complete.target", "network-online.target", "dbus.service", "dbus.socket"}
	for _, unit := range after {
		if !slices.Contains(ours, unit) && !slices.Contains(kubelets, unit) {
			t.Errorf("kured-uncordon.service is ordered after %s, which no distribution of the table has", unit)
		}
	}
}
