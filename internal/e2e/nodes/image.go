package nodes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/testenv/filelock"
)

// Image is a base system that nodes share as their read-only lower layer.
type Image string

// The base systems: a Debian release by its codename.
const (
	Debian11 Image = "bullseye"
	Debian12 Image = "bookworm"
	Debian13 Image = "trixie"
	// Debian12RPM is Debian 12 with rpm and dnf, to install an rpm, and run its scriptlets, under a running systemd.
	Debian12RPM Image = "bookworm-rpm"
	// Debian13Ansible is Debian 13 with Ansible: a control host. The Ansible of Debian 12 knows no Python as new as
	// that of Debian 13's nodes.
	Debian13Ansible Image = "trixie-ansible"
)

// recipes are all of these.
func recipes() []Image {
	return []Image{Debian11, Debian12, Debian13, Debian12RPM, Debian13Ansible}
}

// EnvMirror overrides the mirror that images are built from; by default it is that of the machine's own apt
// sources if it is a Debian, else the one that mmdebstrap knows.
const EnvMirror = "KURED_E2E_MIRROR"

// excluded parts of packages are only bulk here.
var excluded = []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"}

// cleanUp runs in the finished system ($1): no trace of the mirror, an identity for each node instead of
// one for all, a persistent journal, and nothing that waits for the internet.
const cleanUp = `set -e
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/resolv.conf
rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/lib/apt/lists/*_* "$1"/var/lib/dbus/machine-id
rm -f "$1"/etc/ssh/ssh_host_*
for unit in ssh.service ssh.socket; do
	[ ! -e "$1/lib/systemd/system/$unit" ] || systemctl --root="$1" disable --quiet "$unit"
done
rm -rf "$1"/var/log/apt "$1"/var/log/dpkg.log "$1"/var/log/bootstrap.log
: >"$1"/etc/machine-id
mkdir -p "$1"/var/log/journal "$1"/srv/share
chroot "$1" passwd -qd root
for unit in systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
`

func (i Image) suite() string {
	suite, _, _ := strings.Cut(string(i), "-")
	return suite
}

func (i Image) packages() []string {
	list := []string{"systemd", "systemd-sysv", "dbus", "libpam-systemd", "iproute2", "procps", "ca-certificates"}
	if i == Debian11 {
		list = append(list, "policykit-1")
	} else {
		list = append(list, "polkitd")
	}
	switch i {
	case Debian12RPM:
		return append(list, "rpm", "dnf", "openssh-server", "curl")
	case Debian13Ansible:
		return append(list, "ansible-core", "openssh-client")
	default:
		// What Ansible needs of a node, and what installs by hand. The server is off: a test that wants it enables it.
		return append(list, "openssh-server", "python3", "python3-apt", "curl")
	}
}

// Dir is where the image lies or will lie: in the user's cache directory, under a name that changes with the
// recipe.
func (i Image) Dir() (string, error) {
	recipe := sha256.Sum256([]byte(strings.Join(append(append(i.packages(), excluded...), cleanUp), "\n")))
	return filepath.Join(cacheDir(), fmt.Sprintf("%s-%x", i, recipe[:6])), nil
}

// cacheDir is where images are kept, and where runs find each other.
func cacheDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/var/cache" // neither XDG_CACHE_HOME nor HOME, as in a bare service
	}
	return filepath.Join(cache, "kured-e2e")
}

// EnsureImages builds the images that are not in the cache yet, two at a time, and tells on out what it does.
// Other processes that want the same image wait for it. Images of which no recipe is left are removed.
func EnsureImages(ctx context.Context, out io.Writer, images ...Image) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, image := range images {
		group.Go(func() error {
			if err := image.ensure(ctx, out); err != nil {
				return fmt.Errorf("base image %s: %w", image, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var kept []string
	for _, image := range recipes() {
		dir, err := image.Dir()
		if err != nil {
			return err
		}
		kept = append(kept, dir)
	}
	return removeOld(cacheDir(), kept, out)
}

// unusedFor is how long an image stays that no recipe here names: another checkout may have that recipe.
const unusedFor = 24 * time.Hour

// removeOld removes from the cache all images but those that are kept and those that somebody has asked for lately. Their
// locks stay, as somebody may wait for one.
func removeOld(cache string, kept []string, out io.Writer) error {
	locks, err := filepath.Glob(filepath.Join(cache, "*.lock"))
	if err != nil {
		return err
	}
	for _, lock := range locks {
		dir := strings.TrimSuffix(lock, ".lock")
		used, err := os.Stat(lock)
		if err != nil {
			return err
		}
		if slices.Contains(kept, dir) || time.Since(used.ModTime()) < unusedFor {
			continue
		}
		if _, err := os.Stat(dir); err == nil {
			fmt.Fprintf(out, "e2e: removing base image %s, of an old recipe …\n", filepath.Base(dir))
		}
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".partial")); err != nil {
			return err
		}
	}
	return nil
}

func (i Image) ensure(ctx context.Context, out io.Writer) error {
	dir, err := i.Dir()
	if err != nil {
		return err
	}
	// The systems hold set-user-id programs of unpatched releases: nobody else may enter.
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	unlock, err := filelock.Take(ctx, dir+".lock", nil)
	if err != nil {
		return err
	}
	defer unlock()
	now := time.Now()
	if err := os.Chtimes(dir+".lock", now, now); err != nil { // for removeOld
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	start := time.Now()
	fmt.Fprintf(out, "e2e: building base image %s (kept for later runs) …\n", i)
	partial := dir + ".partial" // one builder at a time: the lock
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := i.build(ctx, partial); err != nil {
		_ = os.RemoveAll(partial)
		return err
	}
	if err := os.Rename(partial, dir); err != nil {
		return err
	}
	fmt.Fprintf(out, "e2e: base image %s built in %s\n", i, time.Since(start).Round(time.Second))
	return nil
}

func (i Image) build(ctx context.Context, dir string) error {
	args := []string{
		"--quiet", "--variant=minbase", "--mode=root", "--format=directory",
		"--include=" + strings.Join(i.packages(), ","),
		"--aptopt=APT::Install-Recommends \"false\"",
		"--aptopt=Acquire::Check-Valid-Until \"false\"", // an archived release is as good
		"--aptopt=Acquire::Retries \"3\"",
		"--customize-hook=" + cleanUp,
	}
	for _, path := range excluded {
		args = append(args, "--dpkgopt=path-exclude="+path)
	}
	args = append(args, i.suite(), dir)
	cmd := exec.CommandContext(ctx, "mmdebstrap")
	if mirror := os.Getenv(EnvMirror); mirror != "" {
		args = append(args, mirror)
	} else if sources := machineSources("/etc", i.suite()); sources != "" {
		args = append(args, "-")
		cmd.Stdin = strings.NewReader(sources)
	}
	cmd.Args = append(cmd.Args, args...)
	// What it mounts into dir must be gone, even if it is killed, before anyone removes dir.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // it then unmounts and removes
	cmd.WaitDelay = 20 * time.Second
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, tail(withoutMirrors(output), 2000))
	}
	return nil
}

func withoutMirrors(output []byte) string {
	return regexp.MustCompile(`\w+://[^ /]+`).ReplaceAllString(string(output), "<mirror>")
}

func tail(s string, n int) string {
	if len(s) > n {
		return "… " + s[len(s)-n:]
	}
	return s
}
