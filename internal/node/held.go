package node

import (
	"strings"
	"time"
)

// progress describes the drain. Only pods that are in the way are held; at the end (all) these are all that are left.
func (p *plan) progress(now time.Time, all bool) Progress {
	out := Progress{Gone: p.gone, Total: p.gone, Evicted: p.evicted, Trouble: p.trouble}
	for _, known := range p.inOrder() {
		switch known.fate {
		case fateReturns:
			out.Returning = append(out.Returning, known.pod.Namespace+"/"+known.pod.Name)
			continue
		case fateStays:
			continue
		case fateLeaves:
			out.Total++
		case fateOpen:
		}
		if held, inTheWay := p.held(known, now); inTheWay || all {
			out.Held = append(out.Held, held)
		}
	}
	return out
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
		if len(known.pod.Finalizers) > 0 {
			held.Detail += ", finalizers " + strings.Join(known.pod.Finalizers, ", ")
		}
		// While the watch is broken it may be long gone.
		return held, over && p.trouble == ""
	case known.failures == 0:
		return held, false
	case known.fate == fateOpen:
		held.Why, held.Detail = WhyUndecided, known.last.detail
		return held, true
	}
	held.Detail, inTheWay = known.last.detail, true
	switch known.last.kind {
	case answerAccepted:
		held.Detail, inTheWay = "the eviction was accepted, but it does not terminate", known.failures > 1
	case answerGone:
		inTheWay = known.failures > 1
	case answerBudget:
		held.Why, held.Budget = WhyBudget, known.last.budget
	case answerTerminating:
		held.Why, held.Detail = WhyNamespace, ""
	case answerThrottled:
		held.Why = WhyThrottled
	case answerRefused:
		held.Why = WhyRefused
	case answerUnreachable:
		held.Why = WhyUnreachable
	}
	return held, inTheWay
}

// period is the grace period that runs for a pod that terminates.
func (k *podPlan) period() time.Duration {
	if s := k.pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 0
}

func (k *podPlan) overdue() time.Time {
	return k.terminating.Add(k.period() + overdueSlack)
}
