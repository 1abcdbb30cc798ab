package mirror

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// OfPods returns a mirror of the pods that are bound to the Node of that name. It is empty until Run runs.
func OfPods(client kubernetes.Interface, node string) *Mirror[*corev1.Pod] {
	here := fields.OneTermEqualSelector("spec.nodeName", node).String()
	return newMirror(
		func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Pod, string, error) {
			opts.FieldSelector = here
			list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = here
			return client.CoreV1().Pods(metav1.NamespaceAll).Watch(ctx, opts)
		})
}

// OfNode returns a mirror of the Node of that name: none or one, or for a moment two when it was made anew. It is empty until
// Run runs.
func OfNode(client kubernetes.Interface, name string) *Mirror[*corev1.Node] {
	self := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	return newMirror(
		func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Node, string, error) {
			opts.FieldSelector = self
			list, err := client.CoreV1().Nodes().List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = self
			return client.CoreV1().Nodes().Watch(ctx, opts)
		})
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
