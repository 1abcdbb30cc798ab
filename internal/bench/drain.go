package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	kubectl "k8s.io/kubectl/pkg/drain"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// The time that the pods of a measured drain take to stop is spread between these.
const (
	quickest = 10 * time.Second
	slowest  = 20 * time.Second
)

// drained is what one drain cost.
type drained struct {
	took              time.Duration
	evictions, others int
}

// drains lets kured and kubectl drain the same pods, one after the other.
func (s *stage) drains(ctx context.Context, pods int) ([]figure, error) {
	own, err := s.measureDrain(ctx, "node-drain-kured", pods, s.drainAsKured)
	if err != nil {
		return nil, fmt.Errorf("kured: %w", err)
	}
	peer, err := s.measureDrain(ctx, "node-drain-kubectl", pods, s.drainAsKubectl)
	if err != nil {
		return nil, fmt.Errorf("kubectl: %w", err)
	}
	name := fmt.Sprintf("drain of %d pods that stop in %.0f to %.0f s", pods, quickest.Seconds(), slowest.Seconds())
	return []figure{
		atMost(name, (slowest+time.Second).Seconds(), own.took.Seconds(), "%.1f s").
			against(own.took.Seconds(), peer.took.Seconds(), "%.1f s"),
		atMost("the same drain: requests beside the evictions", 6, float64(own.others), "%.0f").
			against(float64(own.others), float64(peer.others), "%.0f"),
		figure{name: "the same drain: evictions", measured: fmt.Sprint(own.evictions), verdict: noBudget}.
			against(float64(own.evictions), float64(peer.evictions), "%.0f"),
	}, nil
}

// measureDrain drains a new node on which so many pods run, and two of DaemonSets.
// do returns the time and the user whose requests are counted.
func (s *stage) measureDrain(ctx context.Context, name string, pods int,
	do func(ctx context.Context, node *testenv.Node) (took time.Duration, count testenv.RequestFilter, err error),
) (drained, error) {
	n, err := s.plane.StartNode(ctx, standin.Options{NodeName: name})
	if err != nil {
		return drained{}, err
	}
	defer func() { _ = n.PowerOff() }() // a stand-in: nothing is lost
	if err := s.runPods(ctx, name, pods, slowToStop(pods, quickest, slowest)); err != nil {
		return drained{}, err
	}
	if err := s.runDaemonSetPod(ctx, name); err != nil {
		return drained{}, err
	}
	took, count, err := do(ctx, n)
	if err != nil {
		return drained{}, err
	}
	left, err := s.plane.Admin().CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: onNode(name)})
	if err != nil {
		return drained{}, err
	}
	if len(left.Items) != 1 {
		return drained{}, fmt.Errorf("%d pods are left instead of the one of the DaemonSet", len(left.Items))
	}
	requests, err := s.plane.Requests(count)
	if err != nil {
		return drained{}, err
	}
	d := drained{took: took}
	for _, r := range requests {
		switch {
		case r.UserAgent == standinAgent:
		case r.Subresource == "eviction":
			d.evictions++
		default:
			d.others++
		}
	}
	return d, nil
}

// standinAgent is how the stand-in kubelet, which has the node's credential too, names itself.
const standinAgent = "kured-standin-kubelet"

func (s *stage) drainAsKured(ctx context.Context, n *testenv.Node) (time.Duration, testenv.RequestFilter, error) {
	count := testenv.RequestFilter{User: testenv.NodeSubject(n.Name()).User}
	c, err := connect(ctx, s.plane, n.Name())
	if err != nil {
		return 0, count, err
	}
	defer c.CloseIdle()
	count.Since = time.Now()
	result := drain.PodsOf(c.Client, c.NodeName).Drain(ctx, drain.Options{GracePeriod: -1}, nil)
	if !result.Drained {
		return 0, count, errors.New(result.String())
	}
	return result.Took, count, nil
}

// drainAsKubectl does what "kubectl drain --force --ignore-daemonsets --delete-emptydir-data" does, with an
// administrator's credential, the options of kubectl's command and its limit of requests: kubectl sets none
// (but for discovery), so that client-go's default of 5 a second, 10 at once, holds.
func (s *stage) drainAsKubectl(ctx context.Context, n *testenv.Node) (time.Duration, testenv.RequestFilter, error) {
	count := testenv.RequestFilter{User: "kubectl"}
	credential, err := s.plane.Issue(testenv.Subject{User: count.User, Groups: []string{"system:masters"}})
	if err != nil {
		return 0, count, err
	}
	client, err := kubernetes.NewForConfig(credential.Config())
	if err != nil {
		return 0, count, err
	}
	helper := &kubectl.Helper{
		Ctx: ctx, Client: client, Out: io.Discard, ErrOut: io.Discard,
		Force: true, IgnoreAllDaemonSets: true, DeleteEmptyDirData: true,
		GracePeriodSeconds: -1, ChunkSize: 500, EvictErrorRetryDelay: 5 * time.Second,
	}
	count.Since = time.Now()
	err = kubectl.RunNodeDrain(helper, n.Name())
	return time.Since(count.Since), count, err
}

// slowToStop spreads the time that the pods take to stop evenly.
func slowToStop(pods int, from, to time.Duration) func(int) map[string]string {
	return func(i int) map[string]string {
		after := to
		if pods > 1 {
			after = from + (to-from)*time.Duration(i)/time.Duration(pods-1)
		}
		return map[string]string{standin.StopAfterAnnotation: after.String()}
	}
}

func onNode(name string) string { return fields.OneTermEqualSelector("spec.nodeName", name).String() }

// runPods binds so many pods to the node and waits until they run.
func (s *stage) runPods(ctx context.Context, node string, count int, annotations func(int) map[string]string) error {
	all, working := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for i := range count {
		all.Go(func() error { return s.createPod(working, node, fmt.Sprintf("pod-%03d", i), annotations(i), nil) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return s.awaitPods(ctx, node)
}

// runDaemonSetPod makes a DaemonSet, for which no controller runs, and its pod on the node.
func (s *stage) runDaemonSetPod(ctx context.Context, node string) error {
	labels := map[string]string{"app": "agent"}
	set, err := s.plane.Admin().AppsV1().DaemonSets(metav1.NamespaceDefault).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent-" + node},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec("")},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	owner := metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))
	if err := s.createPod(ctx, node, "agent", nil, owner); err != nil {
		return err
	}
	return s.awaitPods(ctx, node)
}

func podSpec(node string) corev1.PodSpec {
	grace := int64(30)
	return corev1.PodSpec{
		NodeName: node, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "main", Image: "none"}},
	}
}

func (s *stage) createPod(ctx context.Context, node, name string, annotations map[string]string, owner *metav1.OwnerReference) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: node + "-" + name, Annotations: annotations}, Spec: podSpec(node)}
	if owner != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	_, err := s.plane.Admin().CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, pod, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%w (two measurements use one node)", err)
	}
	return err
}

// awaitPods waits until every pod on the node is Ready.
func (s *stage) awaitPods(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		list, err := s.plane.Admin().CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: onNode(node)})
		if err != nil {
			return err
		}
		waiting := 0
		for i := range list.Items {
			if list.Items[i].Status.Phase != corev1.PodRunning {
				waiting++
			}
		}
		if waiting == 0 {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%d pods of %s do not run", waiting, node)
		}
	}
}

// store is the lock as this subject sees it.
func (s *stage) store(subject testenv.Subject) (lock.Store, error) {
	credential, err := s.plane.Issue(subject)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(credential.Config())
	return lock.ConfigMap{Client: client, Namespace: lockNamespace, Name: lockName}, err
}
