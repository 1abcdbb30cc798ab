package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// List returns the hooks of a phase in the order in which they run: that of their names, byte by byte. A hook is an
// executable regular file, or a symbolic link to one, in DIRECTORY/PHASE.d. Left out are names that begin with a dot
// and those that editors and package managers give to copies (see Ignored). A directory that does not exist has no
// hooks. What cannot be looked at is an error, also a link that leads nowhere.
func List(directory, phase string) ([]string, error) {
	dir := filepath.Join(directory, phase+".d")
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) && !dangling(directory) && !dangling(dir) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list hooks: %w", err)
	}
	var hooks []string
	for _, entry := range entries {
		if Ignored(entry.Name()) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("list hooks: %w", err)
		}
		if info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			hooks = append(hooks, path)
		}
	}
	return hooks, nil
}

// dangling tells a link that leads nowhere from what is not there.
func dangling(path string) bool {
	_, link := os.Lstat(path)
	_, target := os.Stat(path)
	return link == nil && target != nil
}

// Ignored tells whether a file of this name is no hook whatever it is. Other than for run-parts(8) a name may contain
// dots: a script that is called drain.sh and never runs is a trap.
func Ignored(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".bak") {
		return true
	}
	for _, part := range []string{".dpkg-", ".ucf-", ".rpm"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
