package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/testenv"
)

const policyName = "kured-policy"

// crowd is many nodes that want the lock of a control plane of their own.
type crowd struct {
	plane *testenv.ControlPlane
	nodes []*asker
	store lock.ConfigMap // as an administrator
}

// newCrowd makes so many nodes, each with its own credential and connection.
// There is no audit log: it would slow down what is measured.
func newCrowd(ctx context.Context, nodes int) (*crowd, error) {
	rights, err := os.ReadFile(filepath.Join(manifests, "kured.yaml"))
	if err != nil {
		return nil, err
	}
	plane, err := testenv.Start(ctx, testenv.Options{})
	if err != nil {
		return nil, err
	}
	c := &crowd{plane: plane, store: lock.ConfigMap{Client: plane.Admin(), Namespace: lockNamespace, Name: lockName}}
	if err := errors.Join(plane.Apply(ctx, rights), c.join(ctx, nodes), c.awaitRights(ctx)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *crowd) close() {
	for _, n := range c.nodes {
		if n != nil {
			n.cluster.CloseIdle()
		}
	}
	c.plane.Stop()
}

func (c *crowd) join(ctx context.Context, nodes int) error {
	c.nodes = make([]*asker, nodes)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for i := range nodes {
		work.Go(func() (err error) {
			c.nodes[i], err = newAsker(ctx, c.plane, nodeName(i))
			return err
		})
	}
	return work.Wait()
}

// awaitRights returns when a node may do what the manifest lets it: rights take
// effect a little after they were applied.
func (c *crowd) awaitRights(ctx context.Context) error {
	if len(c.nodes) == 0 || c.nodes[0] == nil {
		return nil // there is another error
	}
	first := c.nodes[0]
	return until(ctx, func(ctx context.Context) (bool, error) {
		_, unlocked := first.Read(ctx)
		_, unruled := first.Rules.Policy(ctx)
		_, unlisted := first.Fleet.Nodes(ctx)
		err := errors.Join(unlocked, unruled, unlisted)
		var api apierrors.APIStatus
		if errors.As(err, &api) {
			return false, nil
		}
		return err == nil, err
	})
}

// buildWall applies the admission policies and waits until they are in force.
func (c *crowd) buildWall(ctx context.Context) error {
	policies, err := os.ReadFile(filepath.Join(manifests, "wall.yaml"))
	if err != nil {
		return err
	}
	if err := c.plane.Apply(ctx, policies); err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) (bool, error) {
		return c.nodes[0].Rules.Enforced(ctx, c.nodes[0].Node)
	})
}

// setPolicy makes the policy exist, without saying anything, or not.
func (c *crowd) setPolicy(ctx context.Context, there bool) error {
	maps := c.plane.Admin().CoreV1().ConfigMaps(lockNamespace)
	if !there {
		if err := maps.Delete(ctx, policyName, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	}
	_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: policyName}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func until(ctx context.Context, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if yes, err := done(ctx); yes || err != nil {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// race lets the first n nodes race, and returns the largest size that the lock
// object was seen to have, as JSON.
func (c *crowd) race(ctx context.Context, n, limit int, pace lock.Pace, race locktest.Race) (r locktest.Result, size int, err error) {
	race.Witness, race.Locks = c.store, nil
	for _, a := range c.nodes[:n] {
		a.Max, a.Pace = intstr.FromInt(limit), pace
		race.Locks = append(race.Locks, a.Lock)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	largest := make(chan int)
	go func() {
		most := 0
		for pause(watching, 250*time.Millisecond) == nil {
			if size, err := c.size(watching); err == nil {
				most = max(most, size)
			}
		}
		largest <- most
	}()
	r, err = race.Run(ctx)
	stop()
	size = <-largest
	if err == nil && (r.Most > limit || r.Inside > limit) {
		err = fmt.Errorf("%d nodes held, by their own belief %d; the limit is %d", r.Most, r.Inside, limit)
	}
	for _, missed := range r.Missed {
		// One that was seen and that nobody knows to have written is a write whose answer was lost.
		if err == nil && strings.HasPrefix(missed, locktest.Unseen) {
			err = fmt.Errorf("the witness did not see every version: %s", missed)
		}
	}
	return r, size, err
}

// size is the whole object as JSON, with what the API server keeps about its fields.
func (c *crowd) size(ctx context.Context) (int, error) {
	object, err := c.plane.Admin().CoreV1().ConfigMaps(lockNamespace).Get(ctx, lockName, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(object)
	return len(text), err
}
