package cluster

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/e2e/nodes"
)

// Where kubeadm and the kubelet keep the credential.
const (
	kubeletConf = "/etc/kubernetes/kubelet.conf"
	clusterCA   = "/etc/kubernetes/pki/ca.crt"
	kubeletPEM  = "/var/lib/kubelet/pki/kubelet-client-current.pem" // certificate and key
	configPath  = "/etc/kured/kured.toml"
)

// Sentinel is the file by which a node asks for a reboot.
const Sentinel = "/run/reboot-required"

// kubeletUnit is started like kubeadm's: it is not waited for.
const kubeletUnit = `[Unit]
Description=Stand-in kubelet (a fake: it runs no containers)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
[Service]
ExecStart=/srv/share/%s --kubeconfig=%s --node-name=%s --node-ip=%s
Restart=always
RestartSec=1s
[Install]
WantedBy=multi-user.target
`

// Join gives running nodes their kubelet with its credential and waits until they are Ready.
func (c *Cluster) Join(ctx context.Context, all ...*nodes.Node) error {
	from := c.Recorder.Now()
	if err := c.each(all, func(n *nodes.Node) error { return c.join(ctx, n) }); err != nil {
		return err
	}
	_, err := c.Recorder.Await(ctx, from, "nodes to be Ready and open for pods", func(s State) bool {
		for _, n := range all {
			if !s.IsReady(n.Name) || len(s.Nodes[n.Name].Spec.Taints) > 0 {
				return false
			}
		}
		return true
	})
	return err
}

func (c *Cluster) join(ctx context.Context, n *nodes.Node) error {
	if err := c.Credential(n); err != nil {
		return err
	}
	unit := fmt.Sprintf(kubeletUnit, standinName, kubeletConf, n.Name, n.IP)
	if err := n.WriteFile("/etc/systemd/system/kubelet.service", []byte(unit), 0o644); err != nil {
		return err
	}
	_, err := n.Exec(ctx, "systemctl", "enable", "--now", "--quiet", "kubelet.service")
	return err
}

// Credential issues a new kubelet credential and writes it to the node's disk as kubeadm and the kubelet do,
// readable by root alone. On a node that has one, it is a rotation.
func (c *Cluster) Credential(n *nodes.Node) error {
	credential, err := c.Plane.NodeCredential(n.Name)
	if err != nil {
		return err
	}
	conf, err := credential.KubeconfigWithFiles(clusterCA, kubeletPEM, kubeletPEM)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		path string
		text []byte
	}{
		{clusterCA, credential.CA},
		{kubeletPEM, append(credential.Certificate, credential.Key...)},
		{kubeletConf, conf},
	} {
		if err := n.WriteFile(file.path, file.text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Install installs the package that Build made, with apt, and writes the cluster's configuration if it is
// not the shipped one.
func (c *Cluster) Install(ctx context.Context, n *nodes.Node) error {
	for _, unit := range []string{"kured.service", "kured-uncordon.service"} {
		dropIn := path.Join("/etc/systemd/system", unit+".d/e2e.conf")
		if err := n.WriteFile(dropIn, []byte(quickRestart), 0o644); err != nil {
			return err
		}
	}
	if err := c.InstallVersion(ctx, n, Release); err != nil {
		return err
	}
	if c.config == "" {
		return nil
	}
	return c.Configure(ctx, n, c.config)
}

// InstallVersion installs or upgrades to one of the versions that Build made, with apt and without a network.
func (c *Cluster) InstallVersion(ctx context.Context, n *nodes.Node, version string) error {
	file, err := Package(version, "deb")
	if err != nil {
		return err
	}
	name, err := copyFile(file, c.Room.Share, 0o644)
	if err != nil {
		return err
	}
	_, err = n.Exec(ctx, "apt-get", "install", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", path.Join("/srv/share", name))
	return err
}

// Configure replaces kured.toml on a node and restarts the daemon.
func (c *Cluster) Configure(ctx context.Context, n *nodes.Node, toml string) error {
	if err := n.WriteFile(configPath, []byte(toml), 0o644); err != nil {
		return err
	}
	if _, err := n.Exec(ctx, "systemctl", "restart", "kured.service"); err != nil {
		return fmt.Errorf("%w\n%s", err, lastWords(ctx, n))
	}
	return nil
}

// lastWords is the end of the daemon's journal: the cluster may not be there to be dumped.
func lastWords(ctx context.Context, n *nodes.Node) string {
	entries, err := n.Journal(ctx, "", "kured.service")
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range entries[max(0, len(entries)-15):] {
		fmt.Fprintf(&b, "%s %s\n", e.Time.UTC().Format(time.StampMilli), e.Message)
	}
	return b.String()
}

// Want puts the sentinel on nodes, with names of packages as its reasons.
func Want(all ...*nodes.Node) error {
	for _, n := range all {
		// As Debian's kernel postinst hooks do: the list first is not what they do, so neither here.
		if err := n.Touch(Sentinel); err != nil {
			return err
		}
		if err := n.WriteFile(Sentinel+".pkgs", []byte("linux-image-e2e\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Unwant removes it.
func Unwant(all ...*nodes.Node) error {
	for _, n := range all {
		for _, file := range []string{Sentinel, Sentinel + ".pkgs"} {
			if err := n.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}
