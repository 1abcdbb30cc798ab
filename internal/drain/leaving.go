package drain

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/status"
)

// LeavingPod is a pod that a drain would move away.
type LeavingPod struct {
	Namespace, Name string
	Owner           string        // kind and name of its controller; empty: nobody makes it anew
	Grace           time.Duration // that it gets to stop: its own, or that of Options.GracePeriod
	Terminating     bool          // it is being deleted already
}

// leavingPod tells of a pod that grace seconds are given to stop; negative: its own.
func leavingPod(pod *corev1.Pod, grace int64) LeavingPod {
	out := LeavingPod{Namespace: pod.Namespace, Name: pod.Name, Terminating: pod.DeletionTimestamp != nil}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		out.Owner = status.Clean(owner.Kind+" "+owner.Name, maxDetail)
	}
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	switch {
	case out.Terminating && pod.DeletionGracePeriodSeconds != nil && (grace < 0 || *pod.DeletionGracePeriodSeconds <= grace):
		seconds = *pod.DeletionGracePeriodSeconds // an eviction could only shorten it
	case grace >= 0:
		seconds = grace
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	out.Grace = inSeconds(seconds)
	return out
}
