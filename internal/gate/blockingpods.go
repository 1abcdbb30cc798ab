package gate

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/kured-host/kured/internal/status"
)

// PodLister lists pods of all namespaces: CoreV1().Pods("") of client-go.
type PodLister interface {
	List(ctx context.Context, options metav1.ListOptions) (*corev1.PodList, error)
}

// BlockingPods is open while no pod on this node has certain labels and is
// still at work: it is neither Succeeded nor Failed.
type BlockingPods struct {
	Pods      PodLister
	Node      string
	Selectors []string // label selectors; a pod that one of them selects blocks
}

// podsListed bounds the pods of one answer. More than the names that are told
// serve only to be counted.
const podsListed = 50

// Name implements Gate.
func (BlockingPods) Name() status.Gate { return status.GateBlockingPods }

// Check lists the pods, with one request for each selector. A kubelet's
// credential may do that only with the field selector for its own node
// (AuthorizeNodeWithSelectors, KEP-4601).
func (g BlockingPods) Check(ctx context.Context, _ Moment) Verdict {
	var names []string
	var more bool // than one answer holds
	seen := map[string]bool{}
	for _, selector := range g.Selectors {
		list, err := g.Pods.List(ctx, metav1.ListOptions{
			LabelSelector: selector,
			FieldSelector: fields.AndSelectors(
				fields.OneTermEqualSelector("spec.nodeName", g.Node),
				fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
				fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
			).String(),
			Limit: podsListed,
		})
		if err != nil {
			return Verdict{Reason: status.PodsUnreadable, Detail: fmt.Sprintf("pods %s on this node cannot be listed: %s", status.Clean(selector, longest), status.Clean(err.Error(), longest))}
		}
		for _, pod := range list.Items {
			name := status.Clean(pod.Namespace+"/"+pod.Name, longest)
			if finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed; finished || seen[name] {
				continue
			}
			seen[name] = true
			names = append(names, name)
		}
		if list.Continue != "" {
			more = true
		}
	}
	if len(names) == 0 && !more {
		return Verdict{Open: true}
	}
	slices.Sort(names) // the same pods are the same verdict
	detail := "waits for pods: " + status.Few(names, most)
	switch {
	case len(names) == 0: // the server lists finished ones, although it was asked not to
		detail = "waits for pods of which the first answer names none"
	case more:
		detail += ", or even more"
	}
	return Verdict{Reason: status.BlockingPods, Detail: detail}
}
