package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// Keys of the policy that a pause writes (lock.ParsePolicy): one without an end is "paused", which the API server keeps, too;
// one with an end is a line of "freeze", which the nodes keep by their clocks.
const (
	pausedKey = "paused"
	freezeKey = "freeze"
)

// pauseWord begins the reason of a freeze that a pause has written, so that Resume knows it among those of the owner's.
const pauseWord = "pause:"

// sooner is how far in the past a freeze begins that a pause writes: a node whose clock is behind the person's pauses now, too.
const sooner = time.Hour

// maxReason bounds a person's reason, in characters. A node shows 80 bytes of it.
const maxReason = 200

// Pauser pauses all nodes by the policy, with a person's credential: to get and patch the policy's ConfigMap, and to create
// it where there is none. Every other key of the policy, and every other freeze, stays as it is.
type Pauser struct {
	Client    kubernetes.Interface
	Namespace string
	Policy    string           // name of its ConfigMap
	Lock      string           // the lock whose nodes are meant; empty: those of every lock that has this policy
	By        string           // the person's name
	Now       func() time.Time // nil: time.Now
}

// Pause lets nobody begin any more, until Resume or the time until (zero: without an end). It replaces an earlier pause,
// and says which. done is told to people, a line each.
func (p Pauser) Pause(ctx context.Context, until time.Time, reason string) (done []string, err error) {
	now := p.now()
	if reason = status.Clean(reason, maxReason); reason == "" {
		return nil, errors.New("a pause needs a reason")
	}
	if !until.IsZero() && !until.After(now) {
		return nil, fmt.Errorf("%s is over already", until.UTC().Format(time.RFC3339))
	}
	by := status.Clean(p.By, maxText)
	err = p.change(ctx, func(data map[string]string) map[string]any {
		done = p.replaced(data)
		changes := p.cleared(data)
		note := fmt.Sprintf("%s; by %s, %s", reason, by, now.UTC().Format(time.RFC3339))
		if until.IsZero() {
			changes[p.key(pausedKey)] = note
			return changes
		}
		lines, _ := changes[p.key(freezeKey)].(string)
		if _, rewritten := changes[p.key(freezeKey)]; !rewritten {
			lines = data[p.key(freezeKey)]
		}
		if lines != "" && !strings.HasSuffix(lines, "\n") {
			lines += "\n"
		}
		changes[p.key(freezeKey)] = fmt.Sprintf("%s%s/%s %s %s\n", lines, now.Add(-sooner).UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339), pauseWord, note)
		return changes
	})
	if err != nil {
		return nil, err
	}
	end := "until somebody resumes it"
	if !until.IsZero() {
		end = "until " + until.UTC().Format(time.RFC3339)
	}
	return append(done, fmt.Sprintf("%s: paused %s", p.whom(), end)), nil
}

// Resume ends what Pause began. What else keeps the nodes from rebooting it leaves, and says.
func (p Pauser) Resume(ctx context.Context) (done []string, err error) {
	now, was := p.now(), false
	var after map[string]string
	err = p.change(ctx, func(data map[string]string) map[string]any {
		was = len(p.replaced(data)) > 0
		changes := p.cleared(data)
		after = applied(data, changes)
		return changes
	})
	switch {
	case err != nil:
		return nil, err
	case was:
		done = append(done, p.whom()+": not paused any more")
	default:
		done = append(done, p.whom()+": was not paused here")
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		value := after[key]
		if name, of, _ := strings.Cut(key, "."); name == pausedKey && strings.TrimSpace(value) != "" {
			who := "every lock"
			if of != "" {
				who = "the lock " + of
			}
			done = append(done, status.Clean(fmt.Sprintf("still paused, for %s: %s", who, value), maxText))
		}
	}
	if p.Lock != "" || len(done) == 1 {
		if reason, detail, _ := lock.ParsePolicy(after, p.Lock).Closed(now); reason == status.Frozen || reason == status.PolicyUnreadable {
			done = append(done, "still no reboots: "+detail)
		}
	}
	return done, nil
}

// whom is who is meant.
func (p Pauser) whom() string {
	if p.Lock != "" {
		return "the nodes of the lock " + p.Namespace + "/" + p.Lock
	}
	return "all nodes"
}

func (p Pauser) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// key is the name of a key for whom is meant.
func (p Pauser) key(name string) string {
	if p.Lock != "" {
		return name + "." + p.Lock
	}
	return name
}

// replaced says what pause there is of this kind.
func (p Pauser) replaced(data map[string]string) (lines []string) {
	if text := strings.TrimSpace(data[p.key(pausedKey)]); text != "" {
		lines = append(lines, status.Clean("paused before: "+text, maxText))
	}
	for line := range strings.Lines(data[p.key(freezeKey)]) {
		if isPause(line) {
			lines = append(lines, status.Clean("paused before: "+line, maxText))
		}
	}
	return lines
}

// cleared are the changes that take off what Pause wrote, nil for a key that goes.
func (p Pauser) cleared(data map[string]string) map[string]any {
	changes := map[string]any{}
	if _, there := data[p.key(pausedKey)]; there {
		changes[p.key(pausedKey)] = nil
	}
	var rest strings.Builder
	found := false
	for line := range strings.Lines(data[p.key(freezeKey)]) {
		if isPause(line) {
			found = true
			continue
		}
		rest.WriteString(line)
	}
	if found {
		changes[p.key(freezeKey)] = nil
		if rest.Len() > 0 {
			changes[p.key(freezeKey)] = rest.String()
		}
	}
	return changes
}

// isPause reports whether a line of a freeze was written by Pause.
func isPause(line string) bool {
	_, reason, _ := strings.Cut(strings.TrimSpace(line), " ")
	return strings.HasPrefix(strings.TrimSpace(reason), pauseWord)
}

func applied(data map[string]string, changes map[string]any) map[string]string {
	after := maps.Clone(data)
	if after == nil {
		after = map[string]string{}
	}
	for key, value := range changes {
		delete(after, key)
		if text, ok := value.(string); ok {
			after[key] = text
		}
	}
	return after
}

// attempts bounds how often a write is tried that meets another one.
const attempts = 5

// change writes to the policy what decide makes of it, on the version that it was given.
func (p Pauser) change(ctx context.Context, decide func(data map[string]string) map[string]any) error {
	policies := p.Client.CoreV1().ConfigMaps(p.Namespace)
	name := p.Namespace + "/" + p.Policy
	var last error
	for range attempts {
		cm, err := policies.Get(ctx, p.Policy, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			changes := decide(nil)
			if len(changes) == 0 {
				return nil
			}
			_, err = policies.Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: p.Policy, Namespace: p.Namespace, Labels: map[string]string{
					"app.kubernetes.io/name": "kured", "app.kubernetes.io/component": "policy",
				}},
				Data: applied(nil, changes),
			}, metav1.CreateOptions{FieldManager: "kured"})
		case err != nil:
			return fmt.Errorf("read policy %s: %w", name, err)
		default:
			changes := decide(cm.Data)
			if len(changes) == 0 {
				return nil
			}
			var patch []byte
			patch, err = json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": cm.ResourceVersion}, "data": changes})
			if err != nil {
				return fmt.Errorf("encode policy: %w", err)
			}
			_, err = policies.Patch(ctx, p.Policy, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kured"})
		}
		if err == nil {
			return nil
		}
		last = err
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	return fmt.Errorf("write policy %s: %w", name, last)
}
