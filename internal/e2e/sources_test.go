//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/sentinel/source"
	"github.com/kured-host/kured/internal/status"
)

// standinNeedsRestarting plays the program of that name, of dnf-utils, which Debian has not.
const standinNeedsRestarting = `#!/bin/sh
# Stand-in of the end-to-end tests for needs-restarting(1).
[ "$1" = -r ] || exit 64
cat /etc/e2e-restarting/text
exit $(cat /etc/e2e-restarting/code)
`

const (
	coresUpdated = "Core libraries or services have been updated since boot-up:\n  * glibc\n  * kernel-core\n\nReboot is required to fully utilize these updates.\n"
	nothingNew   = "No core libraries or services have been updated since boot-up.\nReboot should not be necessary.\n"
)

// Each source is enabled by its one line, makes the sentinel, takes it away, and tells when it cannot find out. An
// inhibitor keeps the nodes from rebooting meanwhile.
func TestSources(t *testing.T) {
	s := begin(t, 5*time.Minute)
	for _, n := range s.Room.Nodes() {
		t.Run(n.Name, func(t *testing.T) {
			t.Parallel()
			own := *s
			own.t = t
			own.inhibit(n, "block", "sources", "looks at sentinels")
			t.Run("needs-restarting", func(t *testing.T) { own.t = t; own.needsRestarting(n) })
			t.Run("command", func(t *testing.T) { own.t = t; own.sentinelCommand(n) })
			t.Run("kernel", func(t *testing.T) { own.t = t; own.kernels(n) })
			own.t = t
		})
	}
}

func (s *story) needsRestarting(n *nodes.Node) {
	const path, database = source.DefaultDirectory + "/needs-restarting", "/var/lib/rpm/rpmdb.sqlite"
	s.afterwards("forget needs-restarting", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "rm -r /etc/e2e-restarting /usr/local/bin/needs-restarting "+database)
		return err
	})
	says := func(code, text string) {
		s.t.Helper()
		s.must(n.WriteFile("/etc/e2e-restarting/code", []byte(code), 0o644))
		s.must(n.WriteFile("/etc/e2e-restarting/text", []byte(text), 0o644))
		_, err := n.Exec(s.ctx, "sh", "-c", "mkdir -p /var/lib/rpm && echo transaction >>"+database)
		s.must(err)
	}
	s.must(n.WriteFile("/usr/local/bin/needs-restarting", []byte(standinNeedsRestarting), 0o755))
	says("0", nothingNew)

	s.enable(n, "kured-needs-restarting.path")
	s.awaitUnitTold(n, "kured-needs-restarting.service", "no reboot is wanted")
	s.awaitSays(n, status.Idle, "")
	says("1", coresUpdated)
	s.awaitWanted(n, path, "glibc", "kernel-core")
	// It finds out nothing, and so changes nothing; exit code 1 is what dnf says about its own errors, too.
	says("1", "Error: cannot open the database\n")
	s.awaitFile(n, path+".failed", true)
	s.awaitWanted(n, path, "glibc", "kernel-core")
	says("0", nothingNew)
	s.awaitSays(n, status.Idle, "")
	says("3", "")
	now := s.awaitSays(n, status.Blocked, status.SentinelUnreadable)
	contains(s.t, "kured status", now.Detail, path, "could not run", "exit status 3")
	says("0", nothingNew)
	s.awaitSays(n, status.Idle, "")
	s.disable(n, "kured-needs-restarting.path")
}

func (s *story) sentinelCommand(n *nodes.Node) {
	const path, command, service = source.DefaultDirectory + "/command", "/etc/kured/sentinel-command", "kured-sentinel-command.service"
	const dropIn = "/etc/systemd/system/kured-sentinel-command.service.d/e2e.conf"
	const often = "/etc/systemd/system/kured-sentinel-command.timer.d/e2e.conf"
	s.afterwards("forget the command", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "rm -rf "+command+" "+dropIn+" "+often+" /usr/local/sbin/wanted /etc/e2e-wanted; systemctl daemon-reload")
		return err
	})
	touch := func() {
		s.t.Helper()
		_, err := n.Exec(s.ctx, "sh", "-c", "echo >>/var/lib/dpkg/status")
		s.must(err)
	}

	// Nobody has put a command there.
	s.enable(n, "kured-sentinel-command.path")
	now := s.awaitSays(n, status.Blocked, status.SentinelUnreadable)
	contains(s.t, "kured status", now.Detail, path, "sentinel-command cannot be run")
	s.must(n.WriteFile(command, []byte("#!/bin/sh\necho microcode\necho firmware\n"), 0o755))
	touch()
	s.awaitWanted(n, path, "firmware", "microcode")
	s.must(n.WriteFile(command, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	touch()
	s.awaitSays(n, status.Idle, "")
	s.disable(n, "kured-sentinel-command.path")

	// Another command, and from time to time.
	s.must(n.WriteFile("/usr/local/sbin/wanted", []byte("#!/bin/sh\n[ $# = 2 ] || exit 2\nexec test -e \"$2\"\n"), 0o755))
	s.must(n.WriteFile(dropIn, []byte("[Service]\nEnvironment=\"KURED_SENTINEL_COMMAND=/usr/local/sbin/wanted --file /etc/e2e-wanted\"\n"), 0o644))
	s.must(n.WriteFile(often, []byte("[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n"), 0o644))
	_, err := n.Exec(s.ctx, "systemctl", "daemon-reload")
	s.must(err)
	s.must(n.Touch("/etc/e2e-wanted"))
	s.enable(n, "kured-sentinel-command.timer")
	s.awaitWanted(n, path)
	s.must(n.Remove("/etc/e2e-wanted"))
	s.awaitSays(n, status.Idle, "")
	s.disable(n, "kured-sentinel-command.timer")
	s.must(n.WaitUnit(s.ctx, service, "inactive"))
}

func (s *story) kernels(n *nodes.Node) {
	running, newer, other := s.releases(n)
	image := func(release string) string { return "/boot/vmlinuz-" + release }
	s.afterwards("forget the kernels", func(context.Context) error {
		return errors.Join(n.Remove(image(running)), n.Remove(image(newer)), n.Remove(image(other)))
	})
	const path = source.DefaultDirectory + "/kernel"

	s.enable(n, "kured-kernel.path")
	s.awaitUnitTold(n, "kured-kernel.service", "no reboot is wanted")
	s.must(n.Touch(image(running)))
	s.must(n.Touch(image(other)))
	s.awaitSays(n, status.Idle, "")
	s.must(n.Touch(image(newer)))
	s.awaitWanted(n, path, "linux "+newer)
	s.must(n.Remove(image(newer)))
	s.awaitSays(n, status.Idle, "")
	s.disable(n, "kured-kernel.path")
	// /boot cannot be looked at: that is known, too.
	_, err := n.Exec(s.ctx, "sh", "-c", "mv /boot /boot.away && : >/boot && ! systemctl start kured-kernel.service; rm /boot && mv /boot.away /boot")
	s.must(err)
	now := s.awaitSays(n, status.Blocked, status.SentinelUnreadable)
	contains(s.t, "kured status", now.Detail, path, "look for kernels")
	_, err = n.Exec(s.ctx, "systemctl", "start", "kured-kernel.service")
	s.must(err)
	s.awaitSays(n, status.Idle, "")
}

// releases are that of the running kernel, one of a newer kernel, and that of a newer one of another flavour.
func (s *story) releases(n *nodes.Node) (running, newer, other string) {
	s.t.Helper()
	out, err := n.Exec(s.ctx, "uname", "-r")
	s.must(err)
	release := source.ParseRelease(strings.TrimSpace(out))
	newer = release.Version + ".99"
	if release.Flavour != "" {
		newer += "-" + release.Flavour
	}
	return release.Name, newer, release.Version + ".99-e2e"
}

// A newer kernel is installed: the node reboots, once. The boot loader does not choose that kernel, as there is none in
// a container, and the node does not reboot for it again.
func TestNewerKernelReboots(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-b")
	running, newer, _ := s.releases(n)
	before := s.bootIDs()
	s.afterwards("forget the kernels", func(ctx context.Context) error {
		_, err := n.Exec(ctx, "sh", "-c", "systemctl disable --quiet --now kured-kernel.path; rm -f /boot/vmlinuz-"+running+" /boot/vmlinuz-"+newer)
		return errors.Join(err, n.Remove(source.DefaultDirectory+"/kernel"))
	})
	s.must(n.Touch("/boot/vmlinuz-" + running))
	s.enable(n, "kured-kernel.path")
	s.must(n.Touch("/boot/vmlinuz-" + newer))
	held := s.await(s.from, n.Name+" to hold", func(c cluster.State) bool { return c.Holds(n.Name) })
	s.awaitBack(held, n, before[n.Name])
	if !s.history().Ever(func(c cluster.State) bool { return strings.Contains(c.Lock["holder."+n.Name], newer) }) {
		t.Errorf("the lock did not tell that %s is installed:\n%s", newer, s.history())
	}
	s.awaitUnitTold(n, "kured-kernel.service", "was installed before the boot and not booted")
	s.atRest()
	s.awaitSays(n, status.Idle, "")
	s.rebootedOnce(before, n)
}

// enable is the one line that the manual tells.
func (s *story) enable(n *nodes.Node, unit string) {
	s.t.Helper()
	s.afterwards("disable "+unit, func(ctx context.Context) error {
		_, err := n.Exec(ctx, "systemctl", "disable", "--quiet", "--now", unit)
		return err
	})
	_, err := n.Exec(s.ctx, "systemctl", "enable", "--quiet", "--now", unit)
	s.must(err)
}

func (s *story) disable(n *nodes.Node, unit string) {
	s.t.Helper()
	_, err := n.Exec(s.ctx, "systemctl", "disable", "--quiet", "--now", unit)
	s.must(err)
}

// awaitWanted waits until `kured status` shows that this sentinel asks for a reboot, for these reasons.
func (s *story) awaitWanted(n *nodes.Node, path string, reasons ...string) {
	s.t.Helper()
	s.awaitStatus(n, n.Name+" to want a reboot for "+path, func(now status.Status) bool {
		return now.Phase == status.Blocked && now.Reason == status.Inhibited && now.Demand != nil && now.Demand.Path == path &&
			slices.Equal(now.Demand.Reasons, reasons)
	})
}

func (s *story) awaitFile(n *nodes.Node, path string, want bool) {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, time.Minute, path)
	defer cancel()
	s.must(nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		there, err := n.Exists(path)
		return there == want, err
	}))
}

// awaitUnitTold waits for a line in the journal of a unit, in this boot and since the story began.
func (s *story) awaitUnitTold(n *nodes.Node, unit, text string) {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, time.Minute, n.Name+", "+unit+": "+text)
	defer cancel()
	s.must(nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		boot, err := n.BootID()
		if err != nil {
			return false, err
		}
		entries, err := n.Journal(ctx, boot, unit)
		return slices.ContainsFunc(entries, func(e nodes.Entry) bool {
			return !e.Time.Before(s.began) && strings.Contains(e.Message, text)
		}), err
	}))
}

// The sources are off when the package is installed, and gone with it: none of the links by which they were enabled
// stays behind, and no sentinel.
func TestSourcesGoWithThePackage(t *testing.T) {
	alone(t)
	ctx, cancel := cluster.Within(t.Context(), 3*time.Minute, "the sources in the packages")
	defer cancel()
	room := roomFor(ctx, t)
	room.DumpOnFailure(t, t.Name(), cluster.Units()...)
	all, err := room.Add(ctx, nodes.Spec{Name: "deb", Image: nodes.Debian12}, nodes.Spec{Name: "rpm", Image: nodes.Debian12RPM})
	if err != nil {
		t.Fatal(err)
	}
	each(t, all, func(n *nodes.Node) error { return n.WaitSystemState(ctx, "running") })
	const sources = "kured-needs-restarting.path kured-sentinel-command.path kured-sentinel-command.timer kured-kernel.path"
	for _, way := range []struct{ format, install, remove string }{
		{"deb", "dpkg -i", "dpkg --purge kured"},
		{"rpm", "rpm -i --nodeps", "rpm -e kured"},
	} {
		file, err := cluster.Package(cluster.Release, way.format)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := "/srv/share/" + filepath.Base(file)
		if err := os.WriteFile(filepath.Join(room.Share, filepath.Base(file)), text, 0o644); err != nil {
			t.Fatal(err)
		}
		n := all[slices.IndexFunc(all, func(n *nodes.Node) bool { return n.Name == way.format })]
		for _, command := range []string{
			way.install + " " + name,
			`[ "$(systemctl is-enabled ` + sources + ` | sort -u)" = disabled ]`,
			"systemctl enable --quiet --now " + sources,
			`[ "$(systemctl is-active ` + sources + ` | sort -u)" = active ]`,
			// What they start fails, as nothing that it asks is there; a unit that failed is not to be left behind.
			"until systemctl is-failed --quiet kured-needs-restarting.service && systemctl is-failed --quiet kured-sentinel-command.service; do sleep 0.1; done",
			way.remove,
			"! systemctl --failed --no-legend | grep kured",
			"! find / /run /tmp -xdev -iname '*kured*' | grep .",
		} {
			if out, err := n.Exec(ctx, "sh", "-c", command); err != nil {
				t.Errorf("%s: %s: %v\n%s", n.Name, command, err, out)
			}
		}
	}
}
