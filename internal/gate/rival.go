package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/status"
)

// DaemonSetReader reads DaemonSets of one namespace: AppsV1().DaemonSets(namespace) of client-go.
type DaemonSetReader interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*appsv1.DaemonSet, error)
}

// Rival is open while nobody holds the lock of the DaemonSet kured, so that
// both can be in one cluster during a migration. It is open, too, when there is
// no such DaemonSet any more: then the migration is over.
type Rival struct {
	DaemonSets DaemonSetReader
	DaemonSet  string // its name
	Annotation string // with its lock
	Now        func() time.Time
}

// Name implements Gate.
func (Rival) Name() status.Gate { return status.GateRival }

// Check reads the DaemonSet. It is closed whoever holds the lock, this node's
// own pod of the DaemonSet, too: that one is about to reboot this node itself.
func (g Rival) Check(ctx context.Context, _ Moment) Verdict {
	set, err := g.DaemonSets.Get(ctx, g.DaemonSet, metav1.GetOptions{})
	switch {
	case gone(err):
		return Verdict{Open: true}
	case err != nil:
		return Verdict{Reason: status.RivalUnreadable, Detail: "the lock of the DaemonSet kured cannot be read: " + status.Clean(err.Error(), longest)}
	}
	text, ok := set.Annotations[g.Annotation]
	if !ok {
		return Verdict{Open: true}
	}
	held, err := parseRival(text, g.Now())
	if err != nil {
		return Verdict{Reason: status.RivalUnreadable, Detail: fmt.Sprintf("the lock of the DaemonSet kured, annotation %s, cannot be understood: %v", g.Annotation, err)}
	}
	if len(held) == 0 {
		return Verdict{Open: true}
	}
	holders := make([]string, len(held))
	next := held[0].ends()
	for i, h := range held {
		holders[i] = h.String()
		switch ends := h.ends(); {
		case ends.IsZero() || next.IsZero():
			next = time.Time{} // it waits for one that never ends
		case ends.After(next):
			next = ends
		}
	}
	return Verdict{Reason: status.RivalHolds, Detail: "the DaemonSet kured's lock is held by " + status.Few(holders, most), Next: next}
}

// gone reports that the API server itself says that there is no such object,
// and not something between us and it that knows no such page.
func gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// holding is one entry of the DaemonSet kured's lock.
type holding struct {
	NodeID  *string       `json:"nodeID"`
	Created time.Time     `json:"created"`
	TTL     time.Duration `json:"TTL"` // nanoseconds; 0: for ever
}

// ends is when the DaemonSet kured takes the entry for void, zero: never.
// Its rule is that of its --lock-ttl, which the owner writes into the entry and
// others compare with their own clocks. An entry without one can be void, too,
// by the flags of who looks, which are not known here: it counts.
func (h holding) ends() time.Time {
	if h.TTL <= 0 {
		return time.Time{}
	}
	return h.Created.Add(h.TTL)
}

// String is who, and since when.
func (h holding) String() string {
	name := status.Clean(*h.NodeID, longest)
	if name == "" {
		name = "somebody without a name"
	}
	if h.Created.IsZero() {
		return name // written by hand
	}
	return name + " since " + h.Created.UTC().Format(time.RFC3339)
}

// parseRival returns the entries of a lock that count now. It reads what the
// DaemonSet kured writes with --concurrency=1, one entry, and with more, a list
// of them. An entry that a person wrote as a pause, {"nodeID":"manual"}, counts.
func parseRival(text string, now time.Time) ([]holding, error) {
	var lock struct {
		holding
		MaxOwners *int      `json:"maxOwners"`
		Locks     []holding `json:"locks"`
	}
	if err := json.Unmarshal([]byte(text), &lock); err != nil {
		return nil, errors.New(status.Clean(err.Error(), longest))
	}
	entries := lock.Locks
	switch {
	case lock.NodeID != nil:
		entries = append(entries, lock.holding)
	case lock.MaxOwners == nil && lock.Locks == nil:
		return nil, errors.New("it names neither a node nor a list of locks")
	}
	for _, h := range entries {
		if h.NodeID == nil {
			return nil, errors.New("an entry names no node")
		}
	}
	return slices.DeleteFunc(entries, func(h holding) bool {
		ends := h.ends()
		return !ends.IsZero() && !now.Before(ends)
	}), nil
}
