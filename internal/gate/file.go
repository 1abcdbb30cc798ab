package gate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// watchFile signals when the file at path, which is absolute, may have changed,
// come or gone. Where its directory does not exist the next one above it is
// watched. A link in the way is followed where it leads when the watch begins;
// a file system that is mounted over a directory later goes unnoticed
// (inotify(7)). The channel is closed when ctx ends or watching becomes impossible.
func watchFile(ctx context.Context, path string) (<-chan struct{}, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w (see fs.inotify.max_user_instances)", path, err)
	}
	w := &fileWatch{path: path, notify: notify}
	if err := w.reach(); err != nil {
		return nil, errors.Join(err, notify.Close())
	}
	events := make(chan struct{}, 1)
	go func() {
		defer close(events)
		defer notify.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case event, ok := <-notify.Events:
				if !ok {
					return
				}
				if !w.concerns(event.Name) {
					continue
				}
			case err, ok := <-notify.Errors:
				// After an overflow anything may have happened. EINVAL is fsnotify
				// removing a watch that the kernel has removed already.
				if !ok || !errors.Is(err, fsnotify.ErrEventOverflow) && !errors.Is(err, syscall.EINVAL) {
					return
				}
			}
			if w.reach() != nil {
				return
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	return events, nil
}

// fileWatch keeps watches on the directories in which the way to a file can change.
type fileWatch struct {
	path   string
	notify *fsnotify.Watcher
}

// concerns tells whether an event can be one of the file or of a directory on
// the way to it. It compares the last element only: the same directory may be
// known under another path (a bind mount).
func (w *fileWatch) concerns(name string) bool {
	return slices.Contains(strings.Split(w.path, "/"), filepath.Base(name))
}

// reach sets watches on the directory of the file and on all above it, as far
// as they exist: each of them can be removed, renamed or made anew. A watch that
// is there already is not disturbed, and one of a directory that had this name
// before tells at most too much.
func (w *fileWatch) reach() error {
	var dirs []string // from the file's own up to the root
	for dir := filepath.Dir(w.path); ; dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	// From the root down: a directory that comes while we go is seen by the
	// watch on the one above it, which is set already.
	for i := len(dirs) - 1; i >= 0; i-- {
		err := w.notify.Add(dirs[i])
		switch {
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
			return nil
		case errors.Is(err, syscall.EACCES) && i > 0:
			// Not to be listed, but perhaps to be passed.
		case err != nil:
			return fmt.Errorf("watch directory %s: %w", dirs[i], err)
		}
	}
	return nil
}
