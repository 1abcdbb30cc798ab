// Package drain moves the pods off this machine's Node: which of them leave, in which order, how fast they are asked, what holds
// them up, and what happens when the time is over. It says beforehand what it would do, and waits afterwards until the volumes
// are gone. The rules are those of plan, which is pure.
//
// It is written for the kubelet's own credential (Node authorizer and NodeRestriction): pods are selected by spec.nodeName,
// none is ever fetched by its name (such a GET answers 403 once the pod is gone), and the one right beyond that is
// "get daemonsets", which kubectl's choice of pods needs.
//
// Nothing here logs. Whatever a person should know is in the returned error, Progress, Result or Report.
package drain

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/mirror"
)

// Pods are the pods of one Node. They hold no state of the cluster: every method reads anew. The methods may be called at the same
// time from several goroutines.
type Pods struct {
	client kubernetes.Interface
	node   string
}

// PodsOf returns the pods of the Node of that name.
func PodsOf(client kubernetes.Interface, node string) *Pods {
	return &Pods{client: client, node: node}
}

// requestTimeout bounds one request, so that an API server that swallows packets is an error that is
// seen and retried and not a wait without end.
const requestTimeout = 30 * time.Second

// evictionsAtOnce bounds the evictions and deletions that are on their way at the same time.
const evictionsAtOnce = 16

// Drain moves the pods away that kubectl drain --ignore-daemonsets --delete-emptydir-data --force would,
// by evictions that carry the pod's UID, and waits until they are gone; opts says which of them, and in which
// order. The Node should be cordoned. Whether it still is, Drain does not look: Progress.Came
// tells that pods come.
//
// One list and one watch of the Node's pods tell what is there; no pod is read by its name. Beside the
// evictions and these two, each DaemonSet with pods here is read once. Nothing is evicted before it
// is known of all pods whether they stay, and whether they may be evicted. A pod whose eviction a
// PodDisruptionBudget refuses is asked again after 5 s, then 10, 20, 30, with jitter on top. An API
// server that does not answer is waited for: nothing is lost, the drain goes on when it is back.
//
// The drain ends drained, when its time is up, when ctx ends, at once if there are pods that may not be
// evicted, or after a minute when the API server refuses to say which pods stay. With the policy Force it
// does not end when its time is up: all pods that are left are deleted, which no budget prevents, and get their
// grace period and a minute more to go. Then it ends drained, and Result names those that did not go.
//
// report, if not nil, is called from this goroutine with the state of things each time a person would
// see a difference.
func (p *Pods) Drain(ctx context.Context, opts Options, report func(Progress)) Result {
	begun := time.Now()
	selector, err := opts.checked()
	if err != nil {
		return Result{Err: err}
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if report == nil {
		report = func(Progress) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &drainer{
		Pods:     p,
		plan:     newPlan(opts, rand.Float64),
		here:     mirror.OfPods(p.client, p.node),
		chooser:  newChooser(p.client, p.node, selector, opts),
		end:      begun.Add(opts.Timeout),
		force:    opts.OnTimeout == Force,
		report:   report,
		answers:  make(chan answer, evictionsAtOnce),
		verdicts: make(chan map[types.UID]verdict, 1),
	}
	d.group.Go(func() { d.here.Run(ctx) })
	err = d.run(ctx)
	cancel()
	d.group.Wait()
	return Result{
		Progress: d.plan.progress(time.Now(), err != nil),
		Drained:  err == nil,
		Err:      err,
		Took:     time.Since(begun),
	}
}

// drainer does what the plan says. Only run touches the plan.
type drainer struct {
	*Pods
	plan    *plan
	here    *mirror.Mirror[*corev1.Pod]
	chooser *chooser
	end     time.Time // when the time is up
	force   bool      // and what then
	report  func(Progress)

	group    sync.WaitGroup
	sending  int
	choosing bool
	answers  chan answer
	verdicts chan map[types.UID]verdict
}

type answer struct {
	uid types.UID
	err error
}

// run returns nil when the Node is drained, else why it stopped.
func (d *drainer) run(ctx context.Context) error {
	var shown Progress
	timer := time.NewTimer(0)
	defer timer.Stop()
	over := time.NewTimer(time.Until(d.end))
	defer over.Stop()
	for {
		now := time.Now()
		d.plan.lapse(now)
		d.start(ctx, now)
		if p := d.plan.progress(now, false); !p.same(shown) {
			d.report(p)
			shown = p
		}
		if d.plan.drained(now) {
			return nil
		}
		if err := d.plan.hopeless(now); err != nil {
			return err
		}
		timer.Stop()
		if wake := d.plan.wake(now); !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over.C:
			if !d.force || !d.plan.force(time.Now()) {
				return ErrTimeout
			}
		case <-timer.C:
		case <-d.here.Changed():
			pods, synced, trouble := d.here.Snapshot()
			d.plan.observe(pods, synced, trouble, time.Now())
		case v := <-d.verdicts:
			d.choosing = false
			d.plan.decide(v, time.Now())
		case a := <-d.answers:
			d.sending--
			d.plan.answered(a.uid, a.err, time.Now())
		}
	}
}

// start begins what is due. The channels hold every answer, so that nobody waits for run.
func (d *drainer) start(ctx context.Context, now time.Time) {
	if !d.choosing {
		if pods := d.plan.undecided(now); len(pods) > 0 {
			d.choosing = true
			d.group.Go(func() { d.verdicts <- d.chooser.choose(ctx, pods) })
		}
	}
	for _, pod := range d.plan.due(now, evictionsAtOnce-d.sending) {
		d.sending++
		send := d.evict
		if d.plan.byForce() {
			send = d.remove
		}
		grace := d.plan.grace
		d.group.Go(func() { d.answers <- answer{pod.UID, send(ctx, pod, grace)} })
	}
}

// evict sends one eviction, once. Without the UID an eviction could hit a pod of the same name that a
// StatefulSet has made meanwhile. The typed client is not used because it would retry by itself, up to ten
// times, when the server sends Retry-After.
func (p *Pods) evict(ctx context.Context, pod *corev1.Pod, grace int64) error {
	return p.postEviction(ctx, pod, deleteOptions(pod, grace))
}

func (p *Pods) postEviction(ctx context.Context, pod *corev1.Pod, opts *metav1.DeleteOptions) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: opts,
	}
	// Get, because it also looks into the body: a pod that two budgets select is answered 201 with a
	// Status in it that says failure.
	_, err := p.client.CoreV1().RESTClient().Post().
		Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("eviction").
		Body(eviction).MaxRetries(0).Do(ctx).Get()
	return err
}

// remove deletes the pod, once, whatever budget selects it. The rest is as in evict.
func (p *Pods) remove(ctx context.Context, pod *corev1.Pod, grace int64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return p.client.CoreV1().RESTClient().Delete().
		Namespace(pod.Namespace).Resource("pods").Name(pod.Name).
		Body(deleteOptions(pod, grace)).MaxRetries(0).Do(ctx).Error()
}

// deleteOptions are for this very pod. grace is in seconds; negative: the pod's own.
func deleteOptions(pod *corev1.Pod, grace int64) *metav1.DeleteOptions {
	opts := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}}
	if grace >= 0 {
		opts.GracePeriodSeconds = &grace
	}
	return opts
}
