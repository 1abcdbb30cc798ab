package nodes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Spec is one node to be.
type Spec struct {
	Name  string
	Image Image
	// Setup, if not nil, writes into the node's file system before its first boot.
	Setup func(*Node) error
}

// Room is a set of nodes on one bridge, and a directory that all of them see read-only at /srv/share.
type Room struct {
	// Share is the outside of /srv/share; files may be added to it at any time.
	Share string

	mu      sync.Mutex
	nodes   []*Node
	hosts   []string // lines of /etc/hosts, one for each node there ever was
	journal func(format string, args ...any)
}

// NewRoom sets up bridge and directories. It must run in the namespaces of Main; there is one room at a time.
// Progress and faults go to out as lines.
func NewRoom(ctx context.Context, out io.Writer) (*Room, error) {
	if !Isolated() {
		return nil, errors.New("nodes run only in the namespaces that Main makes")
	}
	share := filepath.Join(workDir, "share")
	if err := os.MkdirAll(share, 0o755); err != nil {
		return nil, err
	}
	if err := addBridge(ctx); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	return &Room{Share: share, journal: func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}}, nil
}

var nodeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,11}$`) // "v-" and it make an interface name of at most 15

// Add makes nodes and switches them on, without waiting for their boot.
func (r *Room) Add(ctx context.Context, specs ...Spec) ([]*Node, error) {
	var added []*Node
	r.mu.Lock()
	for _, s := range specs {
		if !nodeName.MatchString(s.Name) {
			r.mu.Unlock()
			return nil, fmt.Errorf("node name %q: want %s", s.Name, nodeName)
		}
		n := newNode(r, s, nodeAddr(len(r.hosts)))
		r.hosts = append(r.hosts, n.IP.String()+" "+n.Name)
		r.nodes = append(r.nodes, n)
		added = append(added, n)
	}
	hosts := "127.0.0.1 localhost\n" + HostAddr().String() + " control-plane\n" + strings.Join(r.hosts, "\n") + "\n"
	r.mu.Unlock()

	group, ctx := errgroup.WithContext(ctx)
	for i, n := range added {
		group.Go(func() error {
			if err := n.create(ctx, hosts); err != nil {
				return fmt.Errorf("make node %s: %w", n.Name, err)
			}
			if setup := specs[i].Setup; setup != nil {
				if err := setup(n); err != nil {
					return fmt.Errorf("set up node %s: %w", n.Name, err)
				}
			}
			n.start()
			return nil
		})
	}
	return added, group.Wait()
}

// Nodes returns the nodes in the order they were added.
func (r *Room) Nodes() []*Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Node(nil), r.nodes...)
}

// WaitBooted waits until every node is up (see Node.WaitBooted).
func (r *Room) WaitBooted(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range r.Nodes() {
		group.Go(func() error {
			_, err := n.WaitBooted(ctx, "")
			return err
		})
	}
	return group.Wait()
}

// Close ends every node as a power cut does and removes what belongs to the room.
func (r *Room) Close() error {
	var errs []error
	for _, n := range r.Nodes() {
		errs = append(errs, r.Remove(n))
	}
	errs = append(errs, ip(context.Background(), "link del "+bridge), os.RemoveAll(r.Share))
	return errors.Join(errs...)
}

// Remove ends a node as a power cut does, for ever.
func (r *Room) Remove(n *Node) error {
	n.stop()
	r.mu.Lock()
	for i := range r.nodes {
		if r.nodes[i] == n {
			r.nodes = append(r.nodes[:i], r.nodes[i+1:]...)
			break
		}
	}
	r.mu.Unlock()
	return errors.Join(
		removePort(context.Background(), n.Name),
		unix.Unmount(n.root(), unix.MNT_DETACH),
		os.RemoveAll(n.dir))
}

// create makes the node's layers, identity and network.
func (n *Node) create(ctx context.Context, hosts string) error {
	lower, err := n.Image.Dir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(lower); err != nil {
		return fmt.Errorf("base image (EnsureImages builds it): %w", err)
	}
	for _, dir := range []string{n.root(), filepath.Join(n.dir, "upper"), filepath.Join(n.dir, "work")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, n.dir, n.dir)
	if err := unix.Mount("overlay", n.root(), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	for path, text := range map[string]string{
		"/etc/hostname":   n.Name + "\n",
		"/etc/hosts":      hosts,
		"/etc/machine-id": hex.EncodeToString(id) + "\n",
	} {
		if err := n.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return addPort(ctx, n.Name, n.IP)
}
