// Package node changes and reads this machine's own Node object: cordon and uncordon with a mark that says whose cordon it is,
// wait until the kubelet of this boot reports Ready and the DaemonSet pods here run; and it shows others what is going on by
// labels, annotations, a taint, conditions and Events.
//
// It is written for the kubelet's own credential (Node authorizer and NodeRestriction): every read is
// of the own Node or selects the pods by spec.nodeName. Notes alone is for an admin, who may write to any Node.
//
// Nothing here logs. Whatever a person should know is in the returned error or State.
package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ErrNotFound is what errors.Is finds in the error of Get, Cordon and Uncordon when the cluster has
// no Node of this name.
var ErrNotFound = errors.New("no such Node")

// requestTimeout bounds one request, so that an API server that swallows packets is an error that is
// seen and retried and not a wait without end. (A watch is bounded by the server and by HTTP/2 pings.)
const requestTimeout = 30 * time.Second

// Node is this machine's Node object. It holds no state of the cluster: every method reads anew.
// Its methods may be called at the same time from several goroutines.
type Node struct {
	client kubernetes.Interface
	name   string
	bootID string
	dress  Dress
	booted time.Time
}

// Option is something more that a Node is to know.
type Option func(*Node)

// WithDress has Cordon and Uncordon show others that a reboot is under way. CheckDress has accepted it.
func WithDress(d Dress) Option { return func(n *Node) { n.dress = d } }

// WithBootTime tells when this boot began, by the clock as it is now, so that AwaitDaemonSets can tell what ran before it.
func WithBootTime(at time.Time) Option { return func(n *Node) { n.booted = at } }

// New returns the Node called name. bootID is the id of the boot that is running now, in any form
// that NormalizeBootID takes; the caller has checked it.
func New(client kubernetes.Interface, name, bootID string, options ...Option) *Node {
	n := &Node{client: client, name: name, bootID: comparableBootID(bootID)}
	for _, option := range options {
		option(n)
	}
	return n
}

// State is what kured needs to know about a Node.
type State struct {
	UID           string // metadata.uid: another one means that the Node was made anew
	Unschedulable bool   // spec.unschedulable, whoever set it
	Mark          string // value of MarkAnnotation: boot id of the boot in which kured cordoned; empty: none
	Ready         bool   // condition Ready is True; says nothing about which boot reported it
	ReadyDetail   string // why Ready is not True, for people; empty when Ready
	BootID        string // boot id that the kubelet reported last, normalized where possible

	Released *Release // the note of an admin who released this node's lock; nil: none
	Pause    *string  // text of PauseAnnotation, one line of at most 200 bytes; nil: it is not there

	Announced string // text of StatusAnnotation, as it is there: for Announce and ParseAnnouncement; empty: none

	// What kured shows others on the Node, all of which outlives a crash.
	Dressed    string   // boot id of the boot in which kured put on a Dress; empty: it did not
	Conditions []string // types of kured's own conditions (SetConditions)
	SoftTaints []string // keys of taints such as SetWaiting sets: PreferNoSchedule without a value
}

// Get reads the Node with a quorum read, so it never answers from before a write that was confirmed.
func (n *Node) Get(ctx context.Context) (State, error) {
	obj, err := n.get(ctx)
	if err != nil {
		return State{}, err
	}
	return stateOf(obj), nil
}

func (n *Node) get(ctx context.Context) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	obj, err := n.client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return nil, n.wrap("read", err)
	}
	return obj, nil
}

// wrap says what was tried on which Node, and makes NotFound recognizable without client-go.
func (n *Node) wrap(verb string, err error) error {
	if gone(err) {
		return fmt.Errorf("%s node %s: %w: %w", verb, n.name, ErrNotFound, err)
	}
	return fmt.Errorf("%s node %s: %w", verb, n.name, err)
}

// gone reports that the API server itself says that there is no such object, and not something between us and it that knows
// no such page.
func gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

func stateOf(obj *corev1.Node) State {
	ready, detail := readyCondition(obj)
	dressed, _ := recordOf(obj)
	return State{
		UID:           string(obj.UID),
		Unschedulable: obj.Spec.Unschedulable,
		Mark:          markOf(obj),
		Ready:         ready,
		ReadyDetail:   detail,
		BootID:        comparableBootID(obj.Status.NodeInfo.BootID),
		Released:      releaseOf(obj),
		Pause:         pauseOf(obj),
		Announced:     announcedOn(obj),
		Dressed:       dressed.Boot,
		Conditions:    ownConditions(obj),
		SoftTaints:    softTaints(obj),
	}
}
