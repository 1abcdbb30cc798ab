// Package standin is a stand-in for the kubelet, for tests and the
// demonstration only: it is a fake, because a real kubelet needs a container
// runtime and cannot run there. Towards the API server it behaves as a kubelet
// does, with a kubelet's own credential and so under the Node authorizer and
// NodeRestriction; on its machine it does nothing.
//
// What it does: it registers its Node, keeps its status and its Lease fresh,
// reports the boot id, runs the pods that are bound to it, and lets deleted
// pods stop for as long as they ask for. After a reboot, that is when it is
// started with another boot id, pods that were on the node run again, and pods
// that were being deleted are gone.
//
// What it does not: containers, images, volumes, probes, static pods, node
// pressure, pod admission, device plugins, the kubelet's own server. It reports
// no intermediate status of a pod that stops.
package standin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Annotations by which a pod tells the stand-in how to behave. Durations are
// written as time.ParseDuration reads them.
const (
	// StopAfterAnnotation is how long the pod takes to stop; its grace period
	// is the limit, as for a real one.
	StopAfterAnnotation = "standin.kured.dev/stop-after"
	// NeverStopsAnnotation, set to "true", keeps the deleted pod Terminating
	// beyond its grace period, until the node reboots or somebody deletes it
	// with a grace period of 0.
	NeverStopsAnnotation = "standin.kured.dev/never-stops"
	// ReadyAfterAnnotation is how long the pod runs before it is Ready.
	ReadyAfterAnnotation = "standin.kured.dev/ready-after"
)

// Options describes one node. Config, NodeName and BootID have no default.
type Options struct {
	// Config holds the credential of system:node:NODENAME.
	Config *rest.Config
	// NodeName is the Node's name; it is not compared with the credential, the
	// API server does that.
	NodeName string
	// BootID is reported as nodeInfo.bootID, in the form in which it is given.
	// A real kubelet reports /proc/sys/kernel/random/boot_id, with dashes.
	BootID string
	// NodeIP is the reported address. Default 127.0.0.1.
	NodeIP string
	// Labels are set when the Node is created, beside the kubelet's own ones.
	Labels map[string]string
	// Heartbeat is the time between two renewals of the Lease and between two
	// reports of the status. Default 10 s. (A real kubelet renews the Lease
	// every 10 s and reports an unchanged status every 5 minutes.)
	Heartbeat time.Duration
	// ReadyAfter is how long the Node is not Ready after the start.
	ReadyAfter time.Duration
	// StopAfter is how long a pod without the annotation takes to stop.
	// Default 100 ms.
	StopAfter time.Duration
	// MaxPods is the reported capacity. Default 110.
	MaxPods int64
	// Logger is told what happens to pods, and of errors. Default: nobody.
	Logger *slog.Logger
}

// A Kubelet is the stand-in of one kubelet process: it is run once.
type Kubelet struct {
	options Options
	client  kubernetes.Interface
	started time.Time
	ready   chan struct{} // closed when the node is Ready and its pods are known

	// Written by register, before anything else runs.
	nodeUID    types.UID
	readySince time.Time // since when the Ready condition is what it is
	newBoot    bool      // no pod of before can be running

	addresses ipCounter
}

// New checks the options. Nothing is sent before Run.
func New(options Options) (*Kubelet, error) {
	if options.Config == nil || options.NodeName == "" || options.BootID == "" {
		return nil, errors.New("stand-in kubelet: configuration, node name and boot id are needed")
	}
	if options.NodeIP == "" {
		options.NodeIP = "127.0.0.1"
	}
	if options.Heartbeat == 0 {
		options.Heartbeat = 10 * time.Second
	}
	if options.StopAfter == 0 {
		options.StopAfter = 100 * time.Millisecond
	}
	if options.MaxPods == 0 {
		options.MaxPods = 110
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	options.Logger = options.Logger.With("node", options.NodeName)
	config := rest.CopyConfig(options.Config)
	// A limit on the fake would be measured as slowness of what is tested.
	config.QPS = -1
	if config.UserAgent == "" {
		config.UserAgent = "kured-standin-kubelet"
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("stand-in kubelet: %w", err)
	}
	return &Kubelet{
		options: options, client: client, ready: make(chan struct{}), addresses: ipCounter{node: options.NodeName},
	}, nil
}

// Run registers the node and works until ctx ends; it then returns nil and
// leaves everything as it is, as a kubelet that crashes does. An API server
// that cannot be reached is waited for.
func (k *Kubelet) Run(ctx context.Context) error {
	k.started = time.Now()
	if err := k.retry(ctx, "register", k.register); err != nil {
		return k.end(ctx, err)
	}
	nodeReady, podsKnown := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { k.keepLease(ctx) })
	all.Go(func() { k.keepStatus(ctx, nodeReady) })
	all.Go(func() { k.watchPods(ctx, &all, podsKnown) })
	for _, condition := range []chan struct{}{nodeReady, podsKnown} {
		select {
		case <-condition:
		case <-ctx.Done():
			all.Wait()
			return nil
		}
	}
	close(k.ready)
	all.Wait()
	return nil
}

// end tells an end that was asked for from one that was not.
func (k *Kubelet) end(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("stand-in kubelet of %s: %w", k.options.NodeName, err)
}

// Ready is closed when the node was reported Ready and the pods that are bound
// to it are known.
func (k *Kubelet) Ready() <-chan struct{} { return k.ready }

// NewBootID makes a random boot id in the kernel's form, as after a reboot.
func NewBootID() string {
	var b [16]byte
	// Never fails since Go 1.24.
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// done marks an error after which trying again makes no sense.
type done struct{ error }

// retry calls try until it succeeds, with pauses of 0.1 s growing to 1 s. It
// ends early only when ctx ends or try says that it is done; then it returns
// the last error. A try has 10 s, as long as a paused API server may be quiet.
func (k *Kubelet) retry(ctx context.Context, what string, try func(context.Context) error) error {
	pause := 100 * time.Millisecond
	for failed := false; ; failed = true {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := try(limited)
		cancel()
		if err == nil {
			if failed {
				k.options.Logger.Info("works again", "what", what)
			}
			return nil
		}
		if d := (done{}); errors.As(err, &d) {
			return d.error
		}
		if ctx.Err() != nil {
			return err
		}
		if !failed {
			k.options.Logger.Warn("failed, trying again", "what", what, "error", err)
		}
		// The random part keeps many nodes from coming back in step.
		if !sleep(ctx, pause/2+mathrand.N(pause/2)) {
			return err
		}
		pause = min(2*pause, time.Second)
	}
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// An ipCounter hands out pod addresses that differ on a node and usually
// between nodes. Nothing listens on them.
type ipCounter struct {
	node string
	mu   sync.Mutex
	used uint16
}

func (c *ipCounter) next() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used++
	hash := fnv.New32a()
	// A hash never fails to be written to.
	_, _ = hash.Write([]byte(c.node))
	return fmt.Sprintf("10.%d.%d.%d", 128+hash.Sum32()%128, c.used/250, 1+c.used%250)
}
