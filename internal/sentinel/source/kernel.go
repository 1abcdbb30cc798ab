package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kernel notices that another kernel than the running one would be booted: a newer one of its flavour is installed, the
// running one was installed anew, or it was removed.
//
// Only what has changed since the boot counts. A newer kernel that was there before the boot was not chosen by the boot
// loader, and another reboot would not change that.
type Kernel struct {
	Root    string    // of the file system, "/"
	Running string    // release of the running kernel, uname -r
	Booted  time.Time // when this system was booted
	// Note takes a line about a kernel that does not count although it is newer.
	Note func(line string)
}

// Host is the Kernel of this system.
func Host(note func(string)) (Kernel, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Kernel{}, fmt.Errorf("uname: %w", err)
	}
	booted, err := bootTime("/proc")
	if err != nil {
		return Kernel{}, err
	}
	return Kernel{Root: "/", Running: unix.ByteSliceToString(name.Release[:]), Booted: booted, Note: note}, nil
}

// bootTime is when the first process began, by today's clock. That of the kernel is another one in a container.
func bootTime(proc string) (time.Time, error) {
	const ticks = 100 // USER_HZ, on every architecture that Go supports
	text, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read time of boot: %w", err)
	}
	var base int64
	for text := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(text, "btime "); ok {
			base, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	if err != nil || base <= 0 {
		return time.Time{}, errors.New("read time of boot: no btime in /proc/stat")
	}
	first, err := os.ReadFile(filepath.Join(proc, "1", "stat"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read time of boot: %w", err)
	}
	// Field 22 is starttime (proc_pid_stat(5)). The second may contain anything, and ends with the last parenthesis.
	fields := bytes.Fields(first[bytes.LastIndexByte(first, ')')+1:])
	if len(fields) < 20 {
		return time.Time{}, errors.New("read time of boot: /proc/1/stat is cut short")
	}
	started, err := strconv.ParseInt(string(fields[19]), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read time of boot: %w", err)
	}
	return time.Unix(base, 0).Add(time.Duration(started) * time.Second / ticks), nil
}

// Paths are what changes when a kernel comes or goes.
func (k Kernel) Paths() []string {
	return []string{filepath.Join(k.Root, "boot"), filepath.Join(k.Root, "lib/modules"), k.packageList(k.Running)}
}

// Check looks once. A system in which no kernel is installed, as in most containers, wants nothing.
func (k Kernel) Check() (Finding, error) {
	installed, err := k.installed()
	if err != nil || len(installed) == 0 {
		return Finding{}, err
	}
	running := ParseRelease(k.Running)
	var reasons []string
	here := false
	for _, kernel := range installed {
		release := ParseRelease(kernel.name)
		if release.Name == running.Name {
			here = true
			if at, err := changed(k.packageList(release.Name), modified); err == nil && at.After(k.Booted) {
				reasons = append(reasons, k.describe(release)+" (installed anew)")
			}
			continue
		}
		switch {
		case release.Flavour != running.Flavour || CompareVersions(release.Version, running.Version) <= 0:
		case !kernel.since.After(k.Booted):
			k.Note(fmt.Sprintf("%s is newer than the running %s, but was installed before the boot and not booted: does the boot loader choose another one?", release.Name, running.Name))
		default:
			reasons = append(reasons, k.describe(release))
		}
	}
	if !here && len(reasons) == 0 {
		at, err := changed(filepath.Join(k.Root, "lib/modules"), modified)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return Finding{}, fmt.Errorf("look for kernels: %w", err)
		case err == nil && at.After(k.Booted):
			reasons = append(reasons, k.describe(running)+" (running, but removed)")
		default:
			k.Note(fmt.Sprintf("the running %s is not installed here, and was not since the boot", running.Name))
		}
	}
	return Finding{Wanted: len(reasons) > 0, Reasons: reasons}, nil
}

// image is a kernel that is installed.
type image struct {
	name  string    // release
	since time.Time // when its file was made, by the clock then
}

// installed finds the kernels by their images: in /boot, or where they are part of the modules, as on Fedora. Modules
// alone are no kernel: headers and leftovers make such directories, too.
func (k Kernel) installed() ([]image, error) {
	found := map[string]time.Time{}
	boot := filepath.Join(k.Root, "boot")
	images, err := entries(boot)
	if err != nil {
		return nil, err
	}
	for _, file := range images {
		for _, prefix := range []string{"vmlinuz-", "vmlinux-", "Image-"} {
			if name, ok := strings.CutPrefix(file, prefix); ok && genuine(name) {
				if err := note(found, name, filepath.Join(boot, file)); err != nil {
					return nil, err
				}
			}
		}
	}
	modules := filepath.Join(k.Root, "lib/modules")
	names, err := entries(modules)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if genuine(name) {
			if err := note(found, name, filepath.Join(modules, name, "vmlinuz")); err != nil {
				return nil, err
			}
		}
	}
	var all []image
	for name, since := range found {
		all = append(all, image{name, since})
	}
	slices.SortFunc(all, func(a, b image) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// genuine tells whether what is in the place of a release is one, and not the copy that a package manager or an
// administrator made, nor the rescue image.
func genuine(name string) bool {
	return name != "" && digit(name[0]) && !strings.Contains(name, ".dpkg-") && !strings.Contains(name, ".rpm") &&
		!strings.HasSuffix(name, ".old") && !strings.HasSuffix(name, ".bak") && !strings.HasSuffix(name, "~") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func note(found map[string]time.Time, name, path string) error {
	at, err := changed(path, created)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone meanwhile, or no image
	}
	if err != nil {
		return fmt.Errorf("look for kernels: %w", err)
	}
	if old, there := found[name]; !there || at.After(old) {
		found[name] = at
	}
	return nil
}

func entries(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for kernels: %w", err)
	}
	names := make([]string, len(list))
	for i, entry := range list {
		names[i] = entry.Name()
	}
	return names, nil
}

// modified and created choose a time of a file. A package manager sets the time of modification to that in the package;
// the time of the last change of the inode it cannot set.
func modified(s *syscall.Stat_t) syscall.Timespec { return s.Mtim }
func created(s *syscall.Stat_t) syscall.Timespec  { return s.Ctim }

func changed(path string, which func(*syscall.Stat_t) syscall.Timespec) (time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}, fmt.Errorf("%s: no times", path)
	}
	at := which(stat)
	return time.Unix(at.Unix()), nil
}

// packageList is where dpkg lists the files of a kernel's package. It writes that anew with each installation.
func (k Kernel) packageList(release string) string {
	return filepath.Join(k.Root, "var/lib/dpkg/info", "linux-image-"+release+".list")
}

// describe names a kernel as Debian names its package, if it comes from one.
func (k Kernel) describe(release Release) string {
	if _, err := os.Stat(k.packageList(release.Name)); err == nil {
		return "linux-image-" + release.Name
	}
	return "linux " + release.Name
}
