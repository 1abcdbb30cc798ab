// Package source makes sentinel files where the operating system makes none. It is what `kured source` does in units
// of its own, beside the daemon, which executes nothing and only reads the files.
//
// A source has three files in one directory: NAME asks for a reboot, NAME.pkgs lists why, and NAME.failed says, in one
// line, why the last check could not find out. A check that cannot find out leaves the other two as they are.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// DefaultDirectory is where the sentinels of kured's own units are.
const DefaultDirectory = "/run/kured-sentinel"

// Finding is what a check found out.
type Finding struct {
	Wanted  bool
	Reasons []string // names of packages or the like, one line each
}

// Sentinel is the files of one source.
type Sentinel struct {
	Directory string
	Name      string
}

// Bounds on what is written: the daemon takes no more.
const (
	maxReasons = 64
	maxReason  = 200 // characters
)

// Report writes down what a check found out, or with err why it could not. A sentinel that stands already keeps its
// time, which says since when the reboot is wanted. Every file is changed in one step, and in such an order that a
// reader in between sees no sentinel without its reasons.
func (s Sentinel) Report(finding Finding, err error) error {
	if s.Name == "" || s.Name != filepath.Base(s.Name) || strings.HasPrefix(s.Name, ".") {
		return fmt.Errorf("sentinel: %q is not the name of a file", s.Name)
	}
	path := filepath.Join(s.Directory, s.Name)
	if err != nil {
		return wrap(replace(path+".failed", status.Clean(err.Error(), maxReason)+"\n"))
	}
	var errs []error
	if finding.Wanted {
		errs = append(errs, replace(path+".pkgs", text(finding.Reasons)), create(path))
	} else {
		errs = append(errs, remove(path), remove(path+".pkgs"))
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, remove(path+".failed"))
	}
	return wrap(errors.Join(errs...))
}

func wrap(err error) error {
	if err != nil {
		return fmt.Errorf("write sentinel: %w", err)
	}
	return nil
}

// create makes the sentinel, unless it is there.
func create(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replace gives a file this content, in one step. One that has it already is not touched, so that nobody wakes.
func replace(path, content string) error {
	if old, err := statefile.Read(path, int64(len(content))+1); err == nil && string(old) == content {
		return nil
	}
	return statefile.Replace(path, []byte(content), 0o644)
}

// text is the content of a .pkgs file: lines without duplicates, sorted.
func text(reasons []string) string {
	var lines []string
	for _, reason := range reasons {
		if reason = status.Clean(reason, maxReason); reason != "" {
			lines = append(lines, reason+"\n")
		}
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	return strings.Join(lines[:min(len(lines), maxReasons)], "")
}
