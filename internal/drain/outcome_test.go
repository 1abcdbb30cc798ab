package drain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var podResource = schema.GroupResource{Resource: "pods"}

// withCause is an API error that carries a cause, as eviction.go and namespace admission make them.
func withCause(err *apierrors.StatusError, kind metav1.CauseType, message string) *apierrors.StatusError {
	if err.ErrStatus.Details == nil {
		err.ErrStatus.Details = &metav1.StatusDetails{}
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: kind, Message: message})
	return err
}

func budgetRefusal(message string, retryAfter int) *apierrors.StatusError {
	return withCause(apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retryAfter),
		policyv1.DisruptionBudgetCause, message)
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want outcome
	}{
		{"accepted", nil, outcome{kind: answerAccepted}},
		{
			"pod unknown", apierrors.NewNotFound(podResource, "web-1"),
			outcome{kind: answerGone, detail: `pods "web-1" not found`},
		},
		{
			// A balancer in front of no API server says 404 too. It knows nothing of pods.
			"a page that is not there", apierrors.NewGenericServerResponse(http.StatusNotFound, "POST", podResource, "web-1", "404 page not found", 0, true),
			outcome{kind: answerRefused, detail: "the server could not find the requested resource (post pods web-1)"},
		},
		{
			"other UID", apierrors.NewConflict(podResource, "web-1", errors.New("the UID in the precondition (a) does not match the UID in record (b)")),
			outcome{kind: answerGone, detail: `Operation cannot be fulfilled on pods "web-1": the UID in the precondition (a) does not match the UID in record (b)`},
		},
		{
			"budget", budgetRefusal("The disruption budget web needs 2 healthy pods and has 2 currently", 0),
			outcome{kind: answerBudget, budget: "web", detail: "needs 2 healthy, has 2"},
		},
		{
			"budget not evaluated yet", budgetRefusal("The disruption budget web is still being processed by the server.", 10),
			outcome{kind: answerBudget, budget: "web", detail: "is still being processed by the server", retryAfter: 10 * time.Second},
		},
		{
			"budget without numbers", budgetRefusal("The disruption budget web does not allow evicting pods currently", 0),
			outcome{kind: answerBudget, budget: "web", detail: "allows no eviction now"},
		},
		{
			"budget out of sync", budgetRefusal("The disruption budget web does not allow evicting pods currently because it failed sync: found no controllers", 0),
			outcome{kind: answerBudget, budget: "web", detail: "because it failed sync: found no controllers"},
		},
		{
			"budget in unknown words", budgetRefusal("Not today", 0),
			outcome{kind: answerBudget, detail: "Not today"},
		},
		{
			"budget, 403", withCause(apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), "web", errors.New("x")),
				policyv1.DisruptionBudgetCause, "The disruption budget web does not allow evicting pods currently: pdb disruptions allowed is negative"),
			outcome{kind: answerBudget, budget: "web", detail: "pdb disruptions allowed is negative"},
		},
		{
			"two budgets", &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: 500,
				Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
			}},
			outcome{kind: answerRefused, detail: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."},
		},
		{
			"namespace ends", withCause(apierrors.NewForbidden(podResource, "web-1", errors.New("namespace shop is being terminated")),
				corev1.NamespaceTerminatingCause, "namespace shop is being terminated"),
			outcome{kind: answerTerminating, detail: `pods "web-1" is forbidden: namespace shop is being terminated`},
		},
		{
			"forbidden", apierrors.NewForbidden(podResource, "web-1", errors.New("not your node")),
			outcome{kind: answerRefused, detail: `pods "web-1" is forbidden: not your node`},
		},
		{
			"priority and fairness", apierrors.NewTooManyRequests("too many requests, please try again later", 3),
			outcome{kind: answerThrottled, detail: "too many requests, please try again later", retryAfter: 3 * time.Second},
		},
		{
			"budget conflicts on the server", apierrors.NewTimeoutError(`couldn't update PodDisruptionBudget "web" due to conflicts`, 10),
			outcome{kind: answerUnreachable, detail: `Timeout: couldn't update PodDisruptionBudget "web" due to conflicts`, retryAfter: 10 * time.Second},
		},
		{
			"starting or stopping", apierrors.NewServiceUnavailable("apiserver not ready"),
			outcome{kind: answerUnreachable, detail: "apiserver not ready"},
		},
		{
			"webhook broken", apierrors.NewInternalError(errors.New("failed calling webhook")),
			outcome{kind: answerUnreachable, detail: "Internal error occurred: failed calling webhook"},
		},
		{
			"no connection", errors.New("dial tcp 127.0.0.1:6443:\n connect: connection refused"),
			outcome{kind: answerUnreachable, detail: "dial tcp 127.0.0.1:6443: connect: connection refused"},
		},
		{
			"no answer", fmt.Errorf("Post: %w", context.DeadlineExceeded),
			outcome{kind: answerUnreachable, detail: "no answer within 30s"},
		},
	} {
		if got := classify(tt.err); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		out      outcome
		failures int
		random   float64
		want     time.Duration
	}{
		{outcome{kind: answerBudget}, 1, 0, 5 * s},
		{outcome{kind: answerBudget}, 2, 0, 10 * s},
		{outcome{kind: answerBudget}, 3, 0, 20 * s},
		{outcome{kind: answerBudget}, 4, 0, 30 * s},
		{outcome{kind: answerBudget}, 1000, 0, 30 * s},
		{outcome{kind: answerBudget}, 1, 0.8, 6 * s},
		{outcome{kind: answerBudget, retryAfter: 10 * s}, 1, 0, 10 * s},
		{outcome{kind: answerBudget, retryAfter: s}, 1, 0, 5 * s},
		{outcome{kind: answerBudget, retryAfter: 1000 * s}, 1, 0, 120 * s},
		{outcome{kind: answerGone}, 1, 0, 5 * s},
		{outcome{kind: answerRefused}, 9, 0, 30 * s},
		{outcome{kind: answerTerminating}, 2, 0, 10 * s},
		{outcome{kind: answerUnreachable}, 1, 0, 5 * s},
		{outcome{kind: answerUnreachable}, 9, 0, 15 * s},
		{outcome{kind: answerAccepted}, 1, 0, 30 * s},
		{outcome{kind: answerThrottled}, 1, 0, s},
		{outcome{kind: answerThrottled, retryAfter: 3 * s}, 1, 0, 3 * s},
		{outcome{kind: answerThrottled}, 9, 0, 30 * s},
	} {
		if got := retryDelay(tt.out, tt.failures, tt.random); got != tt.want {
			t.Errorf("retryDelay(%+v, %d, %v) = %v, want %v", tt.out, tt.failures, tt.random, got, tt.want)
		}
	}
}
