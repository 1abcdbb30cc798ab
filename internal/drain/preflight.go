package drain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/kured-host/kured/internal/status"
)

// preflightAttempts is how often one pod is asked about when the server is busy or away.
const preflightAttempts = 3

// stuckSlack is how long after its grace period a pod counts as one that does not stop. It is measured between the
// API server's clock and this machine's.
const stuckSlack = time.Minute

// Report is what a drain would do now.
type Report struct {
	Tiers   []Tier       // pods that have to leave, those first that leave first
	Staying []StayingPod // by namespace and name, as all that follows

	Held    []HeldPod // pods of Tiers whose eviction would be refused now, or that do not stop
	Refused []HeldPod // pods that may not be evicted; one is enough, and a drain would evict none
	Unknown []HeldPod // pods of Tiers of which the server does not say what it would do; see Preflight

	// Together says which pods that would be let go one by one have the same controller. See Preflight.
	Together []string
}

// Tier is the pods that leave together.
type Tier struct {
	Name string   // what its pods have in common, for people; empty: there is but one tier
	Pods []string // namespace/name

	Leaving []LeavingPod // the same pods, with more about each
}

// StayingPod is a pod that a drain would not touch.
type StayingPod struct {
	Namespace, Name string
	Why             string
}

// Preflight says what a drain with these options would do now. It writes nothing: the evictions are dry runs
// (policy/v1 Eviction with dryRun=All), as many at once as those of a drain, once for each pod unless the
// server is busy or does not answer. Beside these it lists the pods of this Node, and reads each DaemonSet with
// pods here.
//
// The server looks at each pod alone: a PodDisruptionBudget that lets one pod go lets each of several go in a dry
// run. When a dry run is accepted it does not say by which budget, nor how much of it is left, and a kubelet
// may not read budgets, so it cannot be added up here. Report.Together names the pods of which it may be
// true; a drain gets through all the same, one after the other, as fast as others take their place.
//
// A server that does not answer, and one that has to ask a webhook which cannot be asked in a dry run, say nothing of
// a pod: it is in Report.Unknown, and Report.Err fails closed. ctx bounds all of it; a server that swallows requests
// is waited for three times half a minute. err is about what is needed to tell
// anything: the options, the list of pods, the DaemonSets (then errors.Is finds ErrUndecided), or the end of ctx.
func (p *Pods) Preflight(ctx context.Context, opts Options) (Report, error) {
	selector, err := opts.checked()
	if err != nil {
		return Report{}, err
	}
	pods, err := p.podsNow(ctx)
	if err != nil {
		return Report{}, err
	}
	verdicts := newChooser(p.client, p.node, selector, opts).choose(ctx, pods)
	var report Report
	var leaving []*corev1.Pod
	for _, pod := range pods {
		v := verdicts[pod.UID]
		switch late := opts.skips(pod, time.Now()); {
		case v.err != nil:
			return Report{}, fmt.Errorf("%w: %w", ErrUndecided, v.err)
		case v.refused != "":
			report.Refused = append(report.Refused, refusedPod(pod, v.refused))
		case v.leaves && !late:
			leaving = append(leaving, pod)
		default:
			if late && v.leaves {
				v.stays = "being deleted for too long, not waited for"
			}
			report.Staying = append(report.Staying, StayingPod{pod.Namespace, pod.Name, v.stays})
		}
	}
	outcomes, err := p.dryRun(ctx, leaving, opts.graceSeconds())
	if err != nil {
		return Report{}, err
	}
	report.add(leaving, outcomes, opts, time.Now())
	return report, nil
}

// podsNow lists the pods of this Node by namespace and name.
func (p *Pods) podsNow(ctx context.Context) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := p.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", p.node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list the pods of node %s: %w", p.node, err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	slices.SortFunc(pods, compareNames)
	return pods, nil
}

// skips reports whether a drain that begins now does not wait for the pod.
func (o Options) skips(pod *corev1.Pod, now time.Time) bool {
	return o.SkipWaitForDelete > 0 && pod.DeletionTimestamp != nil &&
		!now.Before(pod.DeletionTimestamp.Add(o.SkipWaitForDelete))
}

// dryRun returns what the server says to the eviction of each pod. A pod that terminates is not asked about.
func (p *Pods) dryRun(ctx context.Context, pods []*corev1.Pod, grace int64) ([]outcome, error) {
	outcomes := make([]outcome, len(pods))
	slots := make(chan struct{}, evictionsAtOnce)
	var group sync.WaitGroup
	for i, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue // accepted, so to speak
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			outcomes[i] = p.dryRunOne(ctx, pod, grace)
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("dry run of evictions: %w", context.Cause(ctx))
	}
	return outcomes, nil
}

func (p *Pods) dryRunOne(ctx context.Context, pod *corev1.Pod, grace int64) outcome {
	opts := deleteOptions(pod, grace)
	opts.DryRun = []string{metav1.DryRunAll}
	for attempt := 1; ; attempt++ {
		out := classify(p.postEviction(ctx, pod, opts))
		if attempt == preflightAttempts || out.kind != answerThrottled && out.kind != answerUnreachable {
			return out
		}
		select {
		case <-ctx.Done():
			return out
		case <-time.After(retryDelay(out, attempt, rand.Float64())):
		}
	}
}

// add takes in what the server said about the pods that have to leave, which come by namespace and name.
func (r *Report) add(leaving []*corev1.Pod, outcomes []outcome, opts Options, now time.Time) {
	tiers := map[int32]Tier{}
	siblings := map[string]int{}
	for i, pod := range leaving {
		out := outcomes[i]
		if out.kind == answerGone {
			continue
		}
		tier := tiers[opts.Order.tierOf(pod)]
		tier.Pods = append(tier.Pods, pod.Namespace+"/"+pod.Name)
		tier.Leaving = append(tier.Leaving, leavingPod(pod, opts.graceSeconds()))
		tiers[opts.Order.tierOf(pod)] = tier
		held := HeldPod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Attempts: 1}
		held.Why, held.Budget, held.Detail = out.why()
		switch {
		case pod.DeletionTimestamp != nil:
			if late := now.Sub(pod.DeletionTimestamp.Time); late >= stuckSlack {
				held.Why, held.Detail = WhyTerminating, "it should have stopped "+late.Round(time.Second).String()+" ago"
				held.Attempts = 0
				r.Held = append(r.Held, held)
			}
		case out.kind == answerAccepted:
			if owner := metav1.GetControllerOf(pod); owner != nil {
				siblings[owner.Kind+" "+pod.Namespace+"/"+owner.Name]++
			}
		case out.kind == answerThrottled, out.kind == answerUnreachable, out.kind == answerRefused && noDryRun(out.detail):
			r.Unknown = append(r.Unknown, held)
		default:
			r.Held = append(r.Held, held)
		}
	}
	for _, priority := range slices.Sorted(maps.Keys(tiers)) {
		tier := tiers[priority]
		if len(tiers) > 1 {
			tier.Name = opts.Order.name(priority)
		}
		r.Tiers = append(r.Tiers, tier)
	}
	for maker, n := range siblings {
		if n > 1 {
			r.Together = append(r.Together, status.Count(n, "pod")+" of "+maker)
		}
	}
	slices.Sort(r.Together)
}

// noDryRun recognizes what the server says when it has to ask a webhook that has side effects
// (NewDryRunUnsupportedErr of k8s.io/apiserver). A real eviction may be let through.
func noDryRun(detail string) bool { return strings.Contains(detail, "does not support dry run") }

// Err returns nil if the server says that nothing would keep a drain from its end now, else an error that says what
// would, or of which pods the server says nothing. Pods that may not be evicted come first: errors.Is finds ErrRefused.
func (r Report) Err() error {
	switch {
	case len(r.Refused) > 0:
		return fmt.Errorf("%w: %s", ErrRefused, HeldSummary(r.Refused))
	case len(r.Held) > 0:
		return errors.New(HeldSummary(r.Held))
	case len(r.Unknown) > 0:
		return errors.New("a dry run does not tell: " + HeldSummary(r.Unknown))
	}
	return nil
}

// String has a line for each kind of pod there is; each names the first three.
func (r Report) String() string {
	var lines []string
	line := func(n int, what string, pods []string) {
		if n > 0 {
			lines = append(lines, status.Count(n, "pod")+" "+what+": "+status.FirstThree(pods, "pod"))
		}
	}
	held := func(what string, pods []HeldPod) {
		if len(pods) > 0 {
			lines = append(lines, status.Count(len(pods), "pod")+" "+what+": "+HeldSummary(pods))
		}
	}
	if len(r.Tiers) == 0 && len(r.Refused) == 0 {
		lines = append(lines, "no pod has to leave")
	}
	for i, tier := range r.Tiers {
		what := verb(len(tier.Pods), "has", "have") + " to leave"
		if i > 0 {
			what = verb(len(tier.Pods), "leaves", "leave") + " after that"
		}
		if tier.Name != "" {
			what += ", " + tier.Name
		}
		line(len(tier.Pods), what, tier.Pods)
	}
	staying := make([]string, len(r.Staying))
	for i, pod := range r.Staying {
		staying[i] = pod.Namespace + "/" + pod.Name + " (" + pod.Why + ")"
	}
	line(len(r.Staying), verb(len(r.Staying), "stays", "stay"), staying)
	held("may not be evicted, so nothing would be", r.Refused)
	held("would be held now", r.Held)
	held("cannot be told by a dry run", r.Unknown)
	if len(r.Together) > 0 {
		lines = append(lines, "asked about one by one, a budget may let fewer go at a time: "+status.FirstThree(r.Together, "group"))
	}
	return strings.Join(lines, "\n")
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
