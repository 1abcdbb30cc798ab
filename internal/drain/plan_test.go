package drain

import (
	"errors"
	"math"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// planWith is a plan that has seen these pods, all of which leave, with jitter off.
func planWith(now time.Time, pods ...*corev1.Pod) *plan {
	p := newPlan(Options{GracePeriod: -1}, func() float64 { return 0 })
	verdicts := map[types.UID]verdict{}
	for _, pod := range pods {
		pod.UID = types.UID(pod.Name)
		verdicts[pod.UID] = verdict{leaves: true}
	}
	p.observe(pods, true, nil, now)
	p.undecided(now)
	p.decide(verdicts, now)
	return p
}

func names(pods []*corev1.Pod) string {
	s := ""
	for _, pod := range pods {
		s += pod.Name
	}
	return s
}

func TestPlanBacksOffPerPodAndPerReason(t *testing.T) {
	now := time.Unix(1000, 0)
	p := planWith(now, testPod("x", "b"), testPod("x", "a"), testPod("x", "c"))
	if got := names(p.due(now, 2)); got != "ab" {
		t.Fatalf("due %q, want ab", got)
	}
	if got := names(p.due(now, 2)); got != "c" {
		t.Fatalf("then due %q, want c", got)
	}
	budget := budgetRefusal("The disruption budget w needs 1 healthy pods and has 1 currently", 0)
	for _, step := range []struct {
		err  error
		wait time.Duration
	}{
		{budget, 5 * time.Second},
		{budget, 10 * time.Second},
		{errors.New("connection refused"), 5 * time.Second}, // another reason: from the beginning
		{errors.New("connection refused"), 10 * time.Second},
		{errors.New("connection refused"), 15 * time.Second},
		{budget, 5 * time.Second},
	} {
		p.answered("a", step.err, now)
		if got := p.wake(now.Add(settle)); !got.Equal(now.Add(step.wait)) {
			t.Fatalf("after %v: wakes after %v, want %v", step.err, got.Sub(now), step.wait)
		}
		if early := p.due(now.Add(step.wait-time.Millisecond), 16); len(early) > 0 {
			t.Fatalf("after %v: due too early", step.err)
		}
		now = now.Add(step.wait)
		if got := names(p.due(now, 16)); got != "a" {
			t.Fatalf("after %v: due %q, want a", step.err, got)
		}
	}
}

func TestPlanCountsOnlyItsOwnEvictions(t *testing.T) {
	now := time.Unix(1000, 0)
	p := planWith(now, testPod("x", "lost"), testPod("x", "other"), testPod("x", "sent"), testPod("x", "late"))
	p.due(now, 16)
	gone, lost := apierrors.NewNotFound(podResource, "x"), errors.New("unexpected EOF")
	budget := budgetRefusal("The disruption budget w needs 1 healthy pods and has 1 currently", 0)
	p.answered("lost", lost, now)
	p.answered("lost", gone, now) // by the eviction whose answer was lost
	p.answered("other", lost, now)
	p.answered("other", budget, now) // that one had no effect
	p.answered("sent", nil, now)
	p.answered("late", gone, now)
	p.observe(nil, true, nil, now) // all gone: "other" and "late" by somebody else's hand
	if p.evicted != 2 || p.gone != 4 {
		t.Errorf("evicted %d, gone %d; want 2, 4", p.evicted, p.gone)
	}
	if p.drained(now) || !p.drained(now.Add(settle)) {
		t.Error("drained before it settled, or not after")
	}
}

// What the watch showed before it broke proves nothing: a pod that should have stopped is not accused.
func TestPlanAccusesNobodyWhileItIsBlind(t *testing.T) {
	now := time.Unix(1000, 0)
	second := int64(1)
	pod := testPod("x", "a", func(pod *corev1.Pod) {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: now}, &second
	})
	p := planWith(now, pod)
	later := now.Add(time.Minute)
	if got := p.progress(later, false).Held; len(got) != 1 || got[0].Why != WhyTerminating {
		t.Errorf("held %v, want the pod that should have stopped", got)
	}
	p.observe([]*corev1.Pod{pod}, true, errors.New("connection refused"), later)
	if got := p.progress(later, false); len(got.Held) != 0 || got.Trouble == "" {
		t.Errorf("while blind: %+v, want no pod held", got)
	}
	if got := p.progress(later, true).Held; len(got) != 1 {
		t.Errorf("at the end: %v, want every pod that is left", got)
	}
}

// A pod that was being deleted when the drain began, perhaps by a drain that was cut short, gets what is left of its
// grace period, and not all of it once more. One whose grace period is no number for a clock gets it, too.
func TestPlanKnowsWhenAPodShouldHaveStopped(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, tt := range []struct {
		name   string
		found  bool          // terminating, when the drain begins
		grace  int64         // in seconds
		end    time.Duration // of it, by the API server's clock, from now
		late   time.Duration // held from then on
		detail string
	}{
		{"begins now", false, 3600, time.Hour, time.Hour + overdueSlack, "its grace period of 1h0m0s is over"},
		{"begins now, for ever", false, math.MaxInt64, -time.Second, math.MaxInt32*time.Second + overdueSlack, "its grace period of 596523h14m7s is over"},
		{"begins now, clocks differ", false, 3600, 0, time.Hour + overdueSlack, "its grace period of 1h0m0s is over"},
		{"most of it is over", true, 3600, 10 * time.Minute, 10*time.Minute + stuckSlack, "its grace period of 1h0m0s is over"},
		{"over for long", true, 3600, -time.Hour, 0, "its grace period of 1h0m0s is over"},
		{"found, clocks differ", true, 30, time.Hour, 30*time.Second + overdueSlack, "its grace period of 30s is over"},
	} {
		pod := testPod("x", "a")
		gone := testPod("x", "a", func(pod *corev1.Pod) {
			pod.UID, pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = "a", &metav1.Time{Time: now.Add(tt.end)}, &tt.grace
		})
		if tt.found {
			pod = gone
		}
		p := planWith(now, pod)
		p.observe([]*corev1.Pod{gone}, true, nil, now)
		if held := p.progress(now.Add(tt.late-time.Millisecond), false).Held; tt.late > 0 && len(held) > 0 {
			t.Errorf("%s: held too early: %v", tt.name, held)
		}
		if held := p.progress(now.Add(tt.late), false).Held; len(held) != 1 || held[0].Detail != tt.detail {
			t.Errorf("%s: held %v, want: %s", tt.name, held, tt.detail)
		}
	}
}

func TestResultCutsItsListAtThree(t *testing.T) {
	held := []HeldPod{
		{Namespace: "a", Name: "1", Why: WhyBudget, Budget: "b", Detail: "needs 2 healthy, has 2"},
		{Namespace: "a", Name: "2", Why: WhyNamespace},
		{Namespace: "a", Name: "3", Why: WhyThrottled, Detail: "wait"},
		{Namespace: "a", Name: "4", Why: WhyPending},
	}
	r := Result{Progress: Progress{Total: 9, Gone: 5, Held: held}, Err: ErrTimeout, Took: 1234 * time.Millisecond}
	const want = "not drained after 1.2s: time is up; 4 of 9 pods left; " +
		"pod a/1 held by PodDisruptionBudget a/b: needs 2 healthy, has 2; pod a/2 not evicted: its namespace is being deleted; " +
		"pod a/3 not evicted: the API server is busy: wait; and 1 more pod"
	if got := r.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
