package node

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/types"
)

// DressedAnnotation remembers on a Node what kured put on it with the cordon, what was there before, and in which boot:
// {"boot":"…","reason":"…","labels":{"example.org/state":{"is":"rebooting","was":"ready"}}}. It is written and removed in
// the same patch as the rest, also where the cordon is a person's and there is no mark. It says nothing about the cordon.
const DressedAnnotation = "kured.dev/dressed"

// A value of somebody else that is longer than this (in bytes) is not remembered: it is removed, not brought back.
const maxWorn = 1024

// Dress is what others see on our Node while a reboot is under way, and after it. In the values {time} stands for the
// moment of the write (RFC 3339, UTC), {boot} for the id of the boot that runs and {reason} for what asks for the reboot. A
// label takes 63 characters of letters, digits, "-", "_" and "." (Kubernetes API, Labels and Selectors): there the time is
// written 2026-11-22T19-30-00Z, other characters of the reason become "-", and the reason is cut.
//
// Before is put on with the cordon. When the node comes back from a reboot it is taken off again and After put on, with
// the uncordon; a try that comes to nothing leaves things as they were before it.
type Dress struct {
	LabelsBefore, LabelsAfter           map[string]string
	AnnotationsBefore, AnnotationsAfter map[string]string

	// ExcludeFromLoadBalancers adds the label node.kubernetes.io/exclude-from-external-load-balancers for the time of the
	// cycle, unless it is there already (k8s.io/api/core/v1, LabelNodeExcludeBalancers).
	ExcludeFromLoadBalancers bool

	// Reason is asked with the cordon and remembered over the reboot; nil: there is none.
	Reason func() string
}

func (d Dress) empty() bool {
	return !d.ExcludeFromLoadBalancers && len(d.LabelsBefore)+len(d.LabelsAfter)+len(d.AnnotationsBefore)+len(d.AnnotationsAfter) == 0
}

// record is the form of DressedAnnotation.
type record struct {
	Boot        string          `json:"boot"`
	Reason      string          `json:"reason,omitempty"`
	Labels      map[string]worn `json:"labels,omitempty"`
	Annotations map[string]worn `json:"annotations,omitempty"`
}

// worn is a label or annotation that kured put on.
type worn struct {
	Is  string  `json:"is"`
	Was *string `json:"was,omitempty"` // nil: it was not there, or is too long to be remembered
}

// recordOf reads what kured has put on; there is true also where it cannot be read, and then r is empty.
func recordOf(obj *corev1.Node) (r record, there bool) {
	text, there := obj.Annotations[DressedAnnotation]
	if !there || json.Unmarshal([]byte(text), &r) != nil {
		return record{}, there
	}
	boot, err := NormalizeBootID(r.Boot)
	if err != nil {
		return record{}, true
	}
	r.Boot, r.Reason = boot, safeText(r.Reason)
	return r, true
}

// wear adds to the write what Before asks for and the Node does not wear. What this boot put on already keeps its value, so
// that a repetition writes nothing; what an earlier boot put on, and nobody took off, is still to become what it was then.
func (d Dress) wear(obj *corev1.Node, boot string, at time.Time, p *nodePatch) {
	old, there := recordOf(obj)
	if d.empty() && !there {
		return
	}
	repeated := old.Boot == boot
	next := record{Boot: boot, Reason: old.Reason, Labels: maps.Clone(old.Labels), Annotations: maps.Clone(old.Annotations)}
	if !repeated {
		next.Reason = ""
		if d.Reason != nil {
			next.Reason = safeText(d.Reason())
		}
	}
	values := filler{at, boot, next.Reason}
	put := func(all *map[string]worn, key string, on map[string]string, write func(string, any), value func() string) {
		w := wear((*all)[key], hasKey(*all, key), repeated, on, key, value)
		if *all == nil {
			*all = map[string]worn{}
		}
		(*all)[key] = w
		if now, there := on[key]; !there || now != w.Is {
			write(key, w.Is)
		}
	}
	for key, template := range d.LabelsBefore {
		put(&next.Labels, key, obj.Labels, p.label, func() string { return values.label(template) })
	}
	if key := corev1.LabelNodeExcludeBalancers; d.ExcludeFromLoadBalancers && (hasKey(old.Labels, key) || !hasKey(obj.Labels, key)) {
		put(&next.Labels, key, obj.Labels, p.label, func() string { return "true" })
	}
	for key, template := range d.AnnotationsBefore {
		put(&next.Annotations, key, obj.Annotations, p.annotate, func() string { return values.text(template) })
	}
	if text := next.encode(); obj.Annotations[DressedAnnotation] != text {
		p.annotate(DressedAnnotation, text)
	}
}

// wear decides about one key: what it becomes, and what it is to become again.
func wear(before worn, remembered, repeated bool, on map[string]string, key string, value func() string) worn {
	now, there := on[key]
	if remembered && repeated {
		return before
	}
	w := worn{Is: value()}
	switch {
	case remembered && there && now == before.Is:
		w.Was = before.Was
	case there && len(now) <= maxWorn:
		w.Was = &now
	}
	return w
}

// takeOff adds to the write what undoes the record, and removes it. Whatever somebody else has changed meanwhile stays as it
// is. After a reboot (returned) Before is not brought back to what it was but goes, and After is put on.
func (d Dress) takeOff(obj *corev1.Node, returned bool, boot string, at time.Time, p *nodePatch) {
	r, there := recordOf(obj)
	if there {
		p.annotate(DressedAnnotation, nil)
	}
	values := filler{at, boot, r.Reason}
	undo := func(all map[string]worn, on map[string]string, write func(string, any)) {
		for key, w := range all {
			switch now, there := on[key]; {
			case !there || now != w.Is:
			case returned || w.Was == nil:
				write(key, nil)
			default:
				write(key, *w.Was)
			}
		}
	}
	undo(r.Labels, obj.Labels, p.label)
	undo(r.Annotations, obj.Annotations, p.annotate)
	if !returned {
		return
	}
	for key, template := range d.LabelsAfter {
		p.label(key, values.label(template))
	}
	for key, template := range d.AnnotationsAfter {
		p.annotate(key, values.text(template))
	}
}

// Rehearse asks the API server, by a dry run, whether it would let us put on the Dress: the names of Before and After. It
// changes nothing. CheckDress knows what a kubelet is refused; this is for what admission policies refuse beside, and is to be
// asked before the lock is. Without a Dress nothing is sent. Errors and retries are those of Cordon.
func (n *Node) Rehearse(ctx context.Context) error {
	if n.dress.empty() {
		return nil
	}
	_, err := n.changeBy(ctx, "rehearse the labels and annotations of", write{by: types.MergePatchType, dryRun: true}, func(obj *corev1.Node) []byte {
		var p nodePatch
		n.dress.takeOff(obj, true, n.bootID, time.Now(), &p)
		n.dress.wear(obj, n.bootID, time.Now(), &p)
		return p.encode(obj)
	})
	return err
}

func (r record) encode() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// filler is what the words in braces stand for.
type filler struct {
	at           time.Time
	boot, reason string
}

func (f filler) text(template string) string {
	return strings.NewReplacer("{time}", f.at.UTC().Format(time.RFC3339), "{boot}", f.boot, "{reason}", f.reason).Replace(template)
}

// label is text in the form of a label's value, if the rest of the template allows it.
func (f filler) label(template string) string {
	f.reason = strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.", r)) {
			return r
		}
		return '-'
	}, f.reason)
	if n := strings.Count(template, "{reason}"); n > 0 {
		room := content.LabelValueMaxLength - len(f.plain(strings.ReplaceAll(template, "{reason}", "")))
		f.reason = f.reason[:min(len(f.reason), max(room, 0)/n)]
	}
	return strings.Trim(f.plain(template), "-_.") // where an empty or cut reason was at the end
}

// plain is text with the time in the form for labels.
func (f filler) plain(template string) string {
	return strings.NewReplacer("{time}", f.at.UTC().Format("2006-01-02T15-04-05Z"), "{boot}", f.boot, "{reason}", f.reason).Replace(template)
}

func hasKey[V any](m map[string]V, key string) bool {
	_, there := m[key]
	return there
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
