//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/reference"
	"github.com/kured-host/kured/internal/status"
)

const (
	confFile = "/etc/kured/kured.toml"
	daemon   = "kured.service"
	wayBack  = "kured-uncordon.service"
)

// maxExposure of the units in `systemd-analyze security`, as each systemd itself rates them.
const maxExposure = 1.6

// TestPackages shows the life of the packages on nodes of a cluster: install, upgrade, remove, reinstall and
// purge, also in the middle of a cycle. The configuration is what the packages ship.
func TestPackages(t *testing.T) {
	alone(t)
	ctx, cancel := cluster.Within(t.Context(), 12*time.Minute, "the life of the packages")
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{WithoutKured: true, Out: os.Stderr, Nodes: []nodes.Spec{
		{Name: "bullseye", Image: nodes.Debian11},
		{Name: "bookworm", Image: nodes.Debian12},
		{Name: "trixie", Image: nodes.Debian13},
		{Name: "rpm", Image: nodes.Debian12RPM},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"bullseye", "bookworm", "trixie"} {
		t.Run("deb on "+name, func(t *testing.T) { debLife(packagedOn(ctx, t, c, name)) })
	}
	t.Run("rpm", func(t *testing.T) { rpmLife(packagedOn(ctx, t, c, "rpm")) })
}

func debLife(p *packaged) {
	first := p.share(cluster.Release, "deb")
	p.sh("apt-get install -y -qq " + first)
	p.installed(cluster.Release)
	p.sandboxed()
	p.ordered()
	if conf := p.sh("dpkg-query -W -f '${Conffiles}' kured"); !strings.Contains(conf, confFile) {
		p.Errorf("dpkg knows the conffiles %q, want %s", conf, confFile)
	}

	// An upgrade in the middle of a drain: the new daemon goes on from there, and finishes.
	edited := p.editConfig()
	p.begin()
	from := p.Recorder.Now()
	p.sh("apt-get install -y -qq " + p.share(cluster.NextRelease, "deb"))
	p.runs(cluster.NextRelease)
	p.resumed(from)
	p.config("after the upgrade", edited)
	p.finish()

	// What an administrator has switched off stays off, and the edited configuration
	// stays although the shipped one has changed.
	p.sh("systemctl disable --now --quiet " + daemon + " " + wayBack)
	next := p.nextDeb(first)
	p.sh("apt-get install -y -qq -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold " + next)
	p.units("disabled", "inactive")
	p.config("after an upgrade that ships another", edited)
	p.sh("systemctl mask --quiet " + daemon + "; apt-get install -y -qq --reinstall " + next)
	if out := p.sh("systemctl is-enabled " + daemon + "; systemctl is-active " + daemon + " || true"); out != "masked\ninactive\n" {
		p.Errorf("an upgrade of what was masked: %q", out)
	}
	p.sh("systemctl unmask --quiet " + daemon)
	p.sh("systemctl enable --now --quiet " + daemon + " " + wayBack)
	p.runs(changedRelease)

	// Removal in the middle of a drain gives everything back.
	p.begin()
	p.sh("apt-get remove -y -qq kured")
	p.rolledBack()
	p.unitsGone()
	p.config("after the removal", edited)

	// And again: not masked, enabled and started as the first time.
	p.must(cluster.Unwant(p.n))
	const warning = "kured: unattended-upgrades reboots this machine"
	p.unattended(true)
	if out := p.sh("apt-get install -y -qq " + next + " 2>&1"); !strings.Contains(out, warning) {
		p.Errorf("not told of a machine that reboots by itself:\n%s", out)
	}
	p.units("enabled", "active")
	p.runs(changedRelease)
	p.config("after the second installation", edited)
	p.unattended(false)
	if out := p.sh("dpkg-reconfigure kured 2>&1"); strings.Contains(out, warning) {
		p.Errorf("told of a machine that does not reboot by itself:\n%s", out)
	}
	p.runs(changedRelease)

	p.sh("apt-get purge -y -qq kured")
	p.unitsGone()
	p.nothingLeft()
	if out, err := p.n.Exec(p.ctx, "dpkg-query", "-W", "kured"); err == nil {
		p.Errorf("dpkg still knows: %s", out)
	}
	p.imaged(first)
}

// imaged does on a node without kured what docs/install.md tells who puts it into an image, which here is a copy of the node's
// disk.
func (p *packaged) imaged(deb string) {
	p.Helper()
	pages, err := reference.Pages("../..")
	p.must(err)
	script := ""
	for _, page := range pages {
		for _, block := range page.Blocks {
			if page.Path == "docs/install.md" && block.Language == "sh" && strings.Contains(block.Text, "apt-get install") {
				script = block.Text
			}
		}
	}
	p.must(p.n.WriteFile("/root/image/build", []byte(script), 0o755))
	p.sh(`set -e; groupdel kured || true; mkdir -p /mnt/image /run/image/upper /run/image/work
		mount -t overlay overlay -o lowerdir=/,upperdir=/run/image/upper,workdir=/run/image/work /mnt/image
		cd /root/image; cp ` + deb + ` .; : >kured.toml; sh ./build`)
	out := p.sh("systemctl --root=/mnt/image is-enabled " + daemon + " " + wayBack + " kured-kernel.path; grep -c ^kured: /mnt/image/etc/group")
	if out != "enabled\nenabled\nenabled\n1\n" {
		p.Errorf("the image: %q", out)
	}
	p.unitsGone() // from the node itself
	p.sh("umount /mnt/image; rm -r /mnt/image /run/image /root/image")
}

// unattended configures unattended-upgrades, of which nothing is there but its name.
func (p *packaged) unattended(reboots bool) {
	p.Helper()
	conf := fmt.Sprintf("Unattended-Upgrade::Automatic-Reboot \"%t\";\n", reboots)
	p.must(p.n.WriteFile("/etc/apt/apt.conf.d/50unattended-upgrades", []byte(conf), 0o644))
	p.must(p.n.WriteFile("/usr/bin/unattended-upgrade", []byte("#!/bin/sh\n"), 0o755))
}

func rpmLife(p *packaged) {
	// --nodeps: this system is a Debian with rpm, so rpm knows of no systemd.
	p.sh("rpm -i --nodeps " + p.share(cluster.Release, "rpm"))
	p.installed(cluster.Release)
	p.sh("rpm -V --nodeps kured")
	flags := p.sh(`rpm -q --qf '[%{FILENAMES} %{FILEFLAGS:fflags}\n]' kured`)
	if !strings.Contains(flags, confFile+" cn\n") {
		p.Errorf("%s is not config(noreplace): %s", confFile, flags)
	}

	edited := p.editConfig()
	p.begin()
	from := p.Recorder.Now()
	p.sh("rpm -U --nodeps " + p.share(cluster.NextRelease, "rpm"))
	p.units("enabled", "active")
	p.runs(cluster.NextRelease)
	p.resumed(from)
	p.config("after the upgrade", edited)
	p.finish()

	p.sh("systemctl disable --now --quiet " + daemon + " " + wayBack)
	p.sh("rpm -U --nodeps --oldpackage " + p.share(cluster.Release, "rpm"))
	p.units("disabled", "inactive")
	p.sh("systemctl enable --now --quiet " + daemon + " " + wayBack)
	p.runs(cluster.Release)

	p.begin()
	p.sh("rpm -e kured")
	p.rolledBack()
	p.unitsGone()
	if saved, err := p.n.ReadFile(confFile + ".rpmsave"); err != nil || string(saved) != edited {
		p.Errorf("the edited configuration was not saved: %q, %v", saved, err)
	}
	p.nothingLeft(path.Dir(confFile), confFile+".rpmsave")

	p.must(cluster.Unwant(p.n))
	p.sh("rpm -i --nodeps " + p.share(cluster.NextRelease, "rpm"))
	p.units("enabled", "active")
	p.runs(cluster.NextRelease)
	p.sh("rpm -e kured")
	p.unitsGone()
}

// installed is what is true after the first installation.
func (p *packaged) installed(version string) {
	p.Helper()
	p.units("enabled", "active")
	p.runs(version)
	if out := p.sh("kured version"); !strings.HasPrefix(out, "kured "+version+",") {
		p.Errorf("kured version says %q, want %s", out, version)
	}
	shipped, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kured.toml"))
	p.must(err)
	p.config("after the installation", string(shipped))
	p.sh("kured config check")
	// The package starts only the daemon: there is nothing to come back from.
	if state, err := p.n.UnitState(p.ctx, wayBack); err != nil || state != "inactive" {
		p.Errorf("%s is %s, %v", wayBack, state, err)
	}
	var line string
	p.poll("the phase in systemd's status", func() (bool, error) {
		err := p.n.UnitProperty(p.ctx, daemon, "StatusText", &line)
		return strings.HasPrefix(line, string(status.Idle)), err
	})
	if out := p.sh("systemctl status --no-pager " + daemon); !strings.Contains(out, `Status: "`+line+`"`) {
		p.Errorf("systemctl status does not show %q:\n%s", line, out)
	}
}

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// sandboxed checks the units by the node's own systemd.
func (p *packaged) sandboxed() {
	p.Helper()
	for _, unit := range []string{daemon, wayBack} {
		out := p.sh("systemd-analyze security --no-pager " + unit + " 2>&1")
		match := exposure.FindStringSubmatch(out)
		if match == nil {
			p.Fatalf("no exposure of %s in:\n%s", unit, out)
		}
		level, err := strconv.ParseFloat(match[1], 64)
		p.must(err)
		if level > maxExposure {
			p.Errorf("exposure of %s is %.1f, want at most %.1f:\n%s", unit, level, maxExposure, out)
		}
		p.Logf("%s: exposure of %s: %.1f", p.n.Name, unit, level)
	}
	// --man=no: man is not installed.
	if out := p.sh("systemd-analyze verify --man=no " + daemon + " " + wayBack + " 2>&1"); out != "" {
		p.Errorf("systemd-analyze verify:\n%s", out)
	}
}
