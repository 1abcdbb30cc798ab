package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/mirror"
	"github.com/kured-host/kured/internal/status"
)

// AwaitReadyReport waits until the kubelet of this boot reports the Node Ready, through any API outage.
// The kubelet writes the condition and its boot id in one status update, so Ready together with
// this boot's id is never left over from the boot before.
//
// It calls report, if not nil, with what is still missing: after the first answer or failure and each time it changes. It
// returns nil, or when ctx ends its error, saying what was missing last.
func (n *Node) AwaitReadyReport(ctx context.Context, report func(missing string)) error {
	return n.awaitSelf(ctx, report, func(_ *corev1.Node, missing string) (string, <-chan time.Time) { return missing, nil })
}

// AwaitStillReady waits until the Node has been Ready in this boot for a whole settle time without a break; after a break the
// time begins anew. It is measured by our own clock from when the Node was first seen so. While the Node cannot be watched the
// time goes on, but it does not end: then the condition's lastTransitionTime tells whether there was a break that nobody
// saw. It calls report and returns as AwaitReadyReport does.
func (n *Node) AwaitStillReady(ctx context.Context, settle time.Duration, report func(missing string)) error {
	var (
		seen  types.UID   // of the Node that is being proven
		since metav1.Time // lastTransitionTime of its condition
		over  time.Time   // zero: there was a break
	)
	return n.awaitSelf(ctx, report, func(obj *corev1.Node, missing string) (string, <-chan time.Time) {
		if obj == nil { // nothing is known just now
			return missing, nil
		}
		if missing != "" {
			over = time.Time{}
			return missing, nil
		}
		if now := conditionOf(obj, corev1.NodeReady).LastTransitionTime; over.IsZero() || obj.UID != seen || !now.Equal(&since) {
			seen, since, over = obj.UID, now, time.Now().Add(settle)
		}
		left := time.Until(over)
		if left <= 0 {
			return "", nil
		}
		return fmt.Sprintf("has to stay Ready for %s", settle), time.After(left)
	})
}

// awaitSelf waits by a watch of our Node until proven says that nothing is missing. proven is given the Node and what keeps it
// from being Ready in this boot; no Node where nothing is known of it at the moment.
func (n *Node) awaitSelf(ctx context.Context, report func(string), proven func(obj *corev1.Node, missing string) (string, <-chan time.Time)) error {
	return await(ctx, mirror.OfNode(n.client, n.name), "node "+n.name+" is", report,
		func(nodes []*corev1.Node, synced bool, trouble error) (string, <-chan time.Time) {
			return proven(n.readiness(nodes, synced, trouble))
		})
}

// unanswered is what is missing before the API server has said anything. It is not reported.
const unanswered = "the API server has not answered yet"

// await follows objects until check finds nothing missing in them. check is asked after each change, and when the time has
// come that it returned last.
func await[T metav1.Object](ctx context.Context, objects *mirror.Mirror[T], what string, report func(missing string),
	check func(items []T, synced bool, trouble error) (missing string, again <-chan time.Time),
) error {
	ctx, cancel := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		objects.Run(ctx)
	}()
	defer func() { cancel(); <-followed }()

	told := ""
	for {
		missing, again := check(objects.Snapshot())
		if missing == "" {
			return nil
		}
		if missing != unanswered && missing != told && report != nil {
			report(missing)
		}
		told = missing
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s not Ready in this boot: %s: %w", what, missing, context.Cause(ctx))
		case <-objects.Changed():
		case <-again:
		}
	}
}

// readiness is the rule: Ready, reported by the kubelet of this boot. Otherwise missing says why not. obj is the Node that
// was looked at, nil if it is not known how it is now.
func (n *Node) readiness(nodes []*corev1.Node, synced bool, trouble error) (obj *corev1.Node, missing string) {
	switch {
	case trouble != nil:
		return nil, fmt.Sprintf("the Node cannot be watched: %s", status.Clean(trouble.Error(), maxDetail))
	case !synced:
		return nil, unanswered
	case len(nodes) == 0:
		return nil, "the cluster has no Node of this name"
	}
	// After the Node was deleted and made anew the old one may still be here for a moment.
	obj = nodes[len(nodes)-1]
	for _, other := range nodes {
		if other.CreationTimestamp.After(obj.CreationTimestamp.Time) {
			obj = other
		}
	}
	state := stateOf(obj)
	switch {
	case state.BootID == "":
		return obj, "the kubelet has not reported a boot id yet"
	case state.BootID != n.bootID:
		return obj, fmt.Sprintf("the kubelet still reports boot id %s, this boot is %s", state.BootID, n.bootID)
	case !state.Ready:
		return obj, state.ReadyDetail
	}
	return obj, ""
}

// readyCondition reads the condition Ready, and says for people why it is not True.
func readyCondition(obj *corev1.Node) (ready bool, detail string) {
	for _, c := range obj.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return true, ""
		}
		detail = fmt.Sprintf("Ready is %s", c.Status)
		for _, s := range []string{c.Reason, status.Clean(c.Message, maxDetail)} {
			if s != "" {
				detail += ": " + s
			}
		}
		return false, detail
	}
	return false, "the kubelet has not reported the condition Ready yet"
}
