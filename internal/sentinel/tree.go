package sentinel

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links the kernel follows on one path (path_resolution(7)).
const maxLinks = 40

// maxRounds bounds how often sync starts again because the directories changed under it. Whatever changes after
// that makes an event of its own.
const maxRounds = 8

// tree keeps inotify watches on every directory in which the kernel looks a name up on its way to a sentinel:
// the directory of the file, all directories above it, and those that symbolic links lead through. With only the
// last directory watched, a renamed or replaced directory further up would go unnoticed.
//
// fsnotify exports no way to ask for fewer kinds of events than its five, so that the filter is concerns.
type tree struct {
	notify  notifier
	paths   []string
	watched map[string]fileID
	names   map[string]struct{}
}

// notifier is the part of fsnotify.Watcher that tree needs.
type notifier interface {
	Add(dir string) error
	Remove(dir string) error
}

// fileID tells directories apart that had the same name one after the other.
type fileID struct{ device, inode uint64 }

func newTree(notify notifier, paths []string) *tree {
	return &tree{notify: notify, paths: paths, watched: map[string]fileID{}}
}

// concerns tells whether an event on this path can change the answer. It compares the last element only: the same
// directory may be known under another path (a bind mount).
func (t *tree) concerns(path string) bool {
	_, ok := t.names[filepath.Base(path)]
	return ok
}

// sync brings the watches in line with the directories as they are now. denied tells about directories that may
// not be watched, which leaves the rest working; err means that watching is impossible.
func (t *tree) sync() (denied, err error) {
	var before map[string]struct{}
	for range maxRounds {
		dirs := map[string]struct{}{}
		names := map[string]struct{}{}
		for _, path := range t.paths {
			for _, file := range []string{path, path + packagesSuffix, path + failedSuffix} {
				walk(file, func(dir, name string) {
					dirs[dir], names[name] = struct{}{}, struct{}{}
				})
			}
		}
		t.names = names
		// The same directories seen twice, with all watches set in between: nothing was missed.
		if before != nil && maps.Equal(before, dirs) {
			return denied, nil
		}
		if denied, err = t.watch(dirs); err != nil {
			return denied, err
		}
		before = dirs
	}
	return denied, nil
}

// watch adds and removes watches so that exactly dirs are watched.
func (t *tree) watch(dirs map[string]struct{}) (denied, err error) {
	for dir := range t.watched {
		if _, wanted := dirs[dir]; !wanted {
			t.forget(dir)
		}
	}
	var errs []error
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		id, err := identify(dir)
		if old, known := t.watched[dir]; known && old != id {
			// The directory that had this name lives on elsewhere; its watch would stay for ever.
			t.forget(dir)
		}
		if err == nil {
			// Also where a watch is believed to exist: the kernel drops it with the directory and may give the next
			// one the same inode number. On a directory that is watched this changes nothing.
			err = t.notify.Add(dir)
		}
		switch {
		case err == nil:
			t.watched[dir] = id
		case isAbsent(err):
			// Gone since it was looked up: the watch on the directory above it tells when it returns.
			t.forget(dir)
		case errors.Is(err, fs.ErrPermission):
			t.forget(dir)
			errs = append(errs, fmt.Errorf("watch directory %s: %w", dir, err))
		default:
			return nil, limitError("watch directory "+dir, err)
		}
	}
	return errors.Join(errs...), nil
}

// forget ends a watch. Its error says only that the kernel was faster.
func (t *tree) forget(dir string) {
	delete(t.watched, dir)
	_ = t.notify.Remove(dir)
}

func identify(dir string) (fileID, error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return fileID{}, err
	}
	return fileID{device: stat.Dev, inode: stat.Ino}, nil
}

// walk calls visit for each name that has to be looked up to reach path, with the directory, free of symbolic
// links, in which it is looked up. It ends at the first name that does not lead on.
func walk(path string, visit func(dir, name string)) {
	dir, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		visit(dir, name)
		full := filepath.Join(dir, name)
		info, err := os.Lstat(full)
		switch {
		case err != nil:
			return
		case info.IsDir():
			dir = full
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(full)
			if links++; err != nil || links > maxLinks {
				return
			}
			if filepath.IsAbs(target) {
				dir = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		default:
			return
		}
	}
}

// limitError names the setting to raise for the errors that inotify(7) gives when a limit is reached.
func limitError(doing string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%s: limit of inotify watches reached, raise sysctl fs.inotify.max_user_watches: %w", doing, err)
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%s: limit of inotify instances or of open files reached, raise sysctl fs.inotify.max_user_instances or LimitNOFILE=: %w", doing, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
