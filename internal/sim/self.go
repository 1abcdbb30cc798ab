package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/node"
)

var errNodeConflict = errors.New("the Node changed since it was read")

// node is the Node of that name. mu is held.
func (w *World) node(name string) (nodeObject, error) {
	if n := w.nodes[name]; n != nil {
		return *n, nil
	}
	return nodeObject{}, fmt.Errorf("get %s: %w", name, node.ErrNotFound)
}

// self is the machine's own Node and pods, as internal/node and internal/drain
// offer them: the same reads and compare-and-swap patches, without the
// Kubernetes client.
type self process

func (s *self) process() *process { return (*process)(s) }

func (s *self) Get(ctx context.Context) (node.State, error) {
	n, err := s.get(ctx)
	if err == nil && s.mode == cycle.Run {
		s.w.mu.Lock()
		s.m.learnedAt = time.Now()
		s.w.mu.Unlock()
	}
	return node.State{UID: n.uid, Unschedulable: n.unschedulable, Mark: n.mark, Ready: n.ready, BootID: n.bootID, Released: n.released}, err
}

func (s *self) get(ctx context.Context) (nodeObject, error) {
	return request(ctx, s.process(), "get Node", func() (nodeObject, error) { return s.w.node(s.m.name) })
}

func (s *self) Cordon(ctx context.Context) (marked bool, err error) {
	_, err = s.change(ctx, "cordon", func(n *nodeObject) bool {
		switch {
		case n.unschedulable && n.mark == "":
			marked = false
			return false
		case n.unschedulable && n.mark == s.boot:
			marked = true
			return false
		}
		n.unschedulable, n.mark, marked = true, s.boot, true
		return true
	})
	return marked && err == nil, err
}

func (s *self) Uncordon(ctx context.Context, mark string) (bool, error) {
	marked := false
	wrote, err := s.change(ctx, "uncordon", func(n *nodeObject) bool {
		ours := n.mark != "" && n.mark == mark
		if !ours && n.released == nil {
			return false
		}
		if ours {
			n.unschedulable, n.mark, marked = false, "", true
		}
		n.released = nil
		return true
	})
	return wrote && marked, err
}

// change reads the Node and writes it, again after a conflict or a lost answer,
// as node.change does.
func (s *self) change(ctx context.Context, verb string, decide func(*nodeObject) bool) (changed bool, err error) {
	p := s.process()
	sent := false
	for attempt := range 6 {
		if attempt > 0 {
			if err := p.sleep(ctx, 100*time.Millisecond<<(attempt-1)); err != nil {
				return false, err
			}
		}
		var n nodeObject
		if n, err = s.get(ctx); err != nil {
			if errors.Is(err, node.ErrNotFound) || apierrors.IsForbidden(err) {
				return false, err
			}
			continue
		}
		read := n
		if !decide(&n) {
			return sent, nil
		}
		_, err = request(ctx, p, "patch Node: "+verb, func() (struct{}, error) {
			return struct{}{}, s.w.patchNode(p, verb, read, n)
		})
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, node.ErrNotFound), apierrors.IsForbidden(err):
			return false, err
		case !errors.Is(err, errNodeConflict):
			sent = true
		}
	}
	return false, err
}

// patchNode is the API server's side of a patch of a Node.
func (w *World) patchNode(p *process, verb string, read, after nodeObject) error {
	n := w.nodes[p.m.name]
	switch {
	case n == nil:
		return fmt.Errorf("patch %s: %w", p.m.name, node.ErrNotFound)
	case n.uid != read.uid || n.rv != read.rv:
		return errNodeConflict
	}
	w.judgeNode(p, *n, after)
	after.rv++
	*n = after
	w.nodesChanged()
	switch {
	case read.released != nil && read.mark == after.mark:
		verb = "takes the admin's note off"
	case read.released != nil:
		verb += ", and takes the admin's note off"
	}
	w.note(p.who, "%s", verb)
	return nil
}

// Drain takes as long as the machine's pods want to.
func (s *self) Drain(ctx context.Context, o drain.Options, report func(drain.Progress)) drain.Result {
	w, p := s.w, s.process()
	w.mu.Lock()
	takes, fails := s.m.drainFor, s.m.drainFails
	w.judgeDrain(p)
	w.note(p.who, "drains")
	w.mu.Unlock()
	report(drain.Progress{Total: 2, Gone: 1})
	// Not at the very instant at which the Runner looks whether it still holds.
	if err := p.sleep(ctx, min(takes, o.Timeout)+p.between(forDrain, 0, 900*time.Millisecond)); err != nil {
		return drain.Result{Err: err}
	}
	switch {
	case takes >= o.Timeout:
		return drain.Result{Err: drain.ErrTimeout, Progress: drain.Progress{Total: 2, Gone: 1}, Took: o.Timeout}
	case fails:
		return drain.Result{Err: errors.New("a pod cannot be evicted"), Progress: drain.Progress{Total: 2, Gone: 1}, Took: takes}
	}
	return drain.Result{Drained: true, Progress: drain.Progress{Total: 2, Gone: 2}, Took: takes}
}

// Preflight finds nothing in the way: the simulation is about the order of
// things, not about budgets of pods.
func (s *self) Preflight(context.Context, drain.Options) (drain.Report, error) {
	return drain.Report{}, nil
}

// AwaitDetached finds no volumes.
func (s *self) AwaitDetached(context.Context, time.Duration, func(drain.Volumes)) (drain.Volumes, error) {
	return drain.Volumes{}, nil
}

// AwaitReadyReport looks until the kubelet of this boot says Ready.
func (s *self) AwaitReadyReport(ctx context.Context, report func(missing string)) error {
	p := s.process()
	for {
		n, err := s.get(ctx)
		if err != nil {
			return err
		}
		if n.ready && n.bootID == s.boot {
			s.w.mu.Lock()
			p.ready = true
			s.w.mu.Unlock()
			return nil
		}
		report("the kubelet has not reported yet")
		if err := p.sleep(ctx, 3*time.Second); err != nil {
			return err
		}
	}
}

// journal is where a process writes its log.
type journal struct{ p *process }

func (j journal) Enabled(context.Context, slog.Level) bool { return j.p.w.Journal }

func (j journal) Handle(_ context.Context, r slog.Record) error {
	w := j.p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if !j.p.dead {
		w.note(j.p.who, "    journal: %s", r.Message)
	}
	return nil
}

func (j journal) WithAttrs([]slog.Attr) slog.Handler { return j }
func (j journal) WithGroup(string) slog.Handler      { return j }
