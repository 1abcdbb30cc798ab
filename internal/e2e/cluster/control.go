package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv"
)

// Control is a host outside of the cluster from which an administrator works: with Ansible, the collection of
// packaging/ansible, kubectl with an administrator's kubeconfig, and an ssh key that opens the nodes. While it is in the
// room, Cluster.AtRest cannot be used.
type Control struct {
	*nodes.Node
	cluster *Cluster
}

// Where things lie on the control host.
const (
	// InventoryDir is the inventory that Play uses.
	InventoryDir = "/etc/ansible/inventory"
	// PackagePattern is what kured_package is to be for the packages that Build made; %s is the version.
	PackagePattern = "/srv/share/kured_%s_{{ kured_arch_deb }}.deb"
	// ControlProgram is the program kured, taken out of its package.
	ControlProgram = "/opt/kured/usr/bin/kured"

	adminConf  = "/root/.kube/config"
	sshKey     = "/root/.ssh/id_ed25519"
	collection = "ansible" // in the share
)

// ansibleConfig is what an administrator sets for speed.
const ansibleConfig = `[defaults]
inventory = ` + InventoryDir + `
interpreter_python = /usr/bin/python3
forks = 10
gathering = explicit
[ssh_connection]
pipelining = true
`

// StartControl boots a control host, Debian13Ansible, and opens all the nodes that there are to its key.
func (c *Cluster) StartControl(ctx context.Context) (*Control, error) {
	added, err := c.Room.Add(ctx, nodes.Spec{Name: "control", Image: nodes.Debian13Ansible})
	if err != nil {
		return nil, err
	}
	h := &Control{Node: added[0], cluster: c}
	if err := h.setUp(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("control host: %w", err), h.Leave())
	}
	return h, nil
}

// Leave switches the control host off and takes it out of the room.
func (h *Control) Leave() error { return h.cluster.Room.Remove(h.Node) }

func (h *Control) setUp(ctx context.Context) error {
	if err := h.share(); err != nil {
		return err
	}
	admin, err := h.cluster.Plane.Issue(testenv.Subject{User: "admin", Groups: []string{"system:masters"}})
	if err != nil {
		return err
	}
	kubeconfig, err := admin.Kubeconfig()
	if err != nil {
		return err
	}
	if err := h.WriteFile(adminConf, kubeconfig, 0o600); err != nil {
		return err
	}
	if err := h.WriteFile("/etc/ansible/ansible.cfg", []byte(ansibleConfig), 0o644); err != nil {
		return err
	}
	if _, err := h.WaitBooted(ctx, ""); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"ln", "-s", "/srv/share/kubectl", "/usr/local/bin/kubectl"},
		{"dpkg-deb", "-x", fmt.Sprintf("/srv/share/kured_%s_%s.deb", Release, runtime.GOARCH), "/opt/kured"},
		{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshKey},
		{"ansible-galaxy", "collection", "install", "--offline", "/srv/share/" + collection},
	} {
		if _, err := h.Exec(ctx, command...); err != nil {
			return err
		}
	}
	return h.open(ctx)
}

// share puts into the nodes' common directory what the control host uses.
func (h *Control) share() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	kubectl, err := Kubectl()
	if err != nil {
		return err
	}
	if _, err := copyFile(kubectl, h.cluster.Room.Share, 0o755); err != nil {
		return err
	}
	for _, version := range []string{Release, NextRelease} {
		file, err := Package(version, "deb")
		if err != nil {
			return err
		}
		if _, err := copyFile(file, h.cluster.Room.Share, 0o644); err != nil {
			return err
		}
	}
	return os.CopyFS(filepath.Join(h.cluster.Room.Share, collection), os.DirFS(filepath.Join(root, "packaging/ansible")))
}

// open starts the ssh servers of the nodes, lets the control host's key in, and tells the control host theirs.
func (h *Control) open(ctx context.Context) error {
	key, err := h.ReadFile(sshKey + ".pub")
	if err != nil {
		return err
	}
	members := h.cluster.members(h.Node)
	known := make([]string, len(members))
	group, ctx := errgroup.WithContext(ctx)
	for i, n := range members {
		group.Go(func() error {
			if err := n.WriteFile("/root/.ssh/authorized_keys", key, 0o600); err != nil {
				return err
			}
			const server = "/etc/ssh/ssh_host_ed25519_key"
			for _, command := range [][]string{
				{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server},
				{"systemctl", "enable", "--now", "--quiet", "ssh.service"},
			} {
				if _, err := n.Exec(ctx, command...); err != nil {
					return err
				}
			}
			public, err := n.ReadFile(server + ".pub")
			known[i] = n.Name + " " + string(public)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return h.WriteFile("/root/.ssh/known_hosts", []byte(strings.Join(known, "")), 0o600)
}

// members are the nodes of the room without that one.
func (c *Cluster) members(but *nodes.Node) []*nodes.Node {
	var members []*nodes.Node
	for _, n := range c.Room.Nodes() {
		if n != but {
			members = append(members, n)
		}
	}
	return members
}

// Inventory replaces files of the inventory; their names are relative to InventoryDir.
func (h *Control) Inventory(files map[string]string) error {
	for name, text := range files {
		if err := h.WriteFile(path.Join(InventoryDir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Play is what one run of a playbook did.
type Play struct {
	Output string
	// Failed tells that it did not go through on every node.
	Failed bool
	// Hosts is the recap: what each host counts, such as "ok", "changed", "unreachable" and "failed".
	Hosts map[string]map[string]int
}

// Play runs ansible-playbook with these arguments. The error tells that there was no run to tell of.
func (h *Control) Play(ctx context.Context, args ...string) (Play, error) {
	output, err := h.Exec(ctx, append([]string{"ansible-playbook"}, args...)...)
	p := Play{Output: output}
	if exit, ok := errors.AsType[*nodes.ExitError](err); ok {
		p.Failed = true
		p.Output += exit.Stderr
	} else if err != nil {
		return p, err
	}
	p.Hosts = recap(output)
	if len(p.Hosts) == 0 {
		return p, fmt.Errorf("ansible-playbook %s: no recap in:\n%s", strings.Join(args, " "), p.Output)
	}
	return p, nil
}

// Sum adds one word of the recap up over all hosts.
func (p Play) Sum(word string) (n int) {
	for _, counts := range p.Hosts {
		n += counts[word]
	}
	return n
}

var (
	recapLine  = regexp.MustCompile(`(?m)^([\w.-]+) +: (ok=\d+ .*)$`)
	recapCount = regexp.MustCompile(`(\w+)=(\d+)`)
)

// recap reads the lines below "PLAY RECAP".
func recap(output string) map[string]map[string]int {
	hosts := make(map[string]map[string]int)
	_, tail, _ := strings.Cut(output, "\nPLAY RECAP ")
	for _, line := range recapLine.FindAllStringSubmatch(tail, -1) {
		hosts[line[1]] = make(map[string]int)
		for _, count := range recapCount.FindAllStringSubmatch(line[2], -1) {
			hosts[line[1]][count[1]], _ = strconv.Atoi(count[2]) // digits
		}
	}
	return hosts
}
