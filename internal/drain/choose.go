package drain

import (
	"context"
	"errors"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appsv1client "k8s.io/client-go/kubernetes/typed/apps/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	kubectl "k8s.io/kubectl/pkg/drain"
)

// chooser asks kubectl's drain package, pod by pod, which pods leave: all but mirror pods and the pods of
// DaemonSets that exist, and of those that leave, which would lose something. (Its waiting cannot be used: with a kubelet credential the GET of a pod
// that is gone answers 403. Nor can its EvictPod: it knows no UID precondition, its request is
// retried by client-go up to ten times out of our sight whenever the server sends Retry-After, and
// it takes for success the 201 with which the server says that two budgets select the pod.)
//
// The pods come from the mirror instead of kubectl's own list, and each DaemonSet is read once.
// A chooser is used by one goroutine at a time.
type chooser struct {
	client   kubernetes.Interface
	nodeName string
	selector labels.Selector // Options.PodSelector
	emptyDir PodPolicy
	naked    PodPolicy
	known    map[types.NamespacedName]*appsv1.DaemonSet
}

// verdict is what was chosen for one pod; with err nothing was.
type verdict struct {
	leaves  bool
	stays   string // why it stays, for people
	refused string // it would have to leave, but may not: what it would lose
	err     error
}

// newChooser returns a chooser for these options, which are checked.
func newChooser(client kubernetes.Interface, nodeName string, selector labels.Selector, opts Options) *chooser {
	return &chooser{
		client: client, nodeName: nodeName, selector: selector, emptyDir: opts.EmptyDir, naked: opts.NakedPods,
		known: map[types.NamespacedName]*appsv1.DaemonSet{},
	}
}

// choose decides about every pod given. A DaemonSet that cannot be read leaves its pods undecided.
func (c *chooser) choose(ctx context.Context, pods []*corev1.Pod) map[types.UID]verdict {
	out := make(map[types.UID]verdict, len(pods))
	refused := map[types.NamespacedName]error{}
	for _, pod := range pods {
		out[pod.UID] = c.decide(ctx, pod, refused)
	}
	return out
}

func (c *chooser) decide(ctx context.Context, pod *corev1.Pod, refused map[types.NamespacedName]error) verdict {
	if !c.selector.Matches(labels.Set(pod.Labels)) {
		return verdict{stays: "not selected"}
	}
	leaves, err := c.ask(ctx, pod, refused, func(*kubectl.Helper) {})
	switch {
	case err != nil:
		return verdict{err: err}
	case !leaves:
		return verdict{stays: whyStays(pod)}
	case pod.DeletionTimestamp != nil:
		return verdict{leaves: true} // somebody has decided about it
	}
	// kubectl tells what it minds only in words, so each policy is asked about alone.
	if c.emptyDir == Refuse {
		if _, err := c.ask(ctx, pod, refused, func(h *kubectl.Helper) { h.DeleteEmptyDirData = false }); err != nil {
			return verdict{refused: "it would lose the data of its emptyDir volumes"}
		}
	}
	if c.naked == Refuse {
		if _, err := c.ask(ctx, pod, refused, func(h *kubectl.Helper) { h.Force = false }); err != nil {
			return verdict{refused: "nobody would make it anew"}
		}
	}
	return verdict{leaves: true}
}

// ask asks kubectl about one pod. Unless stricter says otherwise nothing keeps a pod but that
// it belongs to a DaemonSet or is a mirror pod.
func (c *chooser) ask(ctx context.Context, pod *corev1.Pod, refused map[types.NamespacedName]error, stricter func(*kubectl.Helper)) (leaves bool, err error) {
	view := &chooserView{Interface: c.client, chooser: c, pod: pod, refused: refused}
	helper := kubectl.Helper{
		Ctx:                 ctx,
		Client:              view,
		Force:               true, // pods without a controller and of DaemonSets that are gone leave too
		IgnoreAllDaemonSets: true,
		DeleteEmptyDirData:  true,
		GracePeriodSeconds:  -1,
	}
	stricter(&helper)
	list, errs := helper.GetPodsForDeletion(c.nodeName)
	switch {
	case len(errs) == 0:
		return len(list.Pods()) > 0, nil
	case view.err != nil:
		return false, view.err
	}
	return false, errors.Join(errs...)
}

// whyStays says why kubectl lets a pod stay.
func whyStays(pod *corev1.Pod) string {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return "static pod"
	}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		return owner.Kind + " " + owner.Name
	}
	return "kubectl drain would leave it"
}

// daemonSet reads a DaemonSet at most once per drain, and at most once per round if that fails.
func (c *chooser) daemonSet(ctx context.Context, id types.NamespacedName, refused map[types.NamespacedName]error) (*appsv1.DaemonSet, error) {
	if set := c.known[id]; set != nil {
		return set, nil
	}
	if err := refused[id]; err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	set, err := c.client.AppsV1().DaemonSets(id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if err != nil {
		refused[id] = err
		return nil, err
	}
	c.known[id] = set
	return set, nil
}

// chooserView is the cluster as kubectl sees it while it decides about one pod.
type chooserView struct {
	kubernetes.Interface
	chooser *chooser
	pod     *corev1.Pod
	refused map[types.NamespacedName]error
	err     error // of reading the DaemonSet, with its type; kubectl keeps only the text
}

func (v *chooserView) CoreV1() corev1client.CoreV1Interface {
	return viewCore{v.Interface.CoreV1(), v}
}

func (v *chooserView) AppsV1() appsv1client.AppsV1Interface {
	return viewApps{v.Interface.AppsV1(), v}
}

type viewCore struct {
	corev1client.CoreV1Interface
	view *chooserView
}

func (c viewCore) Pods(namespace string) corev1client.PodInterface {
	return viewPods{c.CoreV1Interface.Pods(namespace), c.view}
}

type viewPods struct {
	corev1client.PodInterface
	view *chooserView
}

func (p viewPods) List(context.Context, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{Items: []corev1.Pod{*p.view.pod}}, nil
}

type viewApps struct {
	appsv1client.AppsV1Interface
	view *chooserView
}

func (a viewApps) DaemonSets(namespace string) appsv1client.DaemonSetInterface {
	return viewDaemonSets{a.AppsV1Interface.DaemonSets(namespace), namespace, a.view}
}

type viewDaemonSets struct {
	appsv1client.DaemonSetInterface
	namespace string
	view      *chooserView
}

func (d viewDaemonSets) Get(ctx context.Context, name string, _ metav1.GetOptions) (*appsv1.DaemonSet, error) {
	id := types.NamespacedName{Namespace: d.namespace, Name: name}
	set, err := d.view.chooser.daemonSet(ctx, id, d.view.refused)
	if err != nil {
		if d.view.err = err; !gone(err) {
			err = errors.New(err.Error()) // kubectl takes each 404 for a DaemonSet that is not there
		}
	}
	return set, err
}

// gone reports that the API server itself says that there is no such object, and not something between us and it that knows
// no such page.
func gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
