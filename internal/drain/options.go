package drain

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kured-host/kured/internal/status"
)

// DefaultTimeout is what Options without a Timeout get: a drain always ends.
const DefaultTimeout = 30 * time.Minute

// Options says how to drain. The zero value drains everything: Evict, CriticalLast, GiveUp.
type Options struct {
	// Timeout ends the drain, drained or not; with Force it begins the end. Zero and less: DefaultTimeout.
	Timeout time.Duration
	// GracePeriod is the time that pods get to stop, instead of their own. Negative: each pod's own. Rounded
	// up to whole seconds, at least one: 0 would remove the Pod while its containers still run.
	GracePeriod time.Duration
	// PodSelector selects by labels the pods that leave, as kubectl's --pod-selector does; the others stay.
	// Empty: all. Pods that stay for another cause stay all the same.
	PodSelector string
	// SkipWaitForDelete: a pod that should have stopped longer ago than this is not waited for, as with
	// kubectl's --skip-wait-for-delete-timeout. What counts is the deletionTimestamp, which is the end of
	// the pod's grace period; if the deletion is seen by the drain itself, its own clock is used, else this
	// machine's is compared with the API server's. Zero and less: every pod is waited for.
	SkipWaitForDelete time.Duration
	// EmptyDir is about pods with emptyDir volumes, whose data is lost when they leave; as all that
	// follows as kubectl understands it: a pod that has finished has none.
	EmptyDir PodPolicy
	// NakedPods is about pods that nobody makes anew: without a controller, or with a DaemonSet that is gone.
	NakedPods PodPolicy
	// Order is about who leaves first.
	Order Order
	// OnTimeout is about what has not left when Timeout is over.
	OnTimeout TimeoutPolicy
}

// PodPolicy says what to do with pods that lose something for ever when they are evicted.
type PodPolicy string

const (
	Evict  PodPolicy = "evict"  // the default
	Refuse PodPolicy = "refuse" // while there is such a pod nothing is evicted: ErrRefused
)

// Order says which pods leave first. Pods that leave together are a tier; see Options.Order.
type Order string

const (
	CriticalLast Order = "critical-last" // the default: those of system-critical priority after all others
	ByPriority   Order = "priority"      // a tier for each priority, the lowest first
	Together     Order = "together"      // all at once
)

// TimeoutPolicy says what to do when the time of a drain is up.
type TimeoutPolicy string

const (
	GiveUp TimeoutPolicy = "release" // the default: end with ErrTimeout
	Hold   TimeoutPolicy = "hold"    // the same; that the cycle keeps cordon and lock then is the caller's affair
	Force  TimeoutPolicy = "force"   // delete what is left, past every budget, and be done
)

// Check returns an error that names everything in the options that Drain and Preflight would not take.
func (o Options) Check() error {
	_, err := o.checked()
	return err
}

func (o Options) checked() (labels.Selector, error) {
	selector, err := labels.Parse(o.PodSelector)
	errs := []error{err}
	if err != nil {
		errs[0] = fmt.Errorf("pod selector %q: %w", status.Clean(o.PodSelector, maxDetail), err)
	}
	switch o.EmptyDir {
	case "", Evict, Refuse:
	default:
		errs = append(errs, fmt.Errorf("policy for emptyDir volumes %q is unknown", o.EmptyDir))
	}
	switch o.NakedPods {
	case "", Evict, Refuse:
	default:
		errs = append(errs, fmt.Errorf("policy for naked pods %q is unknown", o.NakedPods))
	}
	switch o.Order {
	case "", CriticalLast, ByPriority, Together:
	default:
		errs = append(errs, fmt.Errorf("order %q is unknown", o.Order))
	}
	switch o.OnTimeout {
	case "", GiveUp, Hold, Force:
	default:
		errs = append(errs, fmt.Errorf("policy for the time-out %q is unknown", o.OnTimeout))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("drain options: %w", err)
	}
	return selector, nil
}
