package drain

import (
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/status"
)

// plan is the whole memory and every rule of one drain. It sends nothing and reads no clock: what is
// seen and answered goes in with the time of it, what to do next comes out.
//
// The watch alone says which pods are gone: a pod has left when the mirror no longer has its UID. Answers to
// evictions only tell when to ask again.
type plan struct {
	grace  int64          // seconds for the pods to stop; negative: each pod's own
	skip   time.Duration  // see Options.SkipWaitForDelete
	order  Order          // see turn
	random func() float64 // from [0, 1)

	start      time.Time // first complete list; zero before it
	allDecided bool      // every pod of the first list was decided; before that nothing is evicted, as in kubectl
	pods       map[types.UID]*podPlan
	arrivals   map[string]int // highest generation evicted, by who makes the pods; see observe
	trouble    string
	forced     time.Time // when the end by force began; zero before it

	evicted, gone, came int
	deleted             []string // namespace/name of pods that the end by force deleted
}

// podPlan is what is known about one pod of the Node.
type podPlan struct {
	pod      *corev1.Pod
	fate     fate
	busy     bool // an eviction, or the decision, is under way
	next     time.Time
	attempts int
	accepted bool // an eviction was accepted, or must have been
	deleted  bool // it was not evicted last, but deleted
	unsure   bool // an answer was lost, and none since says that the eviction had no effect

	last        outcome   // answer to the latest attempt; valid if failures > 0
	answeredAt  time.Time // when it came
	failures    int       // answers of the kind of last, in a row
	since       time.Time // first of them
	terminating time.Time // seen with a deletionTimestamp
	stopped     time.Time // seen with a grace period of 0: the kubelet has deleted it at last, or somebody by force
	refusal     string    // fateRefused: what it would lose

	foundTerminating bool // it was being deleted when it was seen first
	generation       int  // 0: was here at the first list; see observe
}

type fate int

const (
	fateOpen    fate = iota // not decided yet
	fateLeaves              // has to go
	fateStays               // DaemonSet, mirror, or tolerates the cordon and came after it
	fateReturns             // stays, because its controller puts it here again and again
	fateRefused             // may not be evicted; see Options.EmptyDir
	fateSkipped             // has to go, but is not waited for any longer; see Options.SkipWaitForDelete
	fateLeft                // had to go, but did not when the drain ended by force
)

const (
	// settle is how long a drain lasts at least: the scheduler may bind a pod that it had placed just
	// before it saw the cordon.
	settle = time.Second
	// overdueSlack is the time after its grace period in which a pod that still terminates is not
	// reported as held yet.
	overdueSlack = 5 * time.Second
	// decideGiveUp is how long refusals to read DaemonSets are taken for a starting API server.
	decideGiveUp = time.Minute
	// maxGeneration is how often a controller's pods are evicted that came after the drain began.
	maxGeneration = 3
)

func newPlan(opts Options, random func() float64) *plan {
	return &plan{
		grace: opts.graceSeconds(), skip: opts.SkipWaitForDelete, order: opts.Order, random: random,
		pods: map[types.UID]*podPlan{}, arrivals: map[string]int{},
	}
}

func (o Options) graceSeconds() int64 {
	if o.GracePeriod < 0 {
		return -1
	}
	// 0 would remove the Pod object at once, while its containers still run.
	return max(1, int64(math.Ceil(o.GracePeriod.Seconds())))
}

// observe takes in what the mirror shows. Pods that were not there in the first list are handled too:
//   - one that tolerates the cordon stays, it is meant to;
//   - others are evicted: the scheduler had placed them before it saw the cordon. If the same controller places one
//     here again after that (a Deployment with spec.nodeName does), it gets a pause that doubles, and
//     after maxGeneration rounds its pods stay: more evictions would never end.
func (p *plan) observe(pods []*corev1.Pod, synced bool, trouble error, now time.Time) {
	p.trouble = ""
	if trouble != nil {
		p.trouble = "the pods of this node cannot be watched: " + status.Clean(trouble.Error(), maxDetail)
	}
	if !synced {
		return
	}
	first := p.start.IsZero()
	if first {
		p.start = now
	}
	here := make(map[types.UID]bool, len(pods))
	for _, pod := range pods {
		here[pod.UID] = true
		known := p.pods[pod.UID]
		if known == nil {
			known = &podPlan{next: now, foundTerminating: pod.DeletionTimestamp != nil}
			if !first {
				p.arrived(known, pod, now)
			}
			p.pods[pod.UID] = known
		}
		known.pod = pod
		if pod.DeletionTimestamp != nil && known.terminating.IsZero() {
			known.terminating = now
			if known.unanswered() {
				p.accept(known)
			}
		}
		if !known.terminating.IsZero() && known.stopped.IsZero() && known.period() == 0 {
			known.stopped = now
		}
	}
	for uid, known := range p.pods {
		if here[uid] {
			continue
		}
		switch known.fate {
		case fateLeaves, fateSkipped, fateLeft:
			if known.unanswered() {
				p.accept(known)
			}
			p.gone++
		default:
		}
		delete(p.pods, uid)
	}
	p.checkDecided()
}

// accept notes that an eviction took effect.
func (p *plan) accept(known *podPlan) {
	if known.accepted {
		return
	}
	known.accepted = true
	if known.deleted {
		p.deleted = append(p.deleted, known.pod.Namespace+"/"+known.pod.Name)
	} else {
		p.evicted++
	}
}

// unanswered reports whether an eviction was sent that may have taken effect without our being told.
func (k *podPlan) unanswered() bool {
	return k.attempts > 0 && (k.busy || k.unsure)
}

// undecided returns the pods to decide about now; their decision is under way then. At the beginning
// all wait for the last one anyway and are asked about together: each DaemonSet is read once for all.
func (p *plan) undecided(now time.Time) []*corev1.Pod {
	var open []*podPlan
	due := false
	for _, known := range p.inOrder() {
		if known.fate != fateOpen || known.busy {
			continue
		}
		if ready := !known.next.After(now); ready || !p.allDecided {
			open = append(open, known)
			due = due || ready
		}
	}
	if !due {
		return nil
	}
	out := make([]*corev1.Pod, len(open))
	for i, known := range open {
		known.busy = true
		out[i] = known.pod
	}
	return out
}

// decide takes in the decisions.
func (p *plan) decide(verdicts map[types.UID]verdict, now time.Time) {
	for uid, v := range verdicts {
		known := p.pods[uid]
		if known == nil {
			continue
		}
		known.busy = false
		switch {
		case known.fate != fateOpen: // left meanwhile
		case v.err != nil:
			p.note(known, classify(v.err), now)
		case v.refused != "":
			known.fate, known.refusal, known.failures = fateRefused, v.refused, 0
		case v.leaves:
			known.fate, known.failures = fateLeaves, 0
			known.next = now
		default:
			known.fate = fateStays
		}
	}
	p.checkDecided()
}

func (p *plan) checkDecided() {
	if p.allDecided || p.start.IsZero() {
		return
	}
	for _, known := range p.pods {
		if known.fate == fateOpen {
			return
		}
	}
	p.allDecided = true
}

// due returns at most limit pods to evict now, or in an end by force to delete; that is under way then.
func (p *plan) due(now time.Time, limit int) []*corev1.Pod {
	var out []*corev1.Pod
	if !p.allDecided || p.refuses() {
		return nil
	}
	turn := p.turn(now)
	for _, known := range p.inOrder() {
		if len(out) >= limit {
			break
		}
		if !p.wantsEviction(known) || known.next.After(now) {
			continue
		}
		if !p.byForce() && p.order.tierOf(known.pod) > turn {
			continue
		}
		known.busy = true
		known.deleted = p.byForce()
		known.attempts++
		if known.generation > 0 {
			maker := makerOf(known.pod)
			p.arrivals[maker] = max(p.arrivals[maker], known.generation)
		}
		out = append(out, known.pod)
	}
	return out
}

// wantsEviction: a pod that terminates needs none, unless it would take longer than the configured grace.
func (p *plan) wantsEviction(known *podPlan) bool {
	if known.fate != fateLeaves || known.busy {
		return false
	}
	if known.pod.DeletionTimestamp == nil {
		return true
	}
	period := known.pod.DeletionGracePeriodSeconds
	return p.grace >= 0 && !known.accepted && period != nil && *period > p.grace
}

// answered takes in the answer to an eviction, or to a deletion.
func (p *plan) answered(uid types.UID, err error, now time.Time) {
	known := p.pods[uid]
	if known == nil {
		return // left meanwhile
	}
	known.busy = false
	out := classify(err)
	if out.kind == answerAccepted {
		p.accept(known)
		if known.failures > 0 && known.last.kind == answerBudget {
			p.hasten(known, now)
		}
	}
	p.note(known, out, now)
	if p.byForce() && !known.deleted {
		known.next = now // it was under way when the end by force began
	}
}

// hasten brings back to the shortest wait the pods that the same budget holds: it has begun to move.
func (p *plan) hasten(moved *podPlan, now time.Time) {
	for _, known := range p.pods {
		if known == moved || known.failures == 0 || known.last.kind != answerBudget ||
			known.last.budget != moved.last.budget || known.pod.Namespace != moved.pod.Namespace {
			continue
		}
		known.failures = 1
		soonest := known.answeredAt.Add(retryDelay(known.last, 1, p.random()))
		if soonest.Before(now) {
			soonest = now
		}
		if soonest.Before(known.next) {
			known.next = soonest
		}
	}
}

func (p *plan) note(known *podPlan, out outcome, now time.Time) {
	if known.failures == 0 || known.last.kind != out.kind {
		known.failures, known.since = 0, now
	}
	known.failures++
	known.last, known.answeredAt = out, now
	switch out.kind {
	case answerUnreachable:
		known.unsure = true
	case answerGone: // perhaps of that very eviction
	default:
		known.unsure = false
	}
	known.next = now.Add(retryDelay(out, known.failures, p.random()))
}

// wake returns when to look at the plan again if nothing happens before; zero: never.
func (p *plan) wake(now time.Time) time.Time {
	var wake time.Time
	at := func(t time.Time) {
		if t.After(now) && (wake.IsZero() || t.Before(wake)) {
			wake = t
		}
	}
	if !p.start.IsZero() {
		at(p.start.Add(settle))
	}
	for _, known := range p.pods {
		if known.fate == fateOpen || p.wantsEviction(known) {
			at(known.next)
		}
		if known.refusedOpen() && !p.allDecided {
			at(known.since.Add(decideGiveUp))
		}
		if known.fate != fateLeaves {
			continue
		}
		if !known.terminating.IsZero() {
			at(known.overdue())
		}
		at(p.skipAt(known))
		at(p.leftAt(known))
	}
	return wake
}

func (p *plan) inOrder() []*podPlan {
	out := make([]*podPlan, 0, len(p.pods))
	for _, known := range p.pods {
		out = append(out, known)
	}
	slices.SortFunc(out, func(a, b *podPlan) int {
		if c := compareNames(a.pod, b.pod); c != 0 {
			return c
		}
		return strings.Compare(string(a.pod.UID), string(b.pod.UID))
	})
	return out
}
