package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	correlation "k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/record/util"
	"k8s.io/utils/clock"

	"github.com/kured-host/kured/internal/status"
)

// Chronicle shows others how far kured is: by StatusAnnotation and by Events about the Node. It is for others alone.
type Chronicle struct {
	Node     *Node
	Annotate bool      // false: an announcement that is there is taken off
	Recorder *Recorder // nil: no Events
	Version  string    // of kured
}

// Announce makes the annotation say s, or takes it off if s has no phase; rebooted is when a reboot was verified, zero if that is not known here. was and is are
// those of Node.Announce.
func (c Chronicle) Announce(ctx context.Context, s status.Status, rebooted time.Time, was string) (is string, err error) {
	switch {
	case c.Annotate && s.Phase != "":
		return c.Node.Announce(ctx, announce(s, rebooted, c.Version), was)
	case was != "":
		if err := c.Node.Retract(ctx); err != nil {
			return was, err
		}
	}
	return "", nil
}

// Record writes an Event of the phase and the reason that s has since s.Since.
func (c Chronicle) Record(ctx context.Context, s status.Status) error {
	if c.Recorder == nil {
		return nil
	}
	return c.Recorder.record(ctx, c.Node.client, event(c.Node.name, s))
}

// Recorder writes Events about the Node, where kubectl describe node shows them, so that repeated ones are counted and not
// piled up (client-go's EventCorrelator: the same one again raises its count, more than ten in ten minutes that differ only in their
// message become one, and after 25 there is one more each five minutes). It has no goroutine. The zero Recorder is ready, and
// is for all connections of a process.
type Recorder struct {
	mu         sync.Mutex
	correlator *correlation.EventCorrelator // made with the first Event
}

// remembered is how many different Events are recognized when they come again.
const remembered = 128

func (r *Recorder) record(ctx context.Context, client kubernetes.Interface, e *corev1.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.correlator == nil {
		r.correlator = correlation.NewEventCorrelatorWithOptions(correlation.CorrelatorOptions{LRUCacheSize: remembered, Clock: clock.RealClock{}})
	}
	result, err := r.correlator.EventCorrelate(e)
	if err != nil {
		return fmt.Errorf("correlate event %s: %w", e.Reason, err)
	}
	if result.Skip {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	events := client.CoreV1().Events(e.Namespace)
	e = result.Event
	var stored *corev1.Event
	if e.Count > 1 {
		stored, err = events.PatchWithEventNamespaceWithContext(ctx, e, result.Patch)
	}
	if e.Count <= 1 || apierrors.IsNotFound(err) { // Events live for an hour
		e.ResourceVersion = ""
		stored, err = events.CreateWithEventNamespaceWithContext(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("record event %s about node %s: %w", e.Reason, e.InvolvedObject.Name, err)
	}
	r.correlator.UpdateState(stored)
	return nil
}

// event is the Event of a status. Its reason is the reason of the status, or else the phase, with capitals: OutsideWindow,
// Draining. For the UID of the Node see Notes.Record.
func event(node string, s status.Status) *corev1.Event {
	at := metav1.NewTime(s.Since)
	e := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: util.GenerateEventName(node, s.Since.UnixNano()), Namespace: metav1.NamespaceDefault},
		InvolvedObject:      corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)},
		Type:                corev1.EventTypeNormal,
		Reason:              ConditionReason(status.Reason(s.Phase)),
		Message:             string(s.Phase) + ": " + status.Clean(s.Detail, maxEventMessage),
		Source:              corev1.EventSource{Component: "kured", Host: node},
		ReportingController: "kured", ReportingInstance: node,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}
	if s.Reason != "" {
		e.Reason = ConditionReason(s.Reason)
	}
	if s.Detail == "" {
		e.Message = s.Phase.Help().Means
		if s.Reason != "" {
			e.Message = string(s.Phase) + ": " + s.Reason.Help().Means
		}
	}
	if troubling(s.Phase, s.Reason) {
		e.Type = corev1.EventTypeWarning
	}
	return e
}

// maxEventMessage bounds a message, in characters; the API server takes 1024 bytes
// (k8s.io/kubernetes/pkg/apis/core/validation/events.go).
const maxEventMessage = 240

// troubling reports whether a person should look: something has failed or cannot be checked. To wait, however long, is
// what kured does.
func troubling(phase status.Phase, reason status.Reason) bool {
	switch reason {
	case status.SentinelUnreadable, status.LogindUnavailable, status.RebootBudget, status.BudgetUnreadable, status.PauseUnreadable,
		status.PodsUnreadable, status.RivalUnreadable, status.AlertsUnreadable, status.QueryUnreadable, status.DrainBlocked,
		status.LockUnreadable, status.LockMissing, status.EntryForeign, status.LockLost,
		status.NodesUnreadable, status.NotInPool, status.PolicyUnreadable,
		status.APIUnreachable, status.APIForbidden, status.APIRefused, status.NodeMissing, status.NoCredential,
		status.DrainTimeout, status.DrainFailed, status.HookFailed,
		status.RebootRefused, status.RebootUnconfirmed, status.RebootUnknown, status.RebootOverdue, status.RebootCancelled,
		status.GaveUp:
		return true
	}
	return phase == status.Held
}
