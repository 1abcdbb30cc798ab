package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// mirror keeps a local copy of the objects that one list and one watch show.
//
// client-go's Reflector does the same and more; it is not used because it sleeps where cancelling
// cannot reach it, tells its errors only to klog, and here the last error is part of the answer.
type mirror[T metav1.Object] struct {
	list  func(context.Context, metav1.ListOptions) (items []T, resourceVersion string, err error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)

	changed chan struct{} // one token when anything below changed since the last one was taken

	mu     sync.Mutex
	items  map[types.UID]T
	synced bool
	err    error
}

// Delays between attempts to list and watch again; doubled each time, jittered by up to one half.
const (
	relistDelay    = 500 * time.Millisecond
	relistDelayMax = 10 * time.Second
	// A watch that lived this long was a good one: the next failure starts the back-off afresh.
	watchProven = 10 * time.Second
	// A watch that ends sooner than this is not taken up again without a pause.
	watchTooShort = time.Second
)

func newMirror[T metav1.Object](
	list func(context.Context, metav1.ListOptions) ([]T, string, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *mirror[T] {
	return &mirror[T]{list: list, watch: watch, changed: make(chan struct{}, 1), items: map[types.UID]T{}}
}

// snapshot returns the objects as last seen, by namespace and name; synced is false until the first
// list was complete. err is why the copy may be old at the moment, nil if it is followed.
func (m *mirror[T]) snapshot() (items []T, synced bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items = slices.SortedFunc(maps.Values(m.items), func(a, b T) int {
		return compareNames(a.GetNamespace(), a.GetName(), b.GetNamespace(), b.GetName())
	})
	return items, m.synced, m.err
}

// run follows the objects until ctx ends, through every error.
func (m *mirror[T]) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		proven, err := m.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if proven {
			failures = 0
		}
		m.failed(err)
		delay := min(relistDelay<<min(failures, 10), relistDelayMax)
		if sleep(ctx, jittered(delay)) != nil {
			return
		}
	}
}

// follow lists and then watches from there until the watch cannot be continued; proven says that it
// had gone well for some time.
func (m *mirror[T]) follow(ctx context.Context) (proven bool, err error) {
	version, err := m.relist(ctx)
	if err != nil {
		return false, err
	}
	start := time.Now()
	for ctx.Err() == nil {
		begun := time.Now()
		version, err = m.watchOnce(ctx, version)
		proven = time.Since(start) >= watchProven
		if err != nil {
			return proven, err
		}
		if time.Since(begun) < watchTooShort {
			return proven, errors.New("watch: ended at once")
		}
	}
	return proven, ctx.Err()
}

func (m *mirror[T]) relist(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// No resourceVersion: the answer is as new as the moment of asking.
	items, version, err := m.list(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list: %w", err)
	}
	all := make(map[types.UID]T, len(items))
	for _, item := range items {
		all[item.GetUID()] = item
	}
	m.update(func() { m.items, m.synced, m.err = all, true, nil })
	return version, nil
}

// watchOnce runs one watch. A watch that the server or the network ended is no error: the next one goes on
// at the returned version.
func (m *mirror[T]) watchOnce(ctx context.Context, version string) (string, error) {
	// The server ends the watch after this time; spread, so that not all clients return together.
	timeout := int64(300 + rand.IntN(300))
	w, err := m.watch(ctx, metav1.ListOptions{
		ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &timeout,
	})
	if err != nil {
		return version, fmt.Errorf("watch: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return version, ctx.Err()
		case event, open := <-w.ResultChan():
			if !open {
				return version, nil
			}
			if event.Type == watch.Error {
				return version, fmt.Errorf("watch: %w", apierrors.FromObject(event.Object))
			}
			object, ok := event.Object.(metav1.Object)
			if !ok {
				return version, fmt.Errorf("watch: unexpected %T", event.Object)
			}
			version = object.GetResourceVersion()
			if item, ok := any(event.Object).(T); ok && event.Type != watch.Bookmark {
				m.apply(event.Type, item)
			}
		}
	}
}

func (m *mirror[T]) apply(what watch.EventType, item T) {
	m.update(func() {
		if what == watch.Deleted {
			delete(m.items, item.GetUID())
			return
		}
		m.items[item.GetUID()] = item
	})
}

func (m *mirror[T]) failed(err error) {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	m.update(func() { m.err = err })
}

func (m *mirror[T]) update(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
