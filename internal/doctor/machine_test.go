package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/gate"
)

// tree makes a machine of files. A value that begins with "-> " is a link, and
// one that is "dir" a directory.
func tree(t *testing.T, files map[string]string) Machine {
	t.Helper()
	m := Machine{Root: t.TempDir(), Owner: uint32(os.Getuid())}
	for name, text := range files {
		path := m.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, link := strings.CutPrefix(text, "-> "); link {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// say fails unless there is a finding of each "level: text", and no more.
func say(t *testing.T, found []Finding, want ...string) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(found, func(f Finding) bool { return strings.HasPrefix(string(f.Level)+": "+f.Text, w) }) {
			t.Errorf("nothing says %q", w)
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d findings, want %d", len(found), len(want))
	}
	for _, f := range found {
		if f.Level != OK && f.Remedy == "" {
			t.Errorf("no remedy for %q", f.Text)
		}
		if t.Failed() {
			t.Logf("%s: %s", f.Level, f.Text)
		}
	}
}

func TestUnits(t *testing.T) {
	const dir, wants = "usr/lib/systemd/system/", "etc/systemd/system/multi-user.target.wants/"
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"nothing", nil, []string{"fail: kured.service is not installed", "fail: kured-uncordon.service is not installed"}},
		{"one of them", map[string]string{
			dir + "kured.service": "", wants + "kured.service": "-> /" + dir + "kured.service", dir + "kured-uncordon.service": "",
		}, []string{"ok: kured.service is enabled", "fail: kured-uncordon.service is not enabled: a node that has rebooted stays cordoned"}},
		{"masked", map[string]string{
			dir + "kured.service": "", wants + "kured.service": "-> /" + dir + "kured.service", "etc/systemd/system/kured.service": "-> /dev/null",
			"lib/systemd/system/kured-uncordon.service": "", "usr/lib/systemd/system/boot-complete.target.requires/kured-uncordon.service": "-> x",
		}, []string{"fail: kured.service is masked", "ok: kured-uncordon.service is enabled"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { say(t, tree(t, test.files).Units(), test.want...) })
	}
}

func TestRivals(t *testing.T) {
	unit := func(name string) map[string]string {
		return map[string]string{"usr/lib/systemd/system/" + name: "", "etc/systemd/system/timers.target.wants/" + name: "-> x"}
	}
	with := func(all map[string]string, more ...string) map[string]string {
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	const none = "ok: nothing else that is known"
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, none},
		{"unattended-upgrades", with(bare(), "usr/bin/unattended-upgrade", "", "etc/apt/apt.conf.d/50unattended-upgrades", "Unattended-Upgrade::Automatic-Reboot \"true\";\n"),
			"fail: unattended-upgrades"},
		{"in braces, later", with(bare(), "usr/bin/unattended-upgrade", "", "etc/apt/apt.conf.d/50a", "Unattended-Upgrade { Automatic-Reboot \"false\"; };",
			"etc/apt/apt.conf.d/51b.conf", "Unattended-Upgrade {\n Automatic-Reboot \"1\"; // yes\n Automatic-Reboot-Time \"02:00\"; }"), "fail: unattended-upgrades"},
		{"switched off later", with(bare(), "usr/bin/unattended-upgrade", "", "etc/apt/apt.conf.d/50a", "Unattended-Upgrade::Automatic-Reboot \"true\";",
			"etc/apt/apt.conf.d/52kured", "unattended-upgrade::automatic-reboot \"no\";"), none},
		{"a comment", with(bare(), "usr/bin/unattended-upgrade", "", "etc/apt/apt.conf.d/50a", "//Unattended-Upgrade::Automatic-Reboot \"true\";\n/* Unattended-Upgrade::Automatic-Reboot \"true\"; */"), none},
		{"a file that apt does not read", with(bare(), "usr/bin/unattended-upgrade", "", "etc/apt/apt.conf.d/50a.dpkg-dist", "Unattended-Upgrade::Automatic-Reboot \"true\";"), none},
		{"not installed", with(bare(), "etc/apt/apt.conf", "Unattended-Upgrade::Automatic-Reboot \"true\";"), "warning: unattended-upgrades is not installed"},
		{"dnf-automatic", with(unit("dnf-automatic.timer"), "etc/dnf/automatic.conf", "[commands]\nreboot = when-needed\n"), "fail: dnf-automatic.timer (reboot = when-needed)"},
		{"dnf-automatic without reboot", with(unit("dnf-automatic.timer"), "etc/dnf/automatic.conf", "[commands]\n# reboot = when-needed\nreboot = never\n"), none},
		{"dnf-automatic, not enabled", with(bare(), "etc/dnf/automatic.conf", "[commands]\nreboot = when-needed\n"), none},
		{"dnf5", with(unit("dnf5-automatic.timer"), "usr/share/dnf5/dnf5-plugins/automatic.conf", "[commands]\nreboot = never\n", "etc/dnf/automatic.conf", "[commands]\nreboot=when-changed\n"), "fail: dnf5-automatic.timer (reboot = when-changed)"},
		{"rebootmgr", unit("rebootmgr.service"), "fail: rebootmgr.service (strategy=best-effort)"},
		{"rebootmgr off", with(unit("rebootmgr.service"), "etc/rebootmgr.conf", "[rebootmgr]\nstrategy=off\n"), none},
		{"transactional-update", unit("transactional-update.timer"), "fail: transactional-update.timer (REBOOT_METHOD=auto)"},
		{"transactional-update for kured", with(unit("transactional-update.timer"), "etc/transactional-update.conf", "REBOOT_METHOD=\"kured\"\n"), none},
		{"zincati", unit("zincati.service"), "fail: zincati.service"},
		{"zincati off", with(unit("zincati.service"), "etc/zincati/config.d/90.toml", "[updates]\nenabled = false # kured\n"), none},
		{"locksmith", unit("locksmithd.service"), "fail: locksmithd.service"},
		{"locksmith off", with(unit("locksmithd.service"), "etc/flatcar/update.conf", "REBOOT_STRATEGY=off\n"), none},
		{"needrestart", with(bare(), "usr/sbin/needrestart", ""), none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { say(t, tree(t, test.files).Rivals(), test.want) })
	}
}

func bare() map[string]string { return map[string]string{} }

func TestSources(t *testing.T) {
	paths := []string{"/run/reboot-required", "/run/reboot-needed", "/run/kured-sentinel/needs-restarting", "/run/kured-sentinel/kernel", "/run/kured-sentinel/command"}
	const debian, rocky, suse = "PRETTY_NAME=\"Debian 12\"\nID=debian\n", "PRETTY_NAME='Rocky 9'\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "PRETTY_NAME=SUSE\nID=sles\n"
	enabled := func(unit string) (string, string) {
		return "etc/systemd/system/multi-user.target.wants/" + unit, "-> x"
	}
	needs, link := enabled("kured-needs-restarting.path")
	command, _ := enabled("kured-sentinel-command.path")
	tests := []struct {
		name   string
		files  map[string]string
		paths  []string
		want   []string
		remedy string
	}{
		{"Debian alone", map[string]string{"etc/os-release": debian}, paths, []string{"warning: Debian 12: nothing that is known asks for a reboot"}, "kured-kernel.path"},
		{"needrestart is no source", map[string]string{"etc/os-release": debian, "usr/sbin/needrestart": ""}, paths, []string{"warning: Debian 12: nothing"}, ""},
		{"unattended-upgrades", map[string]string{"etc/os-release": debian, "etc/kernel/postinst.d/unattended-upgrades": ""}, paths,
			[]string{"ok: Debian 12: a reboot is asked for by unattended-upgrades"}, ""},
		{"but not looked at", map[string]string{"etc/os-release": debian, "etc/kernel/postinst.d/unattended-upgrades": ""}, []string{"/run/kured-sentinel/kernel"},
			[]string{"warning: unattended-upgrades makes /run/reboot-required, but sentinel.paths does not have it", "warning: Debian 12: nothing"}, ""},
		{"a file of one's own", map[string]string{"etc/os-release": debian}, []string{"/run/mine"}, []string{"ok: Debian 12: nothing that is known asks"}, ""},
		{"Rocky alone", map[string]string{"usr/lib/os-release": rocky}, paths, []string{"warning: Rocky 9: nothing"}, "systemctl enable --now kured-needs-restarting.path"},
		{"Rocky", map[string]string{"etc/os-release": rocky, "usr/lib/systemd/system/kured-needs-restarting.path": "", needs: link, "usr/bin/dnf": ""}, paths,
			[]string{"ok: Rocky 9: a reboot is asked for by kured-needs-restarting.path"}, ""},
		{"without its program", map[string]string{"etc/os-release": rocky, "usr/lib/systemd/system/kured-needs-restarting.path": "", needs: link}, paths,
			[]string{"ok: Rocky 9", "fail: kured-needs-restarting.path is enabled, but needs-restarting is not installed"}, ""},
		{"SUSE", map[string]string{"etc/os-release": suse, "usr/bin/zypper": ""}, paths, []string{"ok: SUSE: a reboot is asked for by zypper"}, ""},
		{"a command that is not there", map[string]string{"usr/lib/systemd/system/kured-sentinel-command.path": "", command: link}, paths,
			[]string{"ok: a system without os-release: a reboot is asked for by kured-sentinel-command.path", "fail: kured-sentinel-command is enabled, but there is no"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := tree(t, test.files).Sources(test.paths)
			say(t, found, test.want...)
			if !strings.Contains(found[0].Remedy, test.remedy) {
				t.Errorf("remedy %q", found[0].Remedy)
			}
		})
	}
}

func TestHooks(t *testing.T) {
	m := tree(t, map[string]string{
		"hooks/pre-drain.d/10-db": "", "hooks/pre-drain.d/20-forgotten": "", "hooks/pre-drain.d/30.bak": "", "hooks/pre-reboot.d/open": "", "hooks/post-boot.d/well": "",
	})
	dir := m.path("hooks")
	for name, mode := range map[string]os.FileMode{"pre-drain.d/10-db": 0o755, "pre-reboot.d/open": 0o777, "post-boot.d/well": 0o700} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	say(t, m.Hooks(dir), "fail: "+dir+"/pre-reboot.d/open can be changed by others than root", "warning: "+dir+"/pre-drain.d/20-forgotten is not executable")
	if err := os.Chmod(filepath.Join(dir, "post-boot.d"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "post-uncordon.d")); err != nil {
		t.Fatal(err)
	}
	found := m.Hooks(dir)
	if !slices.ContainsFunc(found, func(f Finding) bool {
		return f.Level == Fail && strings.HasPrefix(f.Text, dir+"/post-boot.d can be changed")
	}) {
		t.Errorf("a directory that all can write: %+v", found)
	}
	say(t, m.Hooks(m.path("none")), "ok: there are none in")
	m.Owner++
	if found := m.Hooks(dir); len(found) < 4 {
		t.Errorf("hooks of somebody else: %+v", found)
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	budget := gate.Budget{Path: filepath.Join(dir, "reboots.json"), Max: 1, Now: time.Now}
	say(t, State(t.Context(), dir, budget), "ok: "+dir+" can be written")
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if err := budget.Spend(); err != nil {
		t.Fatal(err)
	}
	say(t, State(t.Context(), dir, budget), "warning: 1 reboots in 24 hours")
	if err := os.WriteFile(budget.Path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	say(t, State(t.Context(), dir, budget), "fail: read reboot budget")
	say(t, State(t.Context(), filepath.Join(dir, "none"), budget), "warning: "+dir+"/none does not exist yet")
	say(t, State(t.Context(), budget.Path, budget), "fail: "+budget.Path+" cannot be written")
}
