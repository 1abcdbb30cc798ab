package drain

import (
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// systemCritical is the lowest priority of system-cluster-critical and system-node-critical, and more than a user
// can define (SystemCriticalPriority of pkg/apis/scheduling in Kubernetes).
const systemCritical int32 = 2_000_000_000

// tierOf returns which tier a pod leaves with; the lowest goes first.
func (o Order) tierOf(pod *corev1.Pod) int32 {
	priority := int32(0)
	if pod.Spec.Priority != nil {
		priority = *pod.Spec.Priority
	}
	switch o {
	case Together:
		return 0
	case ByPriority:
		return priority
	default:
		if priority >= systemCritical {
			return systemCritical
		}
		return 0
	}
}

// name says for people which pods of a plan with several tiers these are.
func (o Order) name(tier int32) string {
	switch {
	case o == Together:
		return ""
	case o == ByPriority:
		return fmt.Sprintf("of priority %d", tier)
	case tier >= systemCritical:
		return "system-critical"
	}
	return "not system-critical"
}

// turn returns the highest tier whose pods may be evicted now. A tier's turn comes when each pod of the
// tiers below is gone, stays, or is stuck: its grace period is over, so its containers were killed, and nothing
// that we could do or wait for makes it go. A pod that can still go (a budget holds it, the server
// refuses it, it still has time to stop) blocks the tiers above for as long as the drain lasts. So does a
// late pod of which it is not known yet whether it stays. A pod that comes late joins its tier:
// the evictions of those above that are not sent yet wait for it.
func (p *plan) turn(now time.Time) int32 {
	turn := int32(math.MaxInt32)
	for _, known := range p.pods {
		switch known.fate {
		case fateOpen:
		case fateLeaves:
			if p.stuck(known, now) {
				continue
			}
		default:
			continue
		}
		turn = min(turn, p.order.tierOf(known.pod))
	}
	return turn
}

// stuck reports whether a pod should have stopped. While the watch is broken it may be long gone.
func (p *plan) stuck(known *podPlan, now time.Time) bool {
	return !known.terminating.IsZero() && !now.Before(known.overdue()) && p.trouble == ""
}
