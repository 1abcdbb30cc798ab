package drain

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/status"
)

// maxDetail bounds each text of the cluster that is shown, in characters.
const maxDetail = 200

// ErrTimeout is what errors.Is finds in Result.Err when the drain's own time was up.
var ErrTimeout = errors.New("time is up")

// ErrUndecided is what errors.Is finds in Result.Err when nothing was evicted because the API server
// keeps refusing what is needed to tell which pods stay: usually the ClusterRole "get daemonsets" of
// packaging/kubernetes is missing.
var ErrUndecided = errors.New("cannot tell which pods stay")

// ErrRefused is what errors.Is finds in Result.Err when there are pods that Options.EmptyDir or NakedPods
// does not let go. They are named in the error. Nothing was evicted, unless such a pod came in
// the midst of the drain.
var ErrRefused = errors.New("pods that may not be evicted")

// Why says what keeps a pod on the Node.
type Why string

const (
	WhyBudget      Why = "pdb"         // a PodDisruptionBudget allows no eviction
	WhyTerminating Why = "terminating" // evicted, but it has not stopped
	WhyNamespace   Why = "namespace"   // its namespace is being deleted; evictions are not taken
	WhyThrottled   Why = "throttled"   // the API server is busy
	WhyRefused     Why = "refused"     // the API server said no
	WhyUnreachable Why = "unreachable" // the API server does not answer, or that it cannot now (a webhook is away)
	WhyUndecided   Why = "undecided"   // it could not be found out whether the pod stays (DaemonSet)
	WhyPolicy      Why = "policy"      // by Options.EmptyDir or NakedPods it may not be evicted
	WhyPending     Why = "pending"     // not evicted yet, or evicted and not seen to terminate yet
)

// HeldPod is a pod that has not left the Node.
type HeldPod struct {
	Namespace, Name, UID string

	Why      Why
	Budget   string    // WhyBudget: name of the PodDisruptionBudget, empty if the server did not tell
	Detail   string    // the rest of the reason, for people; one line, may be empty
	Since    time.Time // when Why began, on this machine's clock
	Attempts int       // evictions sent
}

// String is fit for a log line, a status and an event.
func (h HeldPod) String() string {
	who := "pod " + h.Namespace + "/" + h.Name
	what := "not evicted yet"
	switch h.Why {
	case WhyBudget:
		what = "held by a PodDisruptionBudget"
		if h.Budget != "" {
			what = "held by PodDisruptionBudget " + h.Namespace + "/" + h.Budget
		}
	case WhyTerminating:
		what = "still terminating"
	case WhyNamespace:
		what = "not evicted: its namespace is being deleted"
	case WhyThrottled:
		what = "not evicted: the API server is busy"
	case WhyRefused:
		what = "not evicted: refused"
	case WhyUnreachable:
		what = "not evicted: no good answer from the API server"
	case WhyUndecided:
		what = "not evicted: cannot tell whether it stays"
	case WhyPolicy:
		what = "may not be evicted"
	case WhyPending:
	}
	if h.Detail != "" {
		what += ": " + h.Detail
	}
	return who + " " + what
}

// Progress is where a drain stands.
type Progress struct {
	Total     int       // pods that have to leave, those that left included
	Evicted   int       // evictions that were accepted
	Gone      int       // pods that left, in whatever way
	Held      []HeldPod // by namespace and name
	Returning []string  // namespace/name of pods whose controller puts them here in spite of the cordon; they stay
	Skipped   []string  // namespace/name of pods that are not waited for: see Options.SkipWaitForDelete
	Forced    []string  // namespace/name of pods that were deleted when the time was up, gone or not
	Left      []HeldPod // pods that a drain by force did not get rid of
	Came      int       // pods that came in the midst of the drain: somebody may have lifted the cordon
	Trouble   string    // why the view of the pods is not up to date, empty if it is
}

// String says the numbers and, of the pods that are held, the first three.
func (p Progress) String() string {
	return fmt.Sprintf("%d of %s gone", p.Gone, status.Count(p.Total, "pod")) + p.tail()
}

func (p Progress) tail() string {
	s := ""
	if p.Trouble != "" {
		s += "; " + p.Trouble
	}
	if len(p.Held) > 0 {
		s += "; " + HeldSummary(p.Held)
	}
	if len(p.Forced) > 0 {
		s += "; deleted when the time was up: " + status.FirstThree(p.Forced, "pod")
	}
	if len(p.Left) > 0 {
		s += "; left behind: " + HeldSummary(p.Left)
	}
	if len(p.Skipped) > 0 {
		s += "; not waited for, being deleted for too long: " + status.FirstThree(p.Skipped, "pod")
	}
	if p.Came > 0 {
		s += "; " + status.Count(p.Came, "pod") + " came meanwhile, is the node still cordoned?"
	}
	if len(p.Returning) > 0 {
		s += "; left in place, for they are put here again and again: " + status.FirstThree(p.Returning, "pod")
	}
	return s
}

// same reports whether a person would see no difference. The number of attempts is none.
func (p Progress) same(q Progress) bool {
	equal := func(a, b HeldPod) bool {
		a.Attempts, b.Attempts = 0, 0
		return a == b
	}
	return p.Total == q.Total && p.Evicted == q.Evicted && p.Gone == q.Gone && p.Trouble == q.Trouble &&
		slices.EqualFunc(p.Held, q.Held, equal) && slices.Equal(p.Returning, q.Returning) &&
		slices.Equal(p.Skipped, q.Skipped) && slices.Equal(p.Forced, q.Forced) &&
		slices.EqualFunc(p.Left, q.Left, equal) && p.Came == q.Came
}

// Result is how a drain ended.
type Result struct {
	// Progress at the end. If not Drained, Held has every pod that still has to leave.
	Progress
	// Drained: nobody is waited for any more. Pods that are here all the same are in Left, Skipped and Returning.
	Drained bool
	Err     error // why it ended before: ErrTimeout, ErrUndecided, ErrRefused or the cause of the context's end
	Took    time.Duration
}

// String is fit for a log line, a status and an event.
func (r Result) String() string {
	took := r.Took.Round(100 * time.Millisecond)
	if took >= 10*time.Second {
		took = took.Round(time.Second)
	}
	if r.Drained {
		how, gone := "drained", status.Count(r.Gone, "pod")
		if len(r.Forced)+len(r.Left) > 0 {
			how = "drained by force"
		}
		if r.Gone < r.Total {
			gone = fmt.Sprintf("%d of %s", r.Gone, status.Count(r.Total, "pod"))
		}
		return fmt.Sprintf("%s: %s gone in %s", how, gone, took) + r.tail()
	}
	if errors.Is(r.Err, ErrRefused) {
		return fmt.Sprintf("not drained: %v", r.Err) // which names the pods
	}
	s := fmt.Sprintf("not drained after %s: %v", took, r.Err)
	if r.Total > 0 {
		s += fmt.Sprintf("; %d of %s left", r.Total-r.Gone, status.Count(r.Total, "pod"))
	}
	return s + r.tail()
}

// HeldSummary names the first three pods with their reasons, and how many more there are.
func HeldSummary(held []HeldPod) string {
	all := make([]string, len(held))
	for i, h := range held {
		all[i] = h.String()
	}
	return status.FirstThree(all, "pod")
}

func compareNames(a, b *corev1.Pod) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
