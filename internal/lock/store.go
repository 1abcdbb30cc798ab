package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

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

// ConfigMap is the Store and the Rules that clusters use.
type ConfigMap struct {
	Client     kubernetes.Interface
	Namespace  string
	Name       string
	PolicyName string // the policy ConfigMap in the same namespace; "": none
}

// burialLabel marks a write that removes entries of nodes that are gone. The
// admission policy proves such a write against the Node objects; ordinary
// writes do not carry it and so do not pay for that.
const burialLabel = "kured.dev/burial"

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
	burial := map[string]*string{burialLabel: nil}
	if e.Burial {
		yes := "true"
		burial[burialLabel] = &yes
	}
	data := map[string]*string{}
	for _, key := range e.Remove {
		data[key] = nil
	}
	for key, value := range e.Set {
		data[key] = &value
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": revision, "labels": burial},
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

// Policy reads the policy ConfigMap. There need not be one.
func (c ConfigMap) Policy(ctx context.Context) (Policy, error) {
	if c.PolicyName == "" {
		return Policy{}, nil
	}
	cm, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Get(ctx, c.PolicyName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && answered(err):
		return Policy{}, nil
	case err != nil:
		return Policy{}, fmt.Errorf("read policy %s/%s: %w", c.Namespace, c.PolicyName, err)
	}
	return ParsePolicy(whole(cm), c.Name), nil
}

// Enforced asks the API server, as a dry run, to store an entry that its
// admission policy must refuse.
func (c ConfigMap) Enforced(ctx context.Context, node string) (bool, error) {
	patch, err := json.Marshal(map[string]any{"data": map[string]string{waiterPrefix + node: "a dry run of kured: is this refused?"}})
	if err != nil {
		return false, fmt.Errorf("encode lock patch: %w", err)
	}
	_, err = c.Client.CoreV1().ConfigMaps(c.Namespace).Patch(ctx, c.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: "kured", DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
		return false, nil
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		if strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
			return true, nil
		}
	}
	return false, c.wrap("try out", err)
}

func snapshot(cm *corev1.ConfigMap) Snapshot {
	return Snapshot{State: Parse(whole(cm)), Revision: cm.ResourceVersion}
}

// whole is the data with the keys of binaryData, where people can put what is
// no UTF-8. In the lock they are damage that holds.
func whole(cm *corev1.ConfigMap) map[string]string {
	data := cm.Data
	for key := range cm.BinaryData {
		if data == nil {
			data = map[string]string{}
		}
		data[key] = "(binary)"
	}
	return data
}

// wrap turns API errors into this package's and names the object.
func (c ConfigMap) wrap(verb string, err error) error {
	switch {
	case apierrors.IsConflict(err) && answered(err):
		err = ErrConflict
	case apierrors.IsNotFound(err) && answered(err):
		err = fmt.Errorf("%w (\"kured manifests\" prints what creates it)", ErrMissing)
	}
	return fmt.Errorf("%s lock %s/%s: %w", verb, c.Namespace, c.Name, err)
}

// refusal reports whether the API server said no, so that nothing was written.
func refusal(err error) bool {
	return answered(err) && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err) ||
		apierrors.IsBadRequest(err) || errors.Is(err, ErrMissing))
}

// answered reports that an error is the API server's own, and not the page of
// a proxy or load balancer, which knows nothing of our objects.
func answered(err error) bool {
	return !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
