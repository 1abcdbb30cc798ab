package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// AwaitReady waits until the kubelet of this boot reports the Node Ready, through any API outage.
// The kubelet writes the condition and its boot id in one status update, so Ready together with
// this boot's id is never left over from the boot before.
//
// It returns nil, or when ctx ends its error, saying what was missing last.
func (n *Node) AwaitReady(ctx context.Context) error {
	return n.AwaitReadyReport(ctx, nil)
}

// AwaitReadyReport is AwaitReady that calls report, if not nil, with what is still missing: after
// the first answer or failure and each time it changes.
func (n *Node) AwaitReadyReport(ctx context.Context, report func(missing string)) error {
	ctx, cancel := context.WithCancel(ctx)
	nodes := newMirror(n.listSelf, n.watchSelf)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		nodes.run(ctx)
	}()
	defer func() { cancel(); <-followed }()

	missing := ""
	for {
		objs, synced, trouble := nodes.snapshot()
		ready, now := n.readiness(objs, synced, trouble)
		if ready {
			return nil
		}
		if answered := synced || trouble != nil; answered && now != missing && report != nil {
			report(now)
		}
		missing = now
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s is not Ready in this boot: %s: %w", n.name, missing, context.Cause(ctx))
		case <-nodes.changed:
		}
	}
}

// readiness is the rule: Ready, reported by the kubelet of this boot. Otherwise missing says why not.
func (n *Node) readiness(nodes []*corev1.Node, synced bool, trouble error) (ready bool, missing string) {
	switch {
	case trouble != nil:
		return false, fmt.Sprintf("the Node cannot be watched: %s", oneLine(trouble.Error()))
	case !synced:
		return false, "the API server has not answered yet"
	case len(nodes) == 0:
		return false, "the cluster has no Node of this name"
	}
	// After the Node was deleted and made anew the old one may still be here for a moment.
	obj := nodes[len(nodes)-1]
	for _, other := range nodes {
		if other.CreationTimestamp.After(obj.CreationTimestamp.Time) {
			obj = other
		}
	}
	state := stateOf(obj)
	switch {
	case state.BootID == "":
		return false, "the kubelet has not reported a boot id yet"
	case state.BootID != n.bootID:
		return false, fmt.Sprintf("the kubelet still reports boot id %s, this boot is %s", state.BootID, n.bootID)
	case !state.Ready:
		return false, state.ReadyDetail
	}
	return true, ""
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
		for _, s := range []string{c.Reason, oneLine(c.Message)} {
			if s != "" {
				detail += ": " + s
			}
		}
		return false, detail
	}
	return false, "the kubelet has not reported the condition Ready yet"
}

func (n *Node) listSelf(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Node, string, error) {
	opts.FieldSelector = n.self()
	list, err := n.client.CoreV1().Nodes().List(ctx, opts)
	if err != nil {
		return nil, "", err
	}
	return pointers(list.Items), list.ResourceVersion, nil
}

func (n *Node) watchSelf(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.FieldSelector = n.self()
	return n.client.CoreV1().Nodes().Watch(ctx, opts)
}

func (n *Node) self() string {
	return fields.OneTermEqualSelector(metav1.ObjectNameField, n.name).String()
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
