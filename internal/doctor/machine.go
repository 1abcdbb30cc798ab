package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kured-host/kured/internal/statefile"
)

// Machine is the file system that is looked at.
type Machine struct {
	Root  string // "/" but in tests
	Owner uint32 // to whom hooks have to belong: 0 but in tests
}

// largest bounds a file that is read, in bytes.
const largest = 1 << 20

// path is a path of the machine.
func (m Machine) path(path string) string { return filepath.Join(m.Root, path) }

// exists reports whether something is at one of the paths. A link counts
// wherever it leads.
func (m Machine) exists(paths ...string) bool {
	for _, path := range paths {
		if _, err := os.Lstat(m.path(path)); err == nil {
			return true
		}
	}
	return false
}

// read reads the beginning of a regular file.
func (m Machine) read(path string) (string, error) {
	text, err := statefile.Read(m.path(path), largest)
	return string(text), err
}

// first reads the first of several files that exists; path is "" if none does.
func (m Machine) first(paths ...string) (path, text string, err error) {
	for _, path := range paths {
		text, err := m.read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return path, text, err
	}
	return "", "", nil
}

// unitDirectories are where systemd has units, what counts most first
// (systemd.unit(5)).
func unitDirectories() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// enabled reports whether systemd starts a unit by itself, at boot or with
// another one. It looks at the links that systemctl(1) makes, so that systemd
// need not be asked.
func (m Machine) enabled(unit string) bool {
	if !m.exists(m.unitFiles(unit)...) || m.masked(unit) {
		return false
	}
	for _, dir := range unitDirectories() {
		for _, kind := range []string{"wants", "requires", "upholds"} {
			// Root may be a pattern's enemy: Glob knows only one error, that of a bad one.
			links, _ := filepath.Glob(filepath.Join(escape(m.path(dir)), "*."+kind, escape(unit)))
			if len(links) > 0 {
				return true
			}
		}
	}
	return false
}

// installed reports whether there is a unit of this name.
func (m Machine) installed(unit string) bool { return m.exists(m.unitFiles(unit)...) }

func (m Machine) unitFiles(unit string) []string {
	var files []string
	for _, dir := range unitDirectories() {
		files = append(files, filepath.Join(dir, unit))
	}
	return files
}

// masked reports whether a unit is linked to /dev/null.
func (m Machine) masked(unit string) bool {
	for _, file := range m.unitFiles(unit)[:2] {
		if to, err := os.Readlink(m.path(file)); err == nil && to == "/dev/null" {
			return true
		}
	}
	return false
}

// escape makes a path a pattern that matches it alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Units checks that systemd starts kured, and the way back after a reboot.
func (m Machine) Units() []Finding {
	var found []Finding
	for _, unit := range []struct{ name, breaks string }{
		{"kured.service", "no reboot is ever begun"},
		{"kured-uncordon.service", "a node that has rebooted stays cordoned and keeps the lock, so that no other node reboots"},
	} {
		switch {
		case !m.installed(unit.name):
			found = append(found, fail("install the package of kured", "%s is not installed: %s", unit.name, unit.breaks))
		case m.masked(unit.name):
			found = append(found, fail("systemctl unmask "+unit.name+" && systemctl enable "+unit.name, "%s is masked: %s", unit.name, unit.breaks))
		case !m.enabled(unit.name):
			found = append(found, fail("systemctl enable "+unit.name, "%s is not enabled: %s", unit.name, unit.breaks))
		default:
			found = append(found, ok("%s is enabled", unit.name))
		}
	}
	return found
}
