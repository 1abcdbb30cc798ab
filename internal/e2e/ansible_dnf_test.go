//go:build e2e

package e2e

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
)

// rpmNode is the node that gets kured as an rpm.
const rpmNode = "node-d"

const rpmHosts = `all:
  children:
    kured:
      hosts:
        ` + rpmNode + `:
  vars:
    ansible_user: root
    kured_dnf_url: "%s/dnf"
    kured_repository_key: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/../kured.asc') }}"
    kured_doctor: fail
    kured_config:
      reboot:
        max_per_day: 48
`

// rpmBook is the playbook site for a Debian that is to be taken for an rpm distribution: dnf is what it has, and Ansible
// knows better than to use it on a Debian.
const rpmBook = `- hosts: kured
  gather_facts: false
  tasks:
    - ansible.builtin.setup: {gather_subset: [min]}
    - ansible.builtin.set_fact:
        ansible_pkg_mgr: dnf
        ansible_os_family: RedHat
        ansible_distribution: Stand-in
        cacheable: true
- ansible.builtin.import_playbook: kured_host.kured.site
`

// byDnf installs, upgrades and removes kured as an rpm, by name from the repository, which first has one version only. Then
// the node leaves the cluster.
func (r *rollout) byDnf(n *nodes.Node, packages *repository, next func()) {
	r.Helper()
	const hosts, book = "/etc/ansible/rpm/hosts.yml", "/etc/ansible/rpm.yml"
	r.must(r.control.WriteFile(hosts, fmt.Appendf(nil, rpmHosts, packages.url), 0o644))
	r.must(r.control.WriteFile(book, []byte(rpmBook), 0o644))
	standIn(r.ctx, r.T, r.Room)
	play := func(what string, change bool, args ...string) {
		r.Helper()
		r.run("dnf: "+what, change, book, append([]string{"-i", hosts}, args...)...)
	}
	has := func(version string) {
		r.Helper()
		out := r.sh(n, "rpm -q --qf '%{VERSION}\\n' kured; systemctl is-enabled "+daemon+" "+wayBack+" kured-needs-restarting.path; systemctl is-active "+daemon)
		if want := version + "\nenabled\nenabled\nenabled\nactive\n"; out != want {
			r.Errorf("%s: %q, want %q", n.Name, out, want)
		}
		if toml := r.config(n); !strings.Contains(toml, "max_per_day = 48\n") {
			r.Errorf("%s has another configuration:\n%s", n.Name, toml)
		}
	}
	play("check mode before anything is there", something, "--check")
	play("the first run", something)
	has(cluster.Release)
	next()
	play("check mode after it", nothing, "--check", "--diff")
	play("the upgrade", something, "-e", "kured_version="+cluster.NextRelease)
	has(cluster.NextRelease)
	play("the removal", something, "-e", "kured_state=absent")
	r.removed(n)

	r.must(r.Room.Remove(n))
	r.must(r.Client.CoreV1().Nodes().Delete(r.ctx, n.Name, metav1.DeleteOptions{}))
}
