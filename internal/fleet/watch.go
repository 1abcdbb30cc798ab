package fleet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

const (
	showEvery = time.Second      // at most
	pollEvery = 5 * time.Second  // where watching is refused, as it is with a node's credential
	readAgain = 30 * time.Second // the policy, which nobody watches
	maxRetry  = 30 * time.Second // between two tries while the API server does not answer
)

// Watch shows the fleet now and after each change, at most once a second, until ctx ends, which is no error. A fleet
// that cannot be read at the start is one; later it is shown as it was, with the error in Stale, until it can be read again.
// An error of show ends it.
func (f Fleet) Watch(ctx context.Context, show func(View) error) error {
	var last View
	for failures := 0; ; {
		var refused error // by who shows it
		err := f.follow(ctx, func(v View) error {
			failures, last = 0, v
			refused = show(v)
			return refused
		})
		switch {
		case refused != nil:
			return refused
		case ctx.Err() != nil:
			return nil
		case err != nil && last.At.IsZero():
			return err
		case err != nil:
			failures++
			last.Stale = status.Clean(err.Error(), maxText)
			if err := show(last); err != nil {
				return err
			}
		}
		if !sleep(ctx, min(maxRetry, showEvery<<min(failures, 5))) {
			return nil
		}
	}
}

// follow reads the fleet and shows it with every change, until a watch ends: then all is to be read anew.
func (f Fleet) follow(ctx context.Context, show func(View) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := f.read(ctx)
	if err != nil {
		return err
	}
	tell := func() error {
		v, err := f.view(ctx, s)
		if err != nil {
			return err
		}
		return show(v)
	}
	if err := tell(); err != nil {
		return err
	}
	nodes, err := f.Client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{LabelSelector: f.Selector, ResourceVersion: s.version, AllowWatchBookmarks: true})
	if apierrors.IsForbidden(err) {
		sleep(ctx, pollEvery)
		return nil
	}
	if err != nil {
		return err
	}
	defer nodes.Stop()
	locks, err := f.Lock.Watch(ctx, s.lock.Revision)
	if apierrors.IsForbidden(err) {
		sleep(ctx, pollEvery)
		return nil
	}
	if err != nil {
		return err
	}
	return s.keep(ctx, nodes.ResultChan(), locks, tell)
}

// keep follows what is seen and has it shown after a change, at most once a second, until a watch ends.
func (s *seen) keep(ctx context.Context, nodes <-chan watch.Event, locks <-chan lock.Snapshot, show func() error) error {
	again := time.NewTicker(readAgain)
	defer again.Stop()
	var due <-chan time.Time // when the change is shown that has come
	shown := time.Now()
	changed := func() {
		if due == nil {
			due = time.After(showEvery - time.Since(shown))
		}
	}
	for {
		select {
		case event, open := <-nodes:
			if !open || event.Type == watch.Error {
				return nil
			}
			if s.take(event) {
				changed()
			}
		case snap, open := <-locks:
			if !open {
				return nil
			}
			s.lock = snap
			changed()
		case <-again.C:
			changed()
		case <-due:
			if err := show(); err != nil {
				return err
			}
			shown, due = time.Now(), nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take adds a change of a Node. It reports whether anything that is shown is another one: a kubelet's heartbeat is not.
func (s *seen) take(event watch.Event) bool {
	obj, ok := event.Object.(*corev1.Node)
	if !ok || event.Type == watch.Bookmark {
		return false
	}
	before, there := s.members[obj.Name]
	if event.Type == watch.Deleted {
		delete(s.members, obj.Name)
		return there
	}
	s.members[obj.Name] = memberOf(obj)
	return !there || before != s.members[obj.Name]
}

// sleep waits; it is false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
