package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MarkAnnotation says on a Node that its cordon is kured's. The value is the id of the boot in which
// kured cordoned, as NormalizeBootID writes it. kured never lifts a cordon without it.
const MarkAnnotation = "kured.dev/cordoned"

// A write that lost against another one, or whose reply was lost, is tried this often in all. The
// kubelet writes its Node every few seconds at most, so two are enough nearly always.
const (
	writeAttempts = 6
	writeDelay    = 100 * time.Millisecond
)

// Cordon makes the Node unschedulable, marks the cordon as kured's and puts the Dress's Before on, all in one write.
//
// marked tells whose cordon is in force afterwards: true, kured's; false without an error, somebody
// else's: the Node was unschedulable already and carried no mark, so its cordon was left alone and Uncordon
// will leave it alone; the Dress is put on all the same. A mark of an earlier boot is renewed. If a person uncordoned the
// Node while the mark stood, it is cordoned again.
//
// A conflicting write or a lost reply is followed by a new read; after a few tries the last error is
// returned, and then the Node may or may not be cordoned. Calling again is always safe.
func (n *Node) Cordon(ctx context.Context) (marked bool, err error) {
	_, err = n.change(ctx, "cordon", func(obj *corev1.Node) []byte {
		var patch []byte
		patch, marked = cordonPatch(obj, n.dress, n.bootID, time.Now())
		return patch
	})
	if err != nil {
		return false, err
	}
	return marked, nil
}

// Uncordon lifts kured's cordon with the given mark, removes the mark and takes the Dress off, all in one write. Without the
// mark, or with that of another boot, it leaves the cordon alone: another process of this node may have
// cordoned since the caller looked. With the mark on a Node that somebody made schedulable, only the mark goes. An
// admin's note (ReleasedAnnotation) goes with it, also where there is no mark. changed says whether a
// mark was removed. Errors and retries are those of Cordon.
//
// mark is State.Mark or, where that is empty, State.Dressed: then the cordon is a person's, and what came with it goes. If it
// is of another boot the node has rebooted and the Dress's After is put on; if it is of this one, the try
// came to nothing and everything becomes what it was.
func (n *Node) Uncordon(ctx context.Context, mark string) (changed bool, err error) {
	marked := false
	wrote, err := n.change(ctx, "uncordon", func(obj *corev1.Node) []byte {
		marked = marked || mark != "" && markOf(obj) == mark
		return uncordonPatch(obj, n.dress, mark, n.bootID, time.Now())
	})
	return wrote && marked, err
}

// nodePatch is a JSON merge patch (RFC 7386): null removes. The resourceVersion makes the API server
// refuse it with 409 when the Node is not the one that was read, and keeps it from retrying inside.
type nodePatch struct {
	Metadata struct {
		ResourceVersion string         `json:"resourceVersion"`
		Annotations     map[string]any `json:"annotations,omitempty"`
		Labels          map[string]any `json:"labels,omitempty"`
	} `json:"metadata"`
	Spec map[string]any `json:"spec,omitempty"`
}

// annotate sets an annotation, or removes it (nil).
func (p *nodePatch) annotate(key string, value any) { set(&p.Metadata.Annotations, key, value) }

// label sets a label, or removes it (nil).
func (p *nodePatch) label(key string, value any) { set(&p.Metadata.Labels, key, value) }

// specify sets a field of the spec, or removes it (nil).
func (p *nodePatch) specify(key string, value any) { set(&p.Spec, key, value) }

func set(m *map[string]any, key string, value any) {
	if *m == nil {
		*m = map[string]any{}
	}
	(*m)[key] = value
}

// encode returns the patch for that Node, nil if it changes nothing.
func (p *nodePatch) encode(obj *corev1.Node) []byte {
	if len(p.Metadata.Annotations)+len(p.Metadata.Labels)+len(p.Spec) == 0 {
		return nil
	}
	p.Metadata.ResourceVersion = obj.ResourceVersion
	return encode(p)
}

func encode(patch any) []byte {
	b, err := json.Marshal(patch)
	if err != nil {
		panic(err) // strings, bools, lists of them and nil always marshal
	}
	return b
}

// cordonPatch returns the write that Cordon needs, nil if none, and whether the cordon is kured's then.
func cordonPatch(obj *corev1.Node, dress Dress, bootID string, at time.Time) (patch []byte, marked bool) {
	var p nodePatch
	mark := markOf(obj)
	marked = !obj.Spec.Unschedulable || mark != ""
	if marked && (!obj.Spec.Unschedulable || mark != bootID) {
		p.annotate(MarkAnnotation, bootID)
		p.specify("unschedulable", true)
	}
	dress.wear(obj, bootID, at, &p)
	return p.encode(obj), marked
}

// uncordonPatch returns the write that Uncordon needs, nil if none.
func uncordonPatch(obj *corev1.Node, dress Dress, mark, bootID string, at time.Time) []byte {
	var p nodePatch
	if _, there := obj.Annotations[ReleasedAnnotation]; there {
		p.annotate(ReleasedAnnotation, nil)
	}
	ours := mark != "" && markOf(obj) == mark
	if ours {
		p.annotate(MarkAnnotation, nil)
		if obj.Spec.Unschedulable {
			p.specify("unschedulable", nil)
		}
	}
	if r, _ := recordOf(obj); ours || mark != "" && r.Boot == mark {
		dress.takeOff(obj, mark != bootID, bootID, at, &p)
	}
	return p.encode(obj)
}

// markOf returns kured's mark; an annotation without a value was not written by kured and is none.
func markOf(obj *corev1.Node) string {
	return strings.TrimSpace(obj.Annotations[MarkAnnotation])
}

// A write says how a patch is sent. It has to carry the resourceVersion that was read.
type write struct {
	by          types.PatchType
	subresource []string // one or none
	dryRun      bool
}

// change reads the Node, asks what merge patch to write and writes it, until nothing is left to write. Any error
// that leaves open whether the write happened is answered by reading again: the Node tells.
func (n *Node) change(ctx context.Context, verb string, decide func(*corev1.Node) []byte) (changed bool, err error) {
	return n.changeBy(ctx, verb, write{by: types.MergePatchType}, decide)
}

// changeBy is change by another kind of write.
func (n *Node) changeBy(ctx context.Context, verb string, w write, decide func(*corev1.Node) []byte) (changed bool, err error) {
	var last error
	sent := false // a write of ours may have happened
	for attempt := range writeAttempts {
		if attempt > 0 {
			if err := sleep(ctx, jittered(writeDelay<<(attempt-1))); err != nil {
				return false, n.wrap(verb, fmt.Errorf("%w: %w", err, last))
			}
		}
		obj, err := n.get(ctx)
		if err != nil {
			if final(err) {
				return false, fmt.Errorf("%s: %w", verb, err)
			}
			last = err
			continue
		}
		patch := decide(obj)
		if patch == nil {
			return sent, nil
		}
		err = n.patch(ctx, w, patch)
		switch {
		case err == nil:
			return true, nil
		case apierrors.IsConflict(err):
		case final(err):
			return false, n.wrap(verb, err)
		default:
			sent = true
		}
		last = err
	}
	return false, n.wrap(verb, last)
}

func (n *Node) patch(ctx context.Context, w write, patch []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var opts metav1.PatchOptions
	if w.dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	_, err := n.client.CoreV1().Nodes().Patch(ctx, n.name, w.by, patch, opts, w.subresource...)
	return err
}

// final reports whether the API server has said no in a way that asking again at once cannot change.
func final(err error) bool {
	return gone(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err)
}

// jittered returns a random duration from d up to one and a half of it, so that nodes that failed
// together do not come back together.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(d)/2)
}

// sleep waits for d or until ctx ends, and returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
