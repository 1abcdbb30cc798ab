package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/testenv"
)

// patience bounds each wait for something that takes seconds at most.
const patience = 2 * time.Minute

// The names of the shipped manifests, and where they are.
const (
	lockNamespace = "kube-system"
	lockName      = "kured-lock"
	manifests     = "packaging/kubernetes"
)

// stage is where everything is measured: one control plane with the shipped
// manifests applied, and a directory.
type stage struct {
	plane   *testenv.ControlPlane
	kured   string
	dir     string // of sentinels and sockets, see quietPlace
	witness *witness
	stop    context.CancelFunc // of the witness
	closers []func()
}

// quietPlace is where the sentinels are. kured watches all directories above
// them, /run on a node, and would be woken up by what others do in them, as is
// common in /tmp and, with each write to /dev/null, in /dev.
const quietPlace = "/var/tmp"

// newStage starts the control plane. ctx bounds the whole stage.
func newStage(ctx context.Context, kured string) (*stage, error) {
	kured, err := filepath.Abs(kured)
	if err != nil {
		return nil, err
	}
	var rights [][]byte
	for _, name := range []string{"kured.yaml", "wall.yaml"} {
		text, err := os.ReadFile(filepath.Join(manifests, name))
		if err != nil {
			return nil, fmt.Errorf("%w (the benchmarks are run from the top of the repository)", err)
		}
		rights = append(rights, text)
	}
	dir, err := os.MkdirTemp(quietPlace, "kured-bench-")
	if err != nil {
		return nil, err
	}
	s := &stage{kured: kured, dir: dir, stop: func() {}}
	// All machines' directories now, or a later one would wake the daemons that run by then.
	for _, name := range []string{idleMachine, takingMachine, cycleMachine} {
		for _, sub := range []string{"run", "state", "sentinel"} {
			if err := os.MkdirAll(filepath.Join(dir, name, sub), 0o700); err != nil {
				s.close()
				return nil, err
			}
		}
	}
	// No controllers and no scheduler: pods are bound by hand, and the two cores are for what is measured.
	if s.plane, err = testenv.Start(ctx, testenv.Options{Audit: true}); err != nil {
		s.close()
		return nil, err
	}
	if err := s.open(ctx, rights); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) open(ctx context.Context, rights [][]byte) error {
	for _, text := range rights {
		if err := s.plane.Apply(ctx, text); err != nil {
			return err
		}
	}
	if err := s.awaitRights(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	s.stop = stop
	store := lock.ConfigMap{Client: s.plane.Admin(), Namespace: lockNamespace, Name: lockName}
	var err error
	s.witness, err = newWitness(watching, store)
	return err
}

// awaitRights returns when a node may read the lock: rights take effect a little after they were applied.
func (s *stage) awaitRights(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	store, err := s.store(testenv.NodeSubject("anybody"))
	if err != nil {
		return err
	}
	for {
		_, err := store.Read(ctx)
		var api apierrors.APIStatus
		if !errors.As(err, &api) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *stage) close() {
	s.stop()
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	if s.plane != nil {
		s.plane.Stop()
	}
	_ = os.RemoveAll(s.dir) // sockets and small files
}

// free is when nobody holds the lock and nobody waits for it.
func free(state lock.State) bool { return len(state.Holders)+len(state.Waiters) == 0 }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
