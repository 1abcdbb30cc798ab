package drain

import (
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/status"
)

// progress describes the drain. Only pods that are in the way are held; at the end (all) these are all that are left.
func (p *plan) progress(now time.Time, all bool) Progress {
	out := Progress{
		Gone: p.gone, Total: p.gone, Evicted: p.evicted, Trouble: p.trouble,
		Came: p.came, Forced: slices.Sorted(slices.Values(p.deleted)),
	}
	turn := p.turn(now)
	for _, known := range p.inOrder() {
		name := known.pod.Namespace + "/" + known.pod.Name
		switch known.fate {
		case fateReturns:
			out.Returning = append(out.Returning, name)
			continue
		case fateStays:
			continue
		case fateSkipped:
			out.Total++
			out.Skipped = append(out.Skipped, name)
			continue
		case fateLeft:
			out.Total++
			held, _ := p.held(known, now)
			out.Left = append(out.Left, held)
			continue
		case fateRefused:
			out.Total++
			out.Held = append(out.Held, refusedPod(known.pod, known.refusal))
			continue
		case fateLeaves:
			out.Total++
		case fateOpen:
		}
		held, inTheWay := p.held(known, now)
		if held.Why == WhyPending && held.Detail == "" && p.order.tierOf(known.pod) > turn {
			held.Detail = "pods of lower priority go first"
		}
		if inTheWay || all {
			out.Held = append(out.Held, held)
		}
	}
	return out
}

// refusedPod is a pod that the options do not let us evict.
func refusedPod(pod *corev1.Pod, why string) HeldPod {
	return HeldPod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Why: WhyPolicy, Detail: why}
}

func (p *plan) held(known *podPlan, now time.Time) (held HeldPod, inTheWay bool) {
	held = HeldPod{
		Namespace: known.pod.Namespace, Name: known.pod.Name, UID: string(known.pod.UID),
		Attempts: known.attempts, Why: WhyPending, Since: known.since,
	}
	if held.Since.IsZero() {
		held.Since = p.start
	}
	switch {
	case !known.terminating.IsZero():
		held.Why, held.Since = WhyTerminating, known.terminating
		over := !now.Before(known.overdue())
		held.Detail = "its grace period of " + known.period().String()
		if over {
			held.Detail += " is over"
		} else {
			held.Detail += " is not over"
		}
		if finalizers := strings.Join(known.pod.Finalizers, ", "); finalizers != "" {
			if known.period() == 0 { // the kubelet has deleted it at last
				held.Detail = "it has stopped"
			}
			held.Detail = status.Clean(held.Detail+", finalizers "+finalizers, maxDetail)
		}
		// While the watch is broken it may be long gone; and before it is decided about, perhaps nobody waits for it.
		return held, over && p.trouble == "" && (known.fate != fateOpen || known.failures > 0)
	case known.failures == 0:
		return held, false
	case known.fate == fateOpen:
		held.Why, held.Detail = WhyUndecided, known.last.detail
		return held, true
	}
	held.Why, held.Budget, held.Detail = known.last.why()
	switch inTheWay = true; known.last.kind {
	case answerAccepted:
		held.Detail, inTheWay = "the eviction was accepted, but it does not terminate", known.failures > 1
	case answerGone:
		inTheWay = known.failures > 1
	default:
	}
	return held, inTheWay
}

// why says what an answer that was no success means for people.
func (o outcome) why() (why Why, budget, detail string) {
	switch o.kind {
	case answerBudget:
		return WhyBudget, o.budget, o.detail
	case answerTerminating:
		return WhyNamespace, "", ""
	case answerThrottled:
		return WhyThrottled, "", o.detail
	case answerRefused:
		return WhyRefused, "", o.detail
	case answerUnreachable:
		return WhyUnreachable, "", o.detail
	default:
		return WhyPending, "", o.detail
	}
}

// period is the grace period that runs for a pod that terminates.
func (k *podPlan) period() time.Duration {
	if s := k.pod.DeletionGracePeriodSeconds; s != nil {
		return inSeconds(*s)
	}
	return 0
}

// inSeconds is a grace period as the API knows it, which may be any number. It is longest 68 years: more are too many for
// the clock to be added to.
func inSeconds(s int64) time.Duration {
	return time.Duration(min(max(s, 0), math.MaxInt32)) * time.Second
}

// overdue is when a pod that terminates should be gone. One that has stopped
// mostly is in the next moment, however long it took. The grace period of one that was found
// terminating began earlier, on the API server's clock.
func (k *podPlan) overdue() time.Time {
	if !k.stopped.IsZero() {
		return k.stopped.Add(overdueSlack)
	}
	at := k.terminating.Add(k.period() + overdueSlack)
	if told := k.pod.DeletionTimestamp; k.foundTerminating && told.Add(stuckSlack).Before(at) {
		return told.Add(stuckSlack)
	}
	return at
}
