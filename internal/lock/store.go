package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// ErrConflict means that somebody else wrote since the snapshot was read;
// nothing of ours was written.
var ErrConflict = errors.New("the lock object changed since it was read")

// ErrMissing means that the lock ConfigMap does not exist.
var ErrMissing = errors.New("the lock object does not exist")

// Snapshot is the lock object at one version.
type Snapshot struct {
	State    State
	Revision string // resourceVersion: opaque, equal means the same version
}

// Store is the lock object: read, compare-and-swap, watch.
type Store interface {
	// Read returns the newest version (a quorum read).
	Read(ctx context.Context) (Snapshot, error)
	// Write applies the edit if the object is still at the given revision and
	// returns the new version; otherwise the error is ErrConflict.
	Write(ctx context.Context, revision string, e Edit) (Snapshot, error)
	// Watch delivers each version after the revision until the context or the
	// watch ends; then the channel is closed.
	Watch(ctx context.Context, revision string) (<-chan Snapshot, error)
}

// ConfigMap is the Store that clusters use.
type ConfigMap struct {
	Client    kubernetes.Interface
	Namespace string
	Name      string
}

// Read gets the ConfigMap without a resourceVersion, which the API server
// answers from etcd with quorum
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list).
func (c ConfigMap) Read(ctx context.Context) (Snapshot, error) {
	cm, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Get(ctx, c.Name, metav1.GetOptions{})
	if err != nil {
		return Snapshot{}, c.wrap("read", err)
	}
	return snapshot(cm), nil
}

// Write sends a JSON merge patch that carries the resourceVersion: the API
// server refuses it when the object has changed, and what the edit does not
// name is left alone.
func (c ConfigMap) Write(ctx context.Context, revision string, e Edit) (Snapshot, error) {
	if revision == "" {
		return Snapshot{}, errors.New("write lock: no revision to compare with")
	}
	data := map[string]*string{}
	for _, key := range e.Remove {
		data[key] = nil
	}
	for key, value := range e.Set {
		data[key] = &value
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": revision},
		"data":     data,
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("encode lock patch: %w", err)
	}
	cm, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Patch(ctx, c.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kured"})
	if err != nil {
		return Snapshot{}, c.wrap("write", err)
	}
	return snapshot(cm), nil
}

// Watch watches the one ConfigMap by name.
func (c ConfigMap) Watch(ctx context.Context, revision string) (<-chan Snapshot, error) {
	w, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector:       fields.OneTermEqualSelector(metav1.ObjectNameField, c.Name).String(),
		ResourceVersion:     revision,
		AllowWatchBookmarks: true,
	})
	if err != nil {
		return nil, c.wrap("watch", err)
	}
	versions := make(chan Snapshot)
	go func() {
		defer close(versions)
		defer w.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event, ok := <-w.ResultChan():
				if !ok || event.Type == watch.Deleted || event.Type == watch.Error {
					return // the reader reads anew and learns what happened
				}
				cm, isMap := event.Object.(*corev1.ConfigMap)
				if !isMap || event.Type == watch.Bookmark {
					continue
				}
				select {
				case versions <- snapshot(cm):
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return versions, nil
}

func snapshot(cm *corev1.ConfigMap) Snapshot {
	data := cm.Data
	for key := range cm.BinaryData { // never ours: damage that holds
		if data == nil {
			data = map[string]string{}
		}
		data[key] = "(binary)"
	}
	return Snapshot{State: Parse(data), Revision: cm.ResourceVersion}
}

// wrap turns API errors into this package's and names the object.
func (c ConfigMap) wrap(verb string, err error) error {
	switch {
	case apierrors.IsConflict(err):
		err = ErrConflict
	case apierrors.IsNotFound(err):
		err = fmt.Errorf("%w (create it with packaging/kubernetes/kured.yaml)", ErrMissing)
	}
	return fmt.Errorf("%s lock %s/%s: %w", verb, c.Namespace, c.Name, err)
}
