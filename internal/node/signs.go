package node

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/status"
)

// SetWaiting puts a taint on the Node that asks the scheduler to prefer others while this one waits for its turn
// (PreferNoSchedule, no value), or takes it off. Where it is so already nothing is written, and every other taint stays. A
// taint of this key and effect that has a value is somebody else's: it is neither put on again nor taken off. Errors and
// retries are those of Cordon; a kubelet's credential is refused, see CheckDress.
func (n *Node) SetWaiting(ctx context.Context, key string, on bool) error {
	_, err := n.change(ctx, "taint", func(obj *corev1.Node) []byte { return taintPatch(obj, key, on) })
	return err
}

// taintPatch returns the write that SetWaiting needs, nil if none. A merge patch replaces the whole list, which is safe on
// the version that was read.
func taintPatch(obj *corev1.Node, key string, on bool) []byte {
	at := slices.IndexFunc(obj.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == key && t.Effect == corev1.TaintEffectPreferNoSchedule
	})
	taints := slices.Clone(obj.Spec.Taints)
	switch {
	case on && at < 0:
		taints = append(taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectPreferNoSchedule})
	case !on && at >= 0 && taints[at].Value == "":
		taints = slices.Delete(taints, at, at+1)
	default:
		return nil
	}
	var p nodePatch
	p.specify("taints", taints)
	if len(taints) == 0 {
		p.specify("taints", nil)
	}
	return p.encode(obj)
}

func softTaints(obj *corev1.Node) (keys []string) {
	for _, t := range obj.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule && t.Value == "" {
			keys = append(keys, t.Key)
		}
	}
	return keys
}

// Condition is one of the Node's lifecycle conditions while it is True. There is no other value: when it is over the
// condition goes.
type Condition struct {
	Type    corev1.NodeConditionType
	Reason  string // in CamelCase, see ConditionReason
	Message string // for people; cut to one line of at most 200 bytes
}

// lifecycle are the conditions of KEP-5683 that kured sets (kubernetes.io/docs/reference/node/node-lifecycle-conditions, Alpha
// in Kubernetes 1.37; the API server takes them in every version, whatever the feature gate says).
func lifecycle() []corev1.NodeConditionType {
	return []corev1.NodeConditionType{
		corev1.NodeMaintenancePlanned, corev1.NodeDrainInProgress, corev1.NodeDrained, corev1.NodeMaintenanceInProgress,
	}
}

// ours begins the message of each condition of kured's. Anybody may set a condition, and there is one of each type only: one
// that somebody else has made True is left alone.
const ours = "kured: "

// Conditions are the conditions that hold in a phase of the cycle. A reboot that is to come, for whatever reason it has
// not begun, is planned; from the reboot on the node is drained and in maintenance, until it is given back.
func Conditions(phase status.Phase, reason status.Reason, message string) []Condition {
	var types []corev1.NodeConditionType
	switch phase {
	case status.Blocked, status.Queued, status.Locked, status.BackingOff, status.Held:
		types = []corev1.NodeConditionType{corev1.NodeMaintenancePlanned}
	case status.Draining:
		types = []corev1.NodeConditionType{corev1.NodeMaintenancePlanned, corev1.NodeDrainInProgress}
	case status.Rebooting, status.Returning:
		types = []corev1.NodeConditionType{corev1.NodeDrained, corev1.NodeMaintenanceInProgress}
	case status.Starting, status.Idle, status.RollingBack:
	}
	out := make([]Condition, len(types))
	for i, t := range types {
		out[i] = Condition{t, ConditionReason(reason), message}
	}
	return out
}

// ConditionReason is a reason of the status in the form of a condition's (API conventions, "typical status properties"): each
// word with a capital, "outside-window" as OutsideWindow. Where nothing is in the way it is the cause of it all, RebootRequired.
func ConditionReason(reason status.Reason) string {
	if reason == "" {
		return "RebootRequired"
	}
	var b strings.Builder
	for word := range strings.SplitSeq(string(reason), "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// SetConditions makes these the conditions that kured has on the Node, and removes its others; none removes all. Where it is
// so already nothing is written. Only status.conditions of the four types is touched, which leaves the kubelet's own ones
// alone, as the kubelet leaves alone these. Errors and retries are those of Cordon.
func (n *Node) SetConditions(ctx context.Context, want []Condition) error {
	_, err := n.changeBy(ctx, "set the conditions of", statusWrite(), func(obj *corev1.Node) []byte {
		return conditionsPatch(obj, want, time.Now())
	})
	return err
}

func statusWrite() write {
	return write{by: types.StrategicMergePatchType, subresource: []string{"status"}}
}

// conditionsPatch returns the write that SetConditions needs, nil if none: a strategic merge patch, which merges conditions by
// their type (k8s.io/api/core/v1, NodeStatus).
func conditionsPatch(obj *corev1.Node, want []Condition, at time.Time) []byte {
	var changes []any
	for _, kind := range lifecycle() {
		has := conditionOf(obj, kind)
		i := slices.IndexFunc(want, func(c Condition) bool { return c.Type == kind })
		if i < 0 {
			if has != nil && isOurs(has) {
				changes = append(changes, map[string]any{"$patch": "delete", "type": kind})
			}
			continue
		}
		now := metav1.NewTime(at)
		next := corev1.NodeCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: want[i].Reason, Message: ours + safeText(want[i].Message),
			LastHeartbeatTime: now, LastTransitionTime: now,
		}
		if has != nil && has.Status == corev1.ConditionTrue {
			if !isOurs(has) || has.Reason == next.Reason && has.Message == next.Message {
				continue
			}
			next.LastTransitionTime = has.LastTransitionTime
		}
		changes = append(changes, next)
	}
	if len(changes) == 0 {
		return nil
	}
	return encode(map[string]any{
		"metadata": map[string]any{"resourceVersion": obj.ResourceVersion},
		"status":   map[string]any{"conditions": changes},
	})
}

func conditionOf(obj *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range obj.Status.Conditions {
		if obj.Status.Conditions[i].Type == kind {
			return &obj.Status.Conditions[i]
		}
	}
	return nil
}

func isOurs(c *corev1.NodeCondition) bool { return strings.HasPrefix(c.Message, ours) }

func ownConditions(obj *corev1.Node) (types []string) {
	for _, kind := range lifecycle() {
		if c := conditionOf(obj, kind); c != nil && isOurs(c) {
			types = append(types, string(kind))
		}
	}
	return types
}
