package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// dial connects to the cluster and learns who we are in it.
func (p *program) dial(ctx context.Context) (*cycle.Cluster, error) {
	work()
	c, err := kube.Connect(ctx, p.identity())
	if err != nil {
		return nil, err
	}
	p.owner.Store(&owner{c.IsKubelet()})
	joined, err := p.join(c)
	if err != nil {
		c.CloseIdle()
		return nil, err
	}
	return joined, nil
}

func (p *program) identity() kube.Options {
	return kube.Options{Kubeconfig: p.cfg.Kubernetes.Kubeconfig, NodeName: p.cfg.Kubernetes.NodeName, Version: version, OnRequest: p.requests.Observe}
}

// join makes of a connection what the cycle can use. It asks nobody.
func (p *program) join(c *kube.Cluster) (*cycle.Cluster, error) {
	if err := p.fits(c.IsKubelet()); err != nil {
		return nil, err
	}
	object := lock.ConfigMap{Client: c.Client, Namespace: p.cfg.Lock.Namespace, Name: p.cfg.Lock.Name, PolicyName: p.cfg.Lock.Policy}
	turn := &lock.Lock{
		Store:    object,
		Evidence: c,
		Fleet:    lock.Nodes{Client: c.Client, Selector: p.cfg.Lock.NodeSelector},
		Rules:    object,
		Pace:     lock.DefaultPace(),
		Node:     c.NodeName, UID: c.UID, Boot: p.boot, Zone: c.Labels[p.cfg.Lock.TopologyKey],
		Max: p.cfg.Lock.MaxConcurrent, MinReady: p.cfg.Lock.MinReady, CountUnavailable: p.cfg.Lock.CountUnavailable,
		Room: p.cfg.Lock.WaitingRoom, Priority: p.cfg.Lock.Priority,
		Pending: &p.pending,
	}
	self := node.New(c.Client, c.NodeName, p.boot, node.WithDress(p.dress()), node.WithBootTime(p.booted))
	silencer, err := p.silencer(c.NodeName)
	if err != nil {
		return nil, err
	}
	ready, well := p.wellness(self)
	chronicle := node.Chronicle{Node: self, Annotate: p.cfg.Node.StatusAnnotation, Version: version}
	if p.cfg.Node.Events {
		chronicle.Recorder = &p.recorder
	}
	return &cycle.Cluster{
		Node: c.NodeName, UID: c.UID, Turn: turn, Entries: turn,
		Self: self, Pods: drain.PodsOf(c.Client, c.NodeName), Signs: self, Chronicle: chronicle,
		Ready: ready, Well: well, Gates: p.farGates(c, self), Silencer: silencer,
		Close: c.CloseIdle,
	}, nil
}

// dress is what others see on our Node while it reboots.
func (p *program) dress() node.Dress {
	return node.Dress{
		LabelsBefore: p.cfg.Node.LabelsBefore, LabelsAfter: p.cfg.Node.LabelsAfter,
		AnnotationsBefore: p.cfg.Node.AnnotationsBefore, AnnotationsAfter: p.cfg.Node.AnnotationsAfter,
		ExcludeFromLoadBalancers: p.cfg.Node.ExcludeFromLoadBalancers,
		Reason:                   func() string { return strings.Join(sentinel.Read(p.cfg.Sentinel.Paths).Reasons, " ") },
	}
}

// fits refuses what the API server would not let us show on our Node.
func (p *program) fits(kubelet bool) error {
	return node.CheckDress(p.dress(), p.cfg.Node.WaitingTaint, kubelet)
}

// farGates are the gates that need a network, what costs least first.
func (p *program) farGates(c *kube.Cluster, self *node.Node) gate.Set {
	gates := []gate.Gate{gate.NodePause{Node: ownNode{self}, Now: time.Now}}
	if selectors := p.cfg.Gates.BlockingPods; len(selectors) > 0 {
		gates = append(gates, gate.BlockingPods{Pods: c.Client.CoreV1().Pods(""), Node: c.NodeName, Selectors: selectors})
	}
	if namespace, name, ok := strings.Cut(p.cfg.Compat.DaemonSet, "/"); ok {
		gates = append(gates, gate.Rival{
			DaemonSets: c.Client.AppsV1().DaemonSets(namespace), DaemonSet: name, Annotation: p.cfg.Compat.LockAnnotation, Now: time.Now,
		})
	}
	return gate.Set{Gates: append(gates, p.servers...), Recheck: p.recheck()}
}

// ownNode is our Node as a gate asks it.
type ownNode struct{ *node.Node }

func (n ownNode) PauseText(ctx context.Context) (*string, error) {
	s, err := n.Get(ctx)
	return s.Pause, err
}

// wellness is how the node proves after a boot that it is well: before and
// after the hooks.
func (p *program) wellness(self *node.Node) (ready, well []cycle.Proof) {
	ready = []cycle.Proof{{Reason: status.NotReady, Await: self.AwaitReadyReport}}
	if p.cfg.Return.DaemonSets {
		ready = append(ready, cycle.Proof{Reason: status.PodsNotReady, Await: self.AwaitDaemonSets})
	}
	if settle := time.Duration(p.cfg.Return.Settle); settle > 0 {
		well = append(well, cycle.Proof{Reason: status.Settling, Await: func(ctx context.Context, report func(string)) error {
			return self.AwaitStillReady(ctx, settle, report)
		}})
	}
	for _, proof := range p.proofs {
		well = append(well, cycle.Proof{Reason: status.QueryBlocks, Await: func(ctx context.Context, report func(string)) error {
			return awaitQueries(ctx, proof, p.recheck(), report)
		}})
	}
	return ready, well
}

// awaitQueries asks until nothing is wrong any more.
func awaitQueries(ctx context.Context, proof alert.Proof, every time.Duration, report func(string)) error {
	return wait.PollUntilContextCancel(ctx, every, true, func(ctx context.Context) (done bool, err error) {
		wrong := proof.Wrong(ctx)
		if wrong != "" {
			report(wrong)
		}
		return wrong == "", nil
	})
}

// silencer is every silence of this node, nil without one.
func (p *program) silencer(name string) (cycle.Silencer, error) {
	var all silencer
	for _, terms := range p.silences {
		s, err := terms.of(name)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

type silencer []alert.Silence

func (s silencer) Keep(ctx context.Context, reason string, report func(error)) {
	var all sync.WaitGroup
	for _, silence := range s {
		all.Go(func() { silence.Keep(ctx, reason, report) })
	}
	all.Wait()
}

func (s silencer) Expire(ctx context.Context) error {
	var errs []error
	for _, silence := range s {
		errs = append(errs, silence.Expire(ctx))
	}
	return errors.Join(errs...)
}
