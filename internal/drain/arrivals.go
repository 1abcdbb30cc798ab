package drain

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// arrived takes in a pod that was not there in the first list; see observe.
func (p *plan) arrived(known *podPlan, pod *corev1.Pod, now time.Time) {
	if toleratesCordon(pod) {
		known.fate = fateStays
		return
	}
	if !now.Before(p.start.Add(settle)) {
		p.came++
	}
	if p.byForce() {
		known.fate = fateLeft
		return
	}
	known.generation = p.arrivals[makerOf(pod)] + 1
	switch {
	case known.generation > maxGeneration:
		known.fate = fateReturns
	case known.generation > 1:
		known.next = now.Add(evictDelay << (known.generation - 2))
	}
}

// makerOf identifies what makes pods like this one: its controller, else its own name.
func makerOf(pod *corev1.Pod) string {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		return string(owner.UID)
	}
	return pod.Namespace + "/" + pod.Name
}

func toleratesCordon(pod *corev1.Pod) bool {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	for i := range pod.Spec.Tolerations {
		if pod.Spec.Tolerations[i].ToleratesTaint(klog.Background(), &cordon, false) {
			return true
		}
	}
	return false
}
