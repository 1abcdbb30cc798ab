// Package packaging_test shows what the maintainer scripts of the packages do on each way through dpkg and rpm.
package packaging_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/scripts.txt anew")

// logged stands for every program: it writes down how it was called, and succeeds.
const logged = `#!/bin/sh
echo "    ${0##*/} $*" >>"$CALLS"
`

// programs are all that the scripts call. Nothing else is found by them, and nothing of it is done here.
var programs = []string{"deb-systemd-helper", "deb-systemd-invoke", "journalctl", "rm", "systemctl", "systemd-sysusers", "timeout"}

// ways are those of Debian Policy 6.5, and of rpm's scriptlets; "chroot" is without a running systemd, and "DPKG_ROOT" is
// dpkg --force-script-chrootless, where each path and each program has to mean the other system.
var ways = []struct{ name, system, scripts string }{
	{"deb: installation", "", "deb/postinst configure"},
	{"deb: installation in a chroot", "chroot", "deb/postinst configure"},
	{"deb: installation in DPKG_ROOT", "DPKG_ROOT", "deb/postinst configure"},
	{"deb: upgrade, downgrade, the same again", "", "deb/prerm upgrade 1.1; deb/postrm upgrade 1.1; deb/postinst configure 1.0"},
	{"deb: upgrade that fails", "", "deb/prerm failed-upgrade 1.0; deb/postrm failed-upgrade 1.0; deb/postrm abort-upgrade 1.0; deb/postinst abort-upgrade 1.1"},
	{"deb: installation that fails", "", "deb/postrm abort-install"},
	{"deb: deconfigured for another package, and back", "", "deb/prerm deconfigure in-favour other 2; deb/postinst abort-deconfigure in-favour other 2"},
	{"deb: removal", "", "deb/prerm remove; deb/postrm remove"},
	{"deb: removal that is interrupted", "", "deb/postinst abort-remove"},
	{"deb: removal in a chroot", "chroot", "deb/prerm remove; deb/postrm remove"},
	{"deb: removal in DPKG_ROOT", "DPKG_ROOT", "deb/prerm remove; deb/postrm remove"},
	{"deb: purge", "", "deb/postrm purge"},
	{"deb: purge in DPKG_ROOT", "DPKG_ROOT", "deb/postrm purge"},
	{"rpm: installation", "", "rpm/postinstall.sh 1"},
	{"rpm: installation in a chroot", "chroot", "rpm/postinstall.sh 1"},
	{"rpm: upgrade, downgrade, the same again", "", "rpm/postinstall.sh 2; rpm/preremove.sh 1; rpm/postremove.sh 1"},
	{"rpm: removal", "", "rpm/preremove.sh 0; rpm/postremove.sh 0"},
	{"rpm: removal in a chroot", "chroot", "rpm/preremove.sh 0; rpm/postremove.sh 0"},
}

func TestScripts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(logged), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var all strings.Builder
	for _, way := range ways {
		fmt.Fprintf(&all, "%s\n", way.name)
		for line := range strings.SplitSeq(way.scripts, "; ") {
			fmt.Fprintf(&all, "  %s\n%s", line, calls(t, dir, way.system, strings.Fields(line)))
		}
	}
	const golden = "testdata/scripts.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("the scripts do something else than %s says (go test ./packaging -update):\n%s", golden, all.String())
	}
}

// calls runs a script and returns what it calls. Where systemd runs, and where the stand-ins are, is in dir.
func calls(t *testing.T, dir, system string, line []string) string {
	t.Helper()
	text, err := os.ReadFile(line[0])
	if err != nil {
		t.Fatal(err)
	}
	running := dir // a directory that is there
	if system == "chroot" {
		running = "/nonexistent"
	}
	script := strings.ReplaceAll(string(text), "/run/systemd/system", running)
	file, log := filepath.Join(dir, "script"), filepath.Join(dir, "calls")
	for name, text := range map[string]string{file: script, log: ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{file}, line[1:]...)...)
	cmd.Env = []string{"PATH=" + dir, "CALLS=" + log}
	if system == "DPKG_ROOT" {
		cmd.Env = append(cmd.Env, "DPKG_ROOT=/image")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", line, err, out)
	}
	made, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return string(made)
}
