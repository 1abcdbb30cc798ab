// Package mirror keeps a local copy of objects of the API server, by one list and one watch, and the last error of that: of the
// pods that are bound to a Node, or of one Node. It asks for nothing else, because a kubelet's credential may see nothing else.
package mirror

import (
	"cmp"
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

// Mirror keeps a local copy of the objects that one list and one watch show.
//
// client-go's Reflector does the same and more; it is not used because it sleeps where cancelling
// cannot reach it, tells its errors only to klog, and here the last error is part of the answer.
type Mirror[T metav1.Object] struct {
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

// listTimeout bounds a list, so that an API server that swallows packets is an error that is seen and retried and not a wait
// without end. (A watch is bounded by the server and by HTTP/2 pings.)
const listTimeout = 30 * time.Second

// newMirror takes functions and no interface: a method of a generic interface keeps all methods of that name in the program.
func newMirror[T metav1.Object](
	list func(context.Context, metav1.ListOptions) ([]T, string, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *Mirror[T] {
	return &Mirror[T]{list: list, watch: watch, changed: make(chan struct{}, 1), items: map[types.UID]T{}}
}

// Changed gets a token when a Snapshot would be another one than when the last token was taken.
func (m *Mirror[T]) Changed() <-chan struct{} { return m.changed }

// Snapshot returns the objects as last seen, by namespace and name; synced is false until the first
// list was complete. err is why the copy may be old at the moment, nil if it is followed.
func (m *Mirror[T]) Snapshot() (items []T, synced bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items = slices.SortedFunc(maps.Values(m.items), func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return items, m.synced, m.err
}

// Run follows the objects until ctx ends, through every error.
func (m *Mirror[T]) Run(ctx context.Context) {
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
		// Up to one and a half of it, so that nodes that failed together do not come back together.
		delay += time.Duration(rand.Float64() * float64(delay) / 2)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

// follow lists and then watches from there until the watch cannot be continued; proven says that it
// had gone well for some time.
func (m *Mirror[T]) follow(ctx context.Context) (proven bool, err error) {
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

func (m *Mirror[T]) relist(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
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
func (m *Mirror[T]) watchOnce(ctx context.Context, version string) (string, error) {
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

func (m *Mirror[T]) apply(what watch.EventType, item T) {
	m.update(func() {
		if what == watch.Deleted {
			delete(m.items, item.GetUID())
			return
		}
		m.items[item.GetUID()] = item
	})
}

func (m *Mirror[T]) failed(err error) {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	m.update(func() { m.err = err })
}

func (m *Mirror[T]) update(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
