package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv"
)

// Options describes a cluster to be.
type Options struct {
	// Nodes are by default three: node-a on Debian 11, node-b on 12, node-c on 13.
	Nodes []nodes.Spec
	// Config is what /etc/kured/kured.toml holds on every node. Empty: what the package ships, untouched.
	Config string
	// WithoutKured leaves the nodes without kured, for tests that install it themselves.
	WithoutKured bool
	// WithoutManifests leaves the cluster without lock, rights and wall, for tests that apply them themselves.
	WithoutManifests bool
	// Out is told what happens. Default: standard error.
	Out io.Writer
}

// Cluster is nodes and a control plane. What Build makes must have been made.
type Cluster struct {
	Room     *nodes.Room
	Plane    *testenv.ControlPlane
	Client   kubernetes.Interface // as administrator
	Recorder *Recorder

	config string
	out    io.Writer
	cancel context.CancelFunc
}

// QuickConfig shortens what would otherwise take minutes, and changes nothing else.
const QuickConfig = `[sentinel]
settle = "200ms"
[drain]
timeout = "20s"
[reboot]
max_per_day = 48
confirm_within = "10s"
[retry]
initial = "3s"
max = "6s"
`

// quickRestart lets systemd try again sooner than on a real node.
const quickRestart = "[Service]\nRestartSec=500ms\n"

// Units are kured's own services and the kubelet, for journals.
func Units() []string {
	return []string{"kured.service", "kured-uncordon.service", "kubelet.service"}
}

// Start boots the nodes, starts the control plane on the nodes' bridge, joins them, installs kured on all
// and returns when all is at rest. It must run in the namespaces of nodes.Main.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if o.Out == nil {
		o.Out = os.Stderr
	}
	if o.Nodes == nil {
		o.Nodes = []nodes.Spec{
			{Name: "node-a", Image: nodes.Debian11},
			{Name: "node-b", Image: nodes.Debian12},
			{Name: "node-c", Image: nodes.Debian13},
		}
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &Cluster{config: o.Config, out: o.Out, cancel: cancel}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.Room, err = nodes.NewRoom(ctx, o.Out); err != nil {
		return nil, err
	}
	if err := c.share(); err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := c.startPlane(groupCtx); err != nil || o.WithoutManifests {
			return err
		}
		return c.applyManifests(groupCtx)
	})
	group.Go(func() error {
		if _, err := c.Room.Add(groupCtx, o.Nodes...); err != nil {
			return err
		}
		return c.Room.WaitBooted(groupCtx)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if c.Recorder, err = Record(background, c.Client); err != nil {
		return nil, err
	}
	if err := c.Join(ctx, c.Room.Nodes()...); err != nil {
		return nil, err
	}
	if o.WithoutKured {
		return c, nil
	}
	return c, c.each(c.Room.Nodes(), func(n *nodes.Node) error { return c.Install(ctx, n) })
}

// share puts into the nodes' common directory what they install and run.
func (c *Cluster) share() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if _, err := copyFile(filepath.Join(root, buildDir, standinName), c.Room.Share, 0o755); err != nil {
		return fmt.Errorf("stand-in kubelet (Build makes it): %w", err)
	}
	return nil
}

func (c *Cluster) startPlane(ctx context.Context) (err error) {
	c.Plane, err = testenv.Start(ctx, testenv.Options{
		BindAddress: nodes.HostAddr().String(), ServerNames: []string{"control-plane"},
		Controllers: true, Scheduler: true, Audit: true, Progress: c.out,
	})
	if err != nil {
		return err
	}
	c.Client = c.Plane.Admin()
	return nil
}

func (c *Cluster) applyManifests(ctx context.Context) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	for _, name := range []string{"kured.yaml", "wall.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "packaging/kubernetes", name))
		if err != nil {
			return err
		}
		if err := c.Plane.Apply(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Close ends everything.
func (c *Cluster) Close() error {
	c.cancel()
	var errs []error
	if c.Plane != nil {
		errs = append(errs, c.Plane.Err())
		c.Plane.Stop()
	}
	if c.Room != nil {
		errs = append(errs, c.Room.Close())
	}
	return errors.Join(errs...)
}

// Node returns the node of that name, which must exist.
func (c *Cluster) Node(name string) *nodes.Node {
	for _, n := range c.Room.Nodes() {
		if n.Name == name {
			return n
		}
	}
	panic("no node " + name)
}

func (c *Cluster) each(all []*nodes.Node, do func(*nodes.Node) error) error {
	var group errgroup.Group
	for _, n := range all {
		group.Go(func() error { return do(n) })
	}
	return group.Wait()
}

// DumpOnFailure makes a test that fails from here on show what happened since, in the cluster and on its
// nodes.
func (c *Cluster) DumpOnFailure(t nodes.TB, name string) {
	from := c.Recorder.Now()
	c.Room.DumpOnFailure(t, name, Units()...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the cluster since the test began:\n%s", c.Recorder.Since(from))
			t.Logf("end of the API server's log:\n%s", c.Plane.LogTail(testenv.APIServer, 10))
		}
	})
}

// AtRest waits until every node is up and Ready from its present boot, nobody wants or holds the lock, no
// node bears kured's mark, and kured runs everywhere.
func (c *Cluster) AtRest(ctx context.Context) error {
	boots := make(map[string]string)
	for _, n := range c.Room.Nodes() {
		id, err := n.WaitBooted(ctx, "")
		if err != nil {
			return err
		}
		boots[n.Name] = id
	}
	if err := c.Recorder.Sync(ctx); err != nil {
		return err
	}
	_, err := c.Recorder.Await(ctx, c.Recorder.Now(), "rest", func(s State) bool {
		for name, boot := range boots {
			if !s.IsReady(name) || s.BootID(name) != boot {
				return false
			}
		}
		return s.AtRest()
	})
	if err != nil {
		return err
	}
	for _, n := range c.Room.Nodes() {
		if err := n.WaitSystemState(ctx, "running"); err != nil {
			return err
		}
		if err := n.WaitUnit(ctx, "kured.service", "active"); err != nil {
			return err
		}
	}
	return nil
}

// Within is ctx with a limit that names what took too long.
func Within(ctx context.Context, limit time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took more than %s", what, limit))
}
