package testenv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/testenv/standin"
)

// A Node is a machine of the cluster whose kubelet, a stand-in, runs in this
// process. Its methods may be used by many goroutines at once.
type Node struct {
	// Credential is the kubelet's own.
	Credential Credential

	mu      sync.Mutex // guards what follows
	options standin.Options
	kubelet *standin.Kubelet
	stop    context.CancelFunc // nil while the power is off
	stopped <-chan error       // holds what Run returned
}

// StartNode issues the credential of the node and boots it; the options' Config
// and BootID are set here. It returns when the Node is Ready and, where there
// are controllers, when they have let pods onto it.
func (cp *ControlPlane) StartNode(ctx context.Context, options standin.Options) (*Node, error) {
	credential, err := cp.NodeCredential(options.NodeName)
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", options.NodeName, err)
	}
	options.Config = credential.Config()
	n := &Node{Credential: credential, options: options}
	if err := n.PowerOn(); err != nil {
		return nil, err
	}
	err = n.AwaitReady(ctx)
	if err == nil && cp.options.Controllers {
		err = cp.awaitUntainted(ctx, options.NodeName)
	}
	if err != nil {
		return nil, errors.Join(err, n.PowerOff())
	}
	return n, nil
}

// awaitUntainted waits for the node controller, which takes the taint not-ready
// away a moment after the Node is Ready.
func (cp *ControlPlane) awaitUntainted(ctx context.Context, name string) error {
	for {
		node, err := cp.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("await the taints of node %s: %w", name, err)
		}
		tainted := func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }
		if !slices.ContainsFunc(node.Spec.Taints, tainted) {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("node %s keeps its taint not-ready: %w", name, context.Cause(ctx))
		}
	}
}

// NewNode starts a node that is powered off at the end of the test.
func NewNode(t testing.TB, cp *ControlPlane, options standin.Options) *Node {
	t.Helper()
	n, err := cp.StartNode(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.PowerOff(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Name is the Node's name.
func (n *Node) Name() string { return n.options.NodeName }

// BootID is the id of this boot, or of the last one while the power is off, in
// the kernel's form with dashes.
func (n *Node) BootID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.options.BootID
}

// PowerOff ends the kubelet and all pods without a word to the API server. It
// does nothing when the power is off.
func (n *Node) PowerOff() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopKubelet()
}

// PowerOn boots the node with a new boot id, and does not wait for it.
func (n *Node) PowerOn() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.boot()
}

// Reboot is PowerOff and PowerOn.
func (n *Node) Reboot() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.stopKubelet(); err != nil {
		return err
	}
	return n.boot()
}

// RestartKubelet restarts the kubelet without a reboot: the boot id stays, and
// the pods keep running.
func (n *Node) RestartKubelet() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.stopKubelet(); err != nil {
		return err
	}
	return n.startKubelet()
}

// AwaitReady returns when the kubelet that was started last has reported the
// Node Ready.
func (n *Node) AwaitReady(ctx context.Context) error {
	n.mu.Lock()
	kubelet := n.kubelet
	n.mu.Unlock()
	select {
	case <-kubelet.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("node %s is not ready: %w", n.Name(), context.Cause(ctx))
	}
}

func (n *Node) boot() error {
	n.options.BootID = standin.NewBootID()
	return n.startKubelet()
}

func (n *Node) startKubelet() error {
	if n.stop != nil {
		return fmt.Errorf("node %s: the power is on already", n.Name())
	}
	kubelet, err := standin.New(n.options)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- kubelet.Run(ctx) }()
	n.kubelet, n.stop, n.stopped = kubelet, stop, stopped
	return nil
}

func (n *Node) stopKubelet() error {
	if n.stop == nil {
		return nil
	}
	n.stop()
	n.stop = nil
	return <-n.stopped
}
