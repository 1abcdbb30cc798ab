package drain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/status"
)

// answerKind is what an answer to an eviction means for what to do next.
type answerKind int

const (
	answerAccepted    answerKind = iota // the pod is being deleted; wait for the watch
	answerGone                          // the server does not know the pod, or knows another one; ask the watch
	answerBudget                        // a PodDisruptionBudget does not allow it now
	answerTerminating                   // its namespace is being deleted, and it will be with it
	answerThrottled                     // the server is busy (priority and fairness)
	answerRefused                       // the server said no
	answerUnreachable                   // no answer, or one that says the server is not well
)

// outcome is an answer to an eviction, read.
type outcome struct {
	kind       answerKind
	budget     string        // answerBudget: name of the PodDisruptionBudget, if told
	detail     string        // why, for people; one line
	retryAfter time.Duration // what the server asked for, 0: nothing
}

// classify reads the answer to an eviction, or to a deletion. The codes are those of the eviction subresource (KEP-85 and
// pkg/registry/core/pod/storage/eviction.go of Kubernetes 1.37):
//
//	201               accepted
//	404               no such pod. Admission answers from a cache, which right after a start of the API server may be behind
//	409               the UID precondition failed, or the pod changed too often meanwhile
//	429, cause DisruptionBudget   not now; Retry-After 10 only if the budget is not evaluated yet
//	403, cause DisruptionBudget   the budget's status is out of range
//	403, cause NamespaceTerminating
//	201 with a Status of 500      more than one budget selects the pod
func classify(err error) outcome {
	if err == nil {
		return outcome{kind: answerAccepted}
	}
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", requestTimeout)
		}
		return outcome{kind: answerUnreachable, detail: status.Clean(err.Error(), maxDetail)}
	}
	s := answer.Status()
	out := outcome{kind: answerRefused, detail: status.Clean(s.Message, maxDetail)}
	if out.detail == "" {
		out.detail = status.Clean(err.Error(), maxDetail)
	}
	if s.Details != nil {
		out.retryAfter = time.Duration(s.Details.RetryAfterSeconds) * time.Second
	}
	if cause, ok := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause); ok {
		out.kind = answerBudget
		out.budget, out.detail = budgetOf(cause, s, out.detail)
		return out
	}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		out.kind = answerTerminating
	case gone(err) && s.Details != nil && s.Details.Kind == "pods":
		out.kind = answerGone
	case apierrors.IsConflict(err):
		out.kind = answerGone
	case s.Code == http.StatusTooManyRequests:
		out.kind = answerThrottled
	case multipleBudgets(s):
	case s.Code >= 500 || s.Code == http.StatusRequestTimeout:
		out.kind = answerUnreachable
	}
	return out
}

// multipleBudgets recognizes the one 500 that will not pass by itself.
func multipleBudgets(s metav1.Status) bool {
	return s.Code == http.StatusInternalServerError && strings.Contains(s.Message, "more than one PodDisruptionBudget")
}

// The texts of eviction.go. Text that is not recognized is shown as it is: only words depend on them.
// Compiled when they are used: a daemon at rest has no need of them.
var (
	budgetNeeds = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^The disruption budget (\S+) needs (\d+) healthy pods and has (\d+) currently$`)
	})
	budgetOther = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^The disruption budget (\S+) (?:does not allow evicting pods currently:? ?)?(.*?)\.?$`)
	})
)

func budgetOf(cause metav1.StatusCause, s metav1.Status, detail string) (name, why string) {
	message := status.Clean(cause.Message, maxDetail)
	if m := budgetNeeds().FindStringSubmatch(message); m != nil {
		return m[1], fmt.Sprintf("needs %s healthy, has %s", m[2], m[3])
	}
	if m := budgetOther().FindStringSubmatch(message); m != nil {
		if m[2] == "" {
			return m[1], "allows no eviction now"
		}
		return m[1], m[2]
	}
	if message != "" {
		detail = message
	}
	return "", detail
}

// How long to wait before the next eviction of one pod, measured from the last answer. Each failure of
// the same kind doubles the wait, and up to a quarter is added at random so that pods and nodes that
// failed together spread out. Never less than evictDelay, but for throttling, where the server says.
const (
	evictDelay          = 5 * time.Second
	evictDelayMax       = 30 * time.Second
	unreachableDelayMax = 15 * time.Second // an API server that is back should be noticed soon
	throttleDelay       = time.Second
	acceptedDelay       = 30 * time.Second // accepted, but the watch does not show it: ask again
	retryAfterMax       = 2 * time.Minute  // longer than this no server has a reason to ask for
)

// retryDelay returns the wait after the failures-th answer in a row of the kind of out (1 for the first).
// random is from [0, 1).
func retryDelay(out outcome, failures int, random float64) time.Duration {
	first, limit := evictDelay, evictDelayMax
	switch out.kind {
	case answerAccepted:
		first = acceptedDelay
	case answerThrottled:
		first = throttleDelay
	case answerUnreachable:
		limit = unreachableDelayMax
	}
	wait := min(first<<min(max(failures-1, 0), 10), limit)
	wait = max(wait, min(out.retryAfter, retryAfterMax))
	return wait + time.Duration(random*float64(wait)/4)
}
