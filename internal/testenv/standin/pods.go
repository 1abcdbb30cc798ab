package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// A worker runs one pod. Its channel holds the newest state that was seen.
type worker struct {
	latest chan *corev1.Pod
	cancel context.CancelFunc
}

// workers are the pods of the node that are known. They outlive the watch in
// which they were seen first.
type workers struct {
	byUID map[types.UID]worker
	start func(latest <-chan *corev1.Pod) context.CancelFunc
}

// observe hands the newest state of a pod to its worker.
func (w workers) observe(pod *corev1.Pod) {
	one, ok := w.byUID[pod.UID]
	if !ok {
		one.latest = make(chan *corev1.Pod, 1)
		one.cancel = w.start(one.latest)
		w.byUID[pod.UID] = one
	}
	// There is one sender, so what is taken out is older than what is put in.
	select {
	case <-one.latest:
	default:
	}
	one.latest <- pod
}

func (w workers) forget(uid types.UID) {
	if one, ok := w.byUID[uid]; ok {
		one.cancel()
		delete(w.byUID, uid)
	}
}

// watchPods lists and watches the node's pods until ctx ends, and closes known
// after the first list. The goroutines that it starts belong to all.
func (k *Kubelet) watchPods(ctx context.Context, all *sync.WaitGroup, known chan<- struct{}) {
	pods := workers{byUID: map[types.UID]worker{}}
	pods.start = func(latest <-chan *corev1.Pod) context.CancelFunc {
		ctx, cancel := context.WithCancel(ctx)
		all.Go(func() { k.runPod(ctx, latest) })
		return cancel
	}
	for first := true; ; first = false {
		var version string
		if err := k.retry(ctx, "list pods", func(ctx context.Context) (err error) {
			version, err = k.listPods(ctx, pods)
			return err
		}); err != nil {
			return // ctx ended
		}
		if first {
			close(known)
		}
		if err := k.followPods(ctx, pods, version); err != nil {
			k.options.Logger.Warn("watch of pods ended", "error", err)
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return
		}
	}
}

// listPods takes in all pods of the node, and forgets those that are gone.
func (k *Kubelet) listPods(ctx context.Context, pods workers) (version string, err error) {
	list, err := k.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: k.ownPods()})
	if err != nil {
		return "", err
	}
	present := map[types.UID]bool{}
	for i := range list.Items {
		present[list.Items[i].UID] = true
		pods.observe(&list.Items[i])
	}
	for uid := range pods.byUID {
		if !present[uid] {
			pods.forget(uid)
		}
	}
	return list.ResourceVersion, nil
}

// followPods watches from the version on until the watch ends. nil means that
// it ended as watches do.
func (k *Kubelet) followPods(ctx context.Context, pods workers, version string) error {
	events, err := k.client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{FieldSelector: k.ownPods(), ResourceVersion: version})
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		pod, ok := event.Object.(*corev1.Pod)
		switch {
		case !ok:
		case event.Type == watch.Deleted:
			pods.forget(pod.UID)
		default:
			pods.observe(pod)
		}
	}
	return nil
}

func (k *Kubelet) ownPods() string {
	return fields.OneTermEqualSelector("spec.nodeName", k.options.NodeName).String()
}

// runPod is the life of one pod on this node, until it is removed or gone.
func (k *Kubelet) runPod(ctx context.Context, latest <-chan *corev1.Pod) {
	var (
		pod            *corev1.Pod
		now            containers
		seen, running  bool
		stopping       time.Time        // when the deletion was first seen
		becomes, stops <-chan time.Time // Ready, and stopped
	)
	for {
		select {
		case <-ctx.Done():
			return
		case pod = <-latest:
		case <-becomes:
			becomes, now.ready = nil, true
			k.report(ctx, pod, now)
			continue
		case <-stops:
			k.remove(ctx, pod)
			return
		}
		if !seen && !k.newBoot {
			// A restarted kubelet finds the containers as they were.
			now, running = foundContainers(pod)
		}
		seen = true
		switch {
		case pod.DeletionTimestamp != nil:
			if stopping.IsZero() {
				stopping = time.Now()
			}
			becomes = nil
			if !running {
				stops = time.After(0)
			} else if after, ok := k.stopTime(pod); ok {
				stops = time.After(time.Until(stopping.Add(after)))
			}
		case !running && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
			running = true
			after := k.duration(pod, ReadyAfterAnnotation, 0)
			now = k.startContainers(pod, after == 0)
			k.report(ctx, pod, now)
			if after > 0 {
				becomes = time.After(after)
			}
		case running && now.ready && !isReady(pod):
			// The node controller says so of every pod of a Node that is not
			// Ready; the kubelet, which knows better, corrects it.
			k.report(ctx, pod, now)
		}
	}
}

// stopTime is how long the pod takes from its deletion to its end; not ok means
// that it does not end by itself.
func (k *Kubelet) stopTime(pod *corev1.Pod) (after time.Duration, ok bool) {
	if pod.Annotations[NeverStopsAnnotation] == "true" {
		return 0, false
	}
	after = k.duration(pod, StopAfterAnnotation, k.options.StopAfter)
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		after = min(after, time.Duration(*grace)*time.Second)
	}
	return after, true
}

func (k *Kubelet) duration(pod *corev1.Pod, annotation string, otherwise time.Duration) time.Duration {
	text, ok := pod.Annotations[annotation]
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		k.options.Logger.Error("unreadable annotation", "pod", podName(pod), "annotation", annotation, "error", err)
		return otherwise
	}
	return d
}

func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// containers are the state of a pod's containers, which all have the same.
type containers struct {
	started  metav1.Time
	restarts int32
	ip       string
	ready    bool
}

// foundContainers are those of a pod that was Ready when the kubelet restarted.
func foundContainers(pod *corev1.Pod) (containers, bool) {
	status := pod.Status
	if status.Phase != corev1.PodRunning || len(status.ContainerStatuses) == 0 || !status.ContainerStatuses[0].Ready {
		return containers{}, false
	}
	c := containers{restarts: status.ContainerStatuses[0].RestartCount, ip: status.PodIP, ready: true}
	if status.StartTime != nil {
		c.started = *status.StartTime
	}
	return c, true
}

// startContainers starts them for the first time or after a reboot. A pod keeps
// its address, unlike a real one.
func (k *Kubelet) startContainers(pod *corev1.Pod, ready bool) containers {
	c := containers{started: metav1.Now(), ip: pod.Status.PodIP, ready: ready}
	if c.ip == "" {
		c.ip = k.addresses.next()
	}
	if before := pod.Status.ContainerStatuses; len(before) > 0 {
		c.restarts = before[0].RestartCount + 1
	}
	return c
}

// report says that the pod runs.
func (k *Kubelet) report(ctx context.Context, pod *corev1.Pod, is containers) {
	condition := func(kind corev1.PodConditionType, value bool) corev1.PodCondition {
		status := corev1.ConditionFalse
		if value {
			status = corev1.ConditionTrue
		}
		return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.Now()}
	}
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &is.started,
		HostIP: k.options.NodeIP, HostIPs: []corev1.HostIP{{IP: k.options.NodeIP}},
		PodIP: is.ip, PodIPs: []corev1.PodIP{{IP: is.ip}},
		Conditions: []corev1.PodCondition{
			condition(corev1.PodInitialized, true), condition(corev1.PodReadyToStartContainers, true),
			condition(corev1.ContainersReady, is.ready), condition(corev1.PodReady, is.ready),
		},
	}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: "standin://" + container.Image,
			ContainerID: fmt.Sprintf("standin://%s/%s/%d", pod.UID, container.Name, is.restarts),
			Ready:       is.ready, Started: &is.ready, RestartCount: is.restarts,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: is.started}},
		})
	}
	// The uid keeps the patch from another pod with this name, as the kubelet does.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		k.options.Logger.Error("cannot encode a pod's status", "pod", podName(pod), "error", err)
		return
	}
	k.change(ctx, "start pod "+podName(pod), pod, func(ctx context.Context, pods typedcorev1.PodInterface) error {
		_, err := pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
}

// remove says that the pod has stopped, which lets the API server delete it. An
// answer that there is no such pod is not believed, because NodeRestriction
// looks for the pod in a cache that lags behind when the API server has just
// been started: our own watch says when the pod is gone, and that ends ctx.
func (k *Kubelet) remove(ctx context.Context, pod *corev1.Pod) {
	what := "remove pod " + podName(pod)
	err := k.retry(ctx, what, func(ctx context.Context) error {
		err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
		if apierrors.IsInvalid(err) {
			return done{err}
		}
		return err
	})
	k.told(what, err)
}

// change does something to the pod, again and again until it works or the pod
// is no more.
func (k *Kubelet) change(ctx context.Context, what string, pod *corev1.Pod, do func(context.Context, typedcorev1.PodInterface) error) {
	pods := k.client.CoreV1().Pods(pod.Namespace)
	err := k.retry(ctx, what, func(ctx context.Context) error {
		err := do(ctx, pods)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
			return done{err}
		}
		return err
	})
	k.told(what, err)
}

// told logs how a change ended.
func (k *Kubelet) told(what string, err error) {
	switch {
	case err == nil:
		k.options.Logger.Info(what)
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), errors.Is(err, context.Canceled):
	default:
		k.options.Logger.Error("cannot "+what, "error", err)
	}
}
