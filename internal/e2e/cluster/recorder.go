package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// LockNamespace and LockName name the lock ConfigMap.
const (
	LockNamespace = "kube-system"
	LockName      = "kured-lock"
)

// Recorder keeps every version of all Nodes and of the lock. Each of the two kinds is in its true order;
// between the kinds the order is that of arrival, which may be off by the time an event travels.
type Recorder struct {
	client kubernetes.Interface

	mu       sync.Mutex
	versions []Version
	seen     map[string]string // kind and name -> resourceVersion of the newest version
	changed  chan struct{}     // closed and replaced with every version
}

// Position is a moment in a Recorder's record.
type Position int

// Record starts a recorder that works until ctx ends, and returns when it knows the present state.
func Record(ctx context.Context, client kubernetes.Interface) (*Recorder, error) {
	r := &Recorder{client: client, seen: make(map[string]string), changed: make(chan struct{})}
	nodes := stream{
		kind: "Node",
		list: func(ctx context.Context) (runtime.Object, error) {
			return client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		},
		watch: client.CoreV1().Nodes().Watch,
	}
	onlyLock := fields.OneTermEqualSelector("metadata.name", LockName).String()
	lock := stream{
		kind: "ConfigMap",
		list: func(ctx context.Context) (runtime.Object, error) {
			return client.CoreV1().ConfigMaps(LockNamespace).List(ctx, metav1.ListOptions{FieldSelector: onlyLock})
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = onlyLock
			return client.CoreV1().ConfigMaps(LockNamespace).Watch(ctx, o)
		},
	}
	for _, s := range []stream{nodes, lock} {
		version, err := r.relist(ctx, s, false)
		if err != nil {
			return nil, fmt.Errorf("record %ss: %w", s.kind, err)
		}
		go r.follow(ctx, s, version)
	}
	return r, nil
}

// stream is one kind of objects to record.
type stream struct {
	kind  string
	list  func(context.Context) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// follow watches from a version on, through outages of the API server. The server forgets old versions when
// it restarts; then a new list has to do, and the record says so.
func (r *Recorder) follow(ctx context.Context, s stream, version string) {
	for ctx.Err() == nil {
		var err error
		version, err = r.watchOnce(ctx, s, version)
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			if listed, err := r.relist(ctx, s, true); err == nil {
				version = listed
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watchOnce follows one watch and returns the last version it saw.
func (r *Recorder) watchOnce(ctx context.Context, s stream, version string) (string, error) {
	w, err := s.watch(ctx, metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true})
	if err != nil {
		return version, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Error:
			return version, apierrors.FromObject(event.Object)
		case watch.Bookmark:
		default:
			r.add(event.Object, event.Type == watch.Deleted, false)
		}
		version = event.Object.(metav1.Object).GetResourceVersion()
	}
	return version, nil
}

// relist records what a list shows and the record does not.
func (r *Recorder) relist(ctx context.Context, s stream, relisted bool) (version string, err error) {
	list, err := s.list(ctx)
	if err != nil {
		return "", err
	}
	gone := r.known(s.kind)
	switch list := list.(type) {
	case *corev1.NodeList:
		for i := range list.Items {
			r.add(&list.Items[i], false, relisted)
			delete(gone, list.Items[i].Name)
		}
		version = list.ResourceVersion
	case *corev1.ConfigMapList:
		for i := range list.Items {
			r.add(&list.Items[i], false, relisted)
			delete(gone, list.Items[i].Name)
		}
		version = list.ResourceVersion
	}
	for _, object := range gone {
		r.add(object, true, relisted)
	}
	return version, nil
}

// known returns the present objects of a kind by name.
func (r *Recorder) known(kind string) map[string]runtime.Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	objects := make(map[string]runtime.Object)
	for _, v := range r.versions {
		var object metav1.Object
		switch {
		case kind == "Node" && v.Node != nil:
			object = v.Node
		case kind == "ConfigMap" && v.Lock != nil:
			object = v.Lock
		default:
			continue
		}
		if delete(objects, object.GetName()); !v.Deleted {
			objects[object.GetName()] = object.(runtime.Object)
		}
	}
	return objects
}

func (r *Recorder) add(object runtime.Object, deleted, relisted bool) {
	v := Version{At: time.Now(), Deleted: deleted, Relisted: relisted}
	var meta metav1.Object
	switch o := object.(type) {
	case *corev1.Node:
		v.Node, meta = o, o
	case *corev1.ConfigMap:
		v.Lock, meta = o, o
	default:
		return
	}
	key := fmt.Sprintf("%T %s", object, meta.GetName())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[key] == meta.GetResourceVersion() && !deleted {
		return // a list that showed what was known
	}
	r.seen[key] = meta.GetResourceVersion()
	r.versions = append(r.versions, v)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Now is the present position.
func (r *Recorder) Now() Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Position(len(r.versions))
}

// Since returns what happened from a position on.
func (r *Recorder) Since(from Position) History {
	r.mu.Lock()
	versions := r.versions[:len(r.versions):len(r.versions)]
	r.mu.Unlock()
	state := State{Nodes: make(map[string]*corev1.Node)}
	for _, v := range versions[:from] {
		state = state.apply(v)
	}
	return History{Before: state, Versions: versions[from:]}
}

// State is the present state.
func (r *Recorder) State() State { return r.Since(r.Now()).Before }

// Await waits for a state that meets the condition: the one at the position, or any later one, however short
// it lasts. It returns the position right after the version that brought it.
func (r *Recorder) Await(ctx context.Context, from Position, what string, condition func(State) bool) (Position, error) {
	state, at := r.Since(from).Before, from
	for !condition(state) {
		r.mu.Lock()
		fresh, changed := r.versions[at:len(r.versions):len(r.versions)], r.changed
		r.mu.Unlock()
		if len(fresh) > 0 {
			state = state.apply(fresh[0])
			at++
			continue
		}
		select {
		case <-ctx.Done():
			return at, fmt.Errorf("waited for %s: %w; the state is: %s", what, context.Cause(ctx), state)
		case <-changed:
		}
	}
	return at, nil
}

// Sync waits until the record holds what the API server shows now.
func (r *Recorder) Sync(ctx context.Context) error {
	want := make(map[string]string)
	list, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("sync the record: %w", err)
	}
	for i := range list.Items {
		want[fmt.Sprintf("%T %s", &list.Items[i], list.Items[i].Name)] = list.Items[i].ResourceVersion
	}
	lock, err := r.client.CoreV1().ConfigMaps(LockNamespace).Get(ctx, LockName, metav1.GetOptions{})
	if err == nil {
		want[fmt.Sprintf("%T %s", lock, lock.Name)] = lock.ResourceVersion
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("sync the record: %w", err)
	}
	for {
		r.mu.Lock()
		changed := r.changed
		maps.DeleteFunc(want, func(key, version string) bool { return !older(r.seen[key], version) })
		r.mu.Unlock()
		if len(want) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("sync the record: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}

// older compares resource versions, which are decimal numbers (KEP-5504).
func older(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }
