package drain

import (
	"math"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How long a pod gets to stop is what its owner set, or the configuration; and
// an eviction never makes longer what runs already.
func TestLeavingPod(t *testing.T) {
	own := func(seconds int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds }
	}
	running := func(seconds int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { deleted(time.Minute)(p); p.DeletionGracePeriodSeconds = &seconds }
	}
	for _, c := range []struct {
		name  string
		pod   *corev1.Pod
		grace int64
		want  LeavingPod
	}{
		{"nothing said", testPod("shop", "web", ownedBy("ReplicaSet", "web-5d")), -1, LeavingPod{Owner: "ReplicaSet web-5d", Grace: 30 * time.Second}},
		{"its own", testPod("shop", "web", own(600)), -1, LeavingPod{Grace: 10 * time.Minute}},
		{"for ever", testPod("shop", "web", own(math.MaxInt64)), -1, LeavingPod{Grace: math.MaxInt32 * time.Second}},
		{"as configured", testPod("shop", "web", own(600)), 5, LeavingPod{Grace: 5 * time.Second}},
		{"it stops already", testPod("shop", "web", own(600), running(3)), 5, LeavingPod{Grace: 3 * time.Second, Terminating: true}},
		{"it stops already, for too long", testPod("shop", "web", running(600)), 5, LeavingPod{Grace: 5 * time.Second, Terminating: true}},
	} {
		c.want.Namespace, c.want.Name = "shop", "web"
		if got := leavingPod(c.pod, c.grace); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
