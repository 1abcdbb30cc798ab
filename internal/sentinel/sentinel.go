// Package sentinel answers one question: does the operating system want a reboot, since when and why?
//
// The answer is in files. Debian and Ubuntu create /run/reboot-required and list the packages that asked for it
// in /run/reboot-required.pkgs; other systems use other names with the same meaning, and kured's own units (package
// source) write them where nobody else does. [Read] looks once; a [Watcher] follows the files with inotify and never
// polls.
//
// The package knows three answers, not two: a file that cannot be looked at is an error to be seen, never a "no".
package sentinel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// State is what the sentinel files said when they were read.
//
// Wanted and Err do not exclude each other: with two sentinels, one can be there while the other cannot be read.
// A State that is not Wanted and has an Err means "unknown".
type State struct {
	// Wanted says that at least one sentinel file exists.
	Wanted bool
	// Since is the modification time of the oldest sentinel that exists.
	Since time.Time
	// Path is the oldest sentinel that exists.
	Path string
	// Reasons are the lines of the .pkgs files beside the sentinels: trimmed, without control characters, without
	// duplicates, sorted, bounded in number and length.
	Reasons []string
	// Err tells which sentinels could not be read, and which checks that should make them could not run, and why.
	Err error
}

// Equal tells whether two states say the same.
func (s State) Equal(other State) bool {
	return s.Wanted == other.Wanted && s.Since.Equal(other.Since) && s.Path == other.Path &&
		slices.Equal(s.Reasons, other.Reasons) && errorText(s.Err) == errorText(other.Err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Read looks at the sentinel files once. A file or a directory on the way to it that does not exist is a "no";
// whatever else keeps the file from being looked at is in State.Err, and so is what a PATH.failed beside it says.
func Read(paths []string) State {
	var state State
	var lines []string
	var errs []error
	for _, path := range paths {
		if err := checkFailed(path); err != nil {
			errs = append(errs, err)
		}
		since, exists, err := look(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !exists {
			continue
		}
		if !state.Wanted || since.Before(state.Since) {
			state.Since, state.Path = since, path
		}
		state.Wanted = true
		lines = append(lines, packageLines(path+packagesSuffix)...)
	}
	state.Reasons = reasons(lines)
	state.Err = errors.Join(errs...)
	return state
}

// look stats one sentinel.
func look(path string) (since time.Time, exists bool, err error) {
	// Two rounds, because the file may come between the two system calls that tell "absent" from "dangling link".
	for range 2 {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return time.Time{}, false, fmt.Errorf("read sentinel %s: is a directory", path)
		case err == nil:
			return info.ModTime(), true, nil
		case !isAbsent(err):
			return time.Time{}, false, fmt.Errorf("read sentinel: %w", err)
		}
		link, err := os.Lstat(path)
		switch {
		case err == nil && link.Mode()&fs.ModeSymlink != 0:
			return time.Time{}, false, fmt.Errorf("read sentinel %s: dangling symbolic link", path)
		case err != nil && !isAbsent(err):
			return time.Time{}, false, fmt.Errorf("read sentinel: %w", err)
		case err != nil:
			return time.Time{}, false, nil
		}
	}
	return time.Time{}, false, fmt.Errorf("read sentinel %s: it comes and goes", path)
}

// isAbsent tells whether a path cannot exist: nothing there (ENOENT), or a file where a directory would have to
// be (ENOTDIR).
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
