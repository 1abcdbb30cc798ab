package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// PauseAnnotation on a Node, set by an admin, keeps kured there from rebooting. Its text is what the gate for it reads.
const PauseAnnotation = "kured.dev/pause"

// pauseOf returns the text of PauseAnnotation, nil if there is none.
func pauseOf(obj *corev1.Node) *string {
	text, there := obj.Annotations[PauseAnnotation]
	if !there {
		return nil
	}
	text = safeText(text)
	return &text
}

// EventReason is the reason of the Event that tells of a release.
const EventReason = "LockReleased"

// Notes is what a person who releases a node's lock leaves on its Node. It is written with that person's
// credential; a node's own may not touch another Node.
type Notes struct {
	Client kubernetes.Interface
}

// Leave writes who releases the lock, and why, into ReleasedAnnotation of the Node called node. boot is
// the boot id of the entry that is released, empty if it cannot be read. found is false, without an
// error, when there is no such Node.
func (n Notes) Leave(ctx context.Context, node, by, why, boot string, at time.Time) (found bool, err error) {
	return n.annotate(ctx, node, Release{By: by, Why: why, At: at, Boot: boot}.encode())
}

// Withdraw removes what Leave wrote. It is no error when nothing is there.
func (n Notes) Withdraw(ctx context.Context, node string) error {
	_, err := n.annotate(ctx, node, nil)
	return err
}

// annotate sets the annotation, or removes it (nil). A merge patch of this one key needs no precondition.
func (n Notes) annotate(ctx context.Context, node string, value any) (found bool, err error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{ReleasedAnnotation: value}}})
	if err != nil {
		return false, fmt.Errorf("encode annotation: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = n.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kured"})
	switch {
	case gone(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("annotate node %s: %w", node, err)
	}
	return true, nil
}

// Record writes an Event about the Node, where kubectl describe node shows it: it asks for the Events of
// every namespace that are about this kind and name with the Node's UID or, as the kubelet does it, with
// its name for a UID. The latter needs no look at the Node, which may be gone. Events without a namespace
// of what they are about belong to "default" (k8s.io/kubernetes/pkg/apis/core/validation/events.go).
func (n Notes) Record(ctx context.Context, node, message string, at time.Time) error {
	when := metav1.NewTime(at)
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "kured-lock-", Namespace: metav1.NamespaceDefault},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)},
		Type:           corev1.EventTypeWarning,
		Reason:         EventReason,
		Message:        message,
		Source:         corev1.EventSource{Component: "kured"},
		FirstTimestamp: when, LastTimestamp: when, Count: 1,
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := n.Client.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{FieldManager: "kured"}); err != nil {
		return fmt.Errorf("record event on node %s: %w", node, err)
	}
	return nil
}
