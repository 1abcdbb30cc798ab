package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// every is how often kured is asked and the table is looked at.
const every = 100 * time.Millisecond

// observer looks at the nodes from outside: at their power, at the cluster, and at what kured on them answers
// on its control socket.
type observer struct {
	cluster *cluster.Cluster

	mu      sync.Mutex
	answers map[string]answer
	pods    map[types.UID]*corev1.Pod
	fewest  int // ready pods of the guarded workload since observe
	guarded string
	broken  error // the watch of the pods ended
}

// answer is what kured on a node said last.
type answer struct {
	status status.Status
	fresh  bool // it answered when it was last asked
}

// observe starts looking, until ctx ends. The guarded workload is that whose ready pods are counted.
func observe(ctx context.Context, c *cluster.Cluster, guarded string) (*observer, error) {
	o := &observer{cluster: c, answers: make(map[string]answer), pods: make(map[types.UID]*corev1.Pod), guarded: guarded}
	list, err := c.Client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		o.pods[list.Items[i].UID] = &list.Items[i]
	}
	o.fewest = o.ready()
	events, err := c.Client.CoreV1().Pods(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, err
	}
	go o.followPods(ctx, events)
	for _, n := range c.Room.Nodes() {
		o.askOnce(ctx, n)
		go o.ask(ctx, n)
	}
	return o, nil
}

func (o *observer) followPods(ctx context.Context, events watch.Interface) {
	defer events.Stop()
	for event := range events.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			break
		}
		o.mu.Lock()
		if o.pods[pod.UID] = pod; event.Type == watch.Deleted {
			delete(o.pods, pod.UID)
		}
		o.fewest = min(o.fewest, o.ready())
		o.mu.Unlock()
	}
	if ctx.Err() == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.broken = errors.New("the watch of the pods ended early")
	}
}

// ready counts the pods that a PodDisruptionBudget calls healthy.
func (o *observer) ready() int {
	n := 0
	for _, p := range o.pods {
		if p.Labels["app"] != o.guarded || p.DeletionTimestamp != nil {
			continue
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				n++
			}
		}
	}
	return n
}

// fewestReady is the smallest number of ready pods of the guarded workload that there ever was.
func (o *observer) fewestReady() (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fewest, o.broken
}

// ask asks kured on a node again and again.
func (o *observer) ask(ctx context.Context, n *nodes.Node) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.askOnce(ctx, n)
		}
	}
}

// askOnce reaches the control socket through the file system of the node's pid 1, as no process of ours may
// be inside the node while it goes down.
func (o *observer) askOnce(ctx context.Context, n *nodes.Node) {
	var now answer
	if leader, err := n.Leader(); err == nil {
		client := control.Client{Path: fmt.Sprintf("/proc/%d/root%s", leader, control.DefaultPath)}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		s, err := client.Status(ctx)
		cancel()
		now = answer{s, err == nil}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !now.fresh {
		now.status = o.answers[n.Name].status
	}
	o.answers[n.Name] = now
}

// rows are the nodes as they are now.
func (o *observer) rows(systems map[string]string) []row {
	state := o.cluster.Recorder.State()
	o.mu.Lock()
	defer o.mu.Unlock()
	pods := make(map[string]int)
	for _, p := range o.pods {
		pods[p.Spec.NodeName]++
	}
	var rows []row
	for _, n := range o.cluster.Room.Nodes() {
		r := row{name: n.Name, system: systems[n.Name], cordoned: state.IsCordoned(n.Name), pods: pods[n.Name]}
		boots := n.Boots()
		r.look(boots[len(boots)-1], o.answers[n.Name])
		r.ready = r.boot != "" && r.boot == state.BootID(n.Name) && state.IsReady(n.Name)
		if state.Holds(n.Name) {
			r.lock = holds
		}
		rows = append(rows, r)
	}
	return rows
}

// look combines what the firmware knows of the present boot with kured's answer.
func (r *row) look(boot nodes.Boot, a answer) {
	known := a.status.Boot == boot.ID // kured has answered in this boot
	switch {
	case !boot.End.IsZero():
		r.phase = "off"
		return
	case boot.ID == "" || !known:
		r.phase, r.boot = "booting", boot.ID
		return
	case !a.fresh:
		r.phase, r.boot = "shutting down", boot.ID
		return
	}
	r.phase, r.boot, r.detail = string(a.status.Phase), boot.ID, a.status.Detail
	if r.detail == "" {
		r.detail = string(a.status.Reason)
	}
	if q := a.status.Queue; q != nil && q.Place > 0 {
		r.lock = fmt.Sprintf("%d of %d", q.Place, q.Waiting)
	}
}
