package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/mirror"
	"github.com/kured-host/kured/internal/status"
)

// bootSlack is how much later than its containers a boot may seem to have begun: at boot the clock can be wrong, and is set
// right later.
const bootSlack = 5 * time.Minute

// AwaitDaemonSets waits until every DaemonSet pod that is bound to this Node is Ready, through any API outage. It calls
// report, if not nil, with what is missing, as AwaitReadyReport does. It returns nil, or when ctx ends its error.
//
// What the API server shows of a pod right after a boot is left over from before, until the kubelet has looked at the pod.
// So a container has to have been started in this boot as well (WithBootTime, give or take five minutes; without it that is not
// asked). A pod that a DaemonSet has not made yet, or that is not bound yet, is not waited for: a kubelet may not list
// DaemonSets.
func (n *Node) AwaitDaemonSets(ctx context.Context, report func(missing string)) error {
	return await(ctx, mirror.OfPods(n.client, n.name), "the DaemonSet pods are", report,
		func(pods []*corev1.Pod, synced bool, trouble error) (string, <-chan time.Time) {
			return n.missingPods(pods, synced, trouble), nil
		})
}

// missingPods is the rule: what keeps the DaemonSet pods from being proven Ready, "" if nothing does.
func (n *Node) missingPods(pods []*corev1.Pod, synced bool, trouble error) string {
	switch {
	case trouble != nil:
		return "the pods cannot be watched: " + status.Clean(trouble.Error(), maxDetail)
	case !synced:
		return unanswered
	}
	all := 0
	var missing []string
	for _, pod := range pods {
		if !ofDaemonSet(pod) {
			continue
		}
		all++
		if why := unready(pod, n.booted); why != "" {
			missing = append(missing, fmt.Sprintf("%s/%s %s", pod.Namespace, pod.Name, why))
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %s not Ready: %s", len(missing), status.Count(all, "DaemonSet pod"), status.FirstThree(missing, "pod"))
}

func ofDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// unready says for people why a pod is not Ready in the boot that began then, "" if it is. Nothing was before the zero time.
func unready(pod *corev1.Pod, booted time.Time) string {
	if pod.DeletionTimestamp != nil {
		return "is being deleted"
	}
	ready := false
	why := fmt.Sprintf("is %s", safeText(string(pod.Status.Phase)))
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.PodReady {
			continue
		}
		if ready = c.Status == corev1.ConditionTrue; !ready && c.Message != "" {
			why += ": " + safeText(c.Message)
		}
	}
	if !ready {
		return why
	}
	for _, c := range pod.Status.ContainerStatuses {
		if running := c.State.Running; running != nil && running.StartedAt.Time.Before(booted.Add(-bootSlack)) {
			return "still shows what it was before this boot"
		}
	}
	return ""
}
