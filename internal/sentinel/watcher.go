package sentinel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxPostpone bounds how long a file that is written all the time can put off reading it, in settle times.
const maxPostpone = 10

// Watcher follows the sentinel files. It does nothing at all while the kernel reports nothing: there is no ticker,
// and its one timer runs only after an event that concerns a sentinel.
//
// A file system that is mounted over a watched directory later makes no event and goes unnoticed (inotify(7)).
type Watcher struct {
	paths   []string
	settle  time.Duration
	read    func([]string) State
	changed chan struct{}

	mu    sync.Mutex
	state State
}

// New makes a Watcher for absolute paths and reads their state once. Run does the watching. After an event the
// files are read when settle has passed without another one, so that a running package manager can finish
// writing, but after ten times settle in any case.
func New(paths []string, settle time.Duration) (*Watcher, error) {
	var errs []error
	if len(paths) == 0 {
		errs = append(errs, errors.New("no sentinel path given"))
	}
	for _, path := range paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
			errs = append(errs, fmt.Errorf("sentinel path %q is not a clean absolute path of a file", path))
		}
	}
	if settle < 0 {
		errs = append(errs, fmt.Errorf("settle time %s is negative", settle))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	w := &Watcher{paths: slices.Clone(paths), settle: settle, read: Read, changed: make(chan struct{}, 1)}
	w.state = w.read(w.paths)
	return w, nil
}

// State is what the files said when they were last read. It is valid as soon as New has returned.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.state
	state.Reasons = slices.Clone(state.Reasons)
	return state
}

// Changed receives a value after the State changed; several changes may come as one.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Run watches until ctx ends, then returns nil. It reads the files once more after the first watches are set, so
// that nothing is missed since New. An error means that watching is impossible, for example because an inotify
// limit is reached; it names the setting. Run must not be called twice at the same time.
func (w *Watcher) Run(ctx context.Context) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return limitError("watch sentinels", err)
	}
	defer notify.Close()
	return w.follow(ctx, notify.Events, notify.Errors, newTree(notify, w.paths))
}

// watches is the part of tree that follow needs.
type watches interface {
	concerns(path string) bool
	sync() (denied, err error)
}

func (w *Watcher) follow(ctx context.Context, events <-chan fsnotify.Event, faults <-chan error, tree watches) error {
	if err := w.refresh(tree); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	var first time.Time // of the events not yet acted upon
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-events:
			if !ok {
				return errors.New("watch sentinels: the event stream ended")
			}
			if !tree.concerns(event.Name) {
				continue
			}
		case err, ok := <-faults:
			if !ok {
				return errors.New("watch sentinels: the event stream ended")
			}
			// After an overflow anything may have happened, so look. EINVAL is fsnotify removing a watch that the
			// kernel has removed already.
			if !errors.Is(err, fsnotify.ErrEventOverflow) && !errors.Is(err, syscall.EINVAL) {
				return fmt.Errorf("watch sentinels: %w", err)
			}
		case <-timer.C:
			first = time.Time{}
			if err := w.refresh(tree); err != nil {
				return err
			}
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		timer.Reset(max(0, min(w.settle, maxPostpone*w.settle-time.Since(first))))
	}
}

// refresh sets the watches first and reads then: what happens in between makes an event.
func (w *Watcher) refresh(tree watches) error {
	denied, err := tree.sync()
	if err != nil {
		return err
	}
	state := w.read(w.paths)
	if denied != nil {
		state.Err = errors.Join(state.Err, denied)
	}
	w.mu.Lock()
	same := w.state.Equal(state)
	w.state = state
	w.mu.Unlock()
	if !same {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	return nil
}
