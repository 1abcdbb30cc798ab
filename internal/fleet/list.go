package fleet

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// Fleet is where the nodes of a pool are found, with whatever rights the caller has: to list Nodes, and to get the lock
// and the policy.
type Fleet struct {
	Client   kubernetes.Interface
	Selector string           // label selector of the pool's Nodes; empty: all
	Lock     lock.ConfigMap   // and its policy
	Viewer   lock.Viewer      // of the same lock: says the limit
	Now      func() time.Time // nil: time.Now
}

// page is how many Nodes are asked for at a time.
const page = 500

// List reads the fleet once.
func (f Fleet) List(ctx context.Context) (View, error) {
	s, err := f.read(ctx)
	if err != nil {
		return View{}, err
	}
	return f.view(ctx, s)
}

// One reads one node. found is false if there is no such Node, and the lock does not know it either.
func (f Fleet) One(ctx context.Context, name string) (row Row, found bool, err error) {
	snap, err := f.Lock.Read(ctx)
	if err != nil {
		return Row{}, false, err
	}
	members := map[string]member{}
	obj, err := f.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		members[name] = memberOf(obj)
	case !apierrors.IsNotFound(err):
		return Row{}, false, fmt.Errorf("read node %s: %w", status.Clean(name, maxText), err)
	}
	all, _ := rows(members, snap.State)
	for _, r := range all {
		if r.Node == name {
			return r, true, nil
		}
	}
	return Row{}, false, nil
}

// seen is what was read.
type seen struct {
	members map[string]member
	version string // of the list of Nodes
	lock    lock.Snapshot
}

func (f Fleet) read(ctx context.Context) (seen, error) {
	s := seen{members: map[string]member{}}
	for next := ""; ; {
		list, err := f.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: f.Selector, Limit: page, Continue: next})
		if err != nil {
			return seen{}, fmt.Errorf("list nodes: %w", err)
		}
		for i := range list.Items {
			s.members[list.Items[i].Name] = memberOf(&list.Items[i])
		}
		if s.version, next = list.ResourceVersion, list.Continue; next == "" {
			break
		}
	}
	var err error
	s.lock, err = f.Lock.Read(ctx)
	return s, err
}

// view makes a View of what was read. It asks for the policy.
func (f Fleet) view(ctx context.Context, s seen) (View, error) {
	viewer := f.Viewer
	viewer.Store, viewer.Fleet = known{snap: s.lock}, pool(s.members)
	l, err := viewer.List(ctx)
	if err != nil {
		return View{}, err
	}
	now := time.Now
	if f.Now != nil {
		now = f.Now
	}
	v := View{At: now().UTC(), Lock: f.Lock.Namespace + "/" + f.Lock.Name, Limit: l.Limit, LimitNote: l.LimitNote, Policy: l.Policy}
	v.Nodes, v.Strange = rows(s.members, s.lock.State)
	return v, nil
}

// known is a Store of which nothing but its content is asked, and that was read already.
type known struct {
	lock.Store
	snap lock.Snapshot
}

func (k known) Read(context.Context) (lock.Snapshot, error) { return k.snap, nil }

// pool is the members as the lock counts them.
type pool map[string]member

func (p pool) Nodes(context.Context) ([]lock.Peer, error) {
	var peers []lock.Peer
	for _, m := range p {
		peers = append(peers, m.peer)
	}
	return peers, nil
}
