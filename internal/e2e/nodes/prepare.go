package nodes

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// EnsureTools installs, with apt-get, the Debian packages whose programs this package and the tests that use
// it run and which are missing, and says so on out. It needs root and, if something is missing, a network.
func EnsureTools(ctx context.Context, out io.Writer) error {
	programs := [][2]string{ // program, package
		{"systemd-nspawn", "systemd-container"},
		{"journalctl", "systemd"},
		{"mmdebstrap", "mmdebstrap"},
		{"ip", "iproute2"},
		{"dbus-daemon", "dbus"},
		{"rpm", "rpm"},
		{"apt-ftparchive", "apt-utils"}, // these for `make repo`
		{"createrepo_c", "createrepo-c"},
		{"gpg", "gnupg"},
		{"gpgv", "gpgv"},
	}
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p[0]); err != nil && !slices.Contains(missing, p[1]) {
			missing = append(missing, p[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintln(out, "e2e: installing missing Debian packages:", strings.Join(missing, " "))
	for i, args := range [][]string{
		append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...),
		{"update", "-qq"},
		append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		output, err := cmd.CombinedOutput()
		if i == 0 && err == nil {
			return nil // the package lists were fresh enough
		}
		if i > 0 && err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, withoutMirrors(output))
		}
	}
	return nil
}
