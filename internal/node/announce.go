package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/status"
)

// StatusAnnotation says on a Node how far its kured is, for people and for kured status --all. Nothing that kured decides
// depends on it, and what it says of the lock is only what the node last saw: the lock itself has the word.
//
// These are the annotations that kured itself writes and reads on a Node:
//
//	annotation          written by        with                        says
//	kured.dev/status    kured             a change of phase, reason   how far kured is (Announcement); stays when idle
//	kured.dev/cordoned  kured             the cordon                  the cordon is kured's, of that boot (MarkAnnotation)
//	kured.dev/dressed   kured             the cordon                  what else it put on, and what was there (DressedAnnotation)
//	kured.dev/released  an admin's kured  kured lock release          who released the lock, and why (ReleasedAnnotation)
//	kured.dev/pause     a person          whatever they want          do not reboot this node (PauseAnnotation)
//
// cordoned, dressed and released go with the uncordon.
const StatusAnnotation = "kured.dev/status"

// announcementVersion is the version of the announcements that this kured writes and reads.
const announcementVersion = 1

// Bounds of an announcement, which whoever may patch the Node can write: of all of it in bytes, of one text (of others,
// wherever it stands) in characters, and of the list.
const (
	maxAnnouncement = 4096
	maxDetail       = 200
	maxWord         = 80
	maxPackages     = 10
)

// Announcement is what StatusAnnotation says. Fields are added, never renamed; times are of the node's clock.
type Announcement struct {
	V        int           `json:"v"`
	Phase    status.Phase  `json:"phase"`
	Reason   status.Reason `json:"reason,omitempty"` // perhaps one that this kured does not know
	Detail   string        `json:"detail,omitempty"`
	Since    time.Time     `json:"since"`              // when phase and reason became so
	Wanted   time.Time     `json:"wanted,omitzero"`    // since when a reboot is; zero: none is, or nobody knows
	Packages []string      `json:"packages,omitempty"` // that ask for it, the first few
	Boot     string        `json:"boot"`               // boot id in which this was written
	Cycle    string        `json:"cycle,omitempty"`    // boot id in which the cycle was begun; empty: none runs
	Rebooted time.Time     `json:"rebooted,omitzero"`  // when the last reboot of kured's was verified; zero: none that is known
	Version  string        `json:"version"`            // of kured
}

// announce makes of a status what is announced of it.
func announce(s status.Status, rebooted time.Time, version string) Announcement {
	a := Announcement{
		V: announcementVersion, Phase: s.Phase, Reason: s.Reason, Detail: s.Detail, Since: s.Since,
		Boot: s.Boot, Cycle: s.Cycle, Rebooted: rebooted, Version: version,
	}
	if s.Demand != nil {
		a.Wanted, a.Packages = s.Demand.Since, s.Demand.Reasons
	}
	return a.bounded()
}

// bounded is an announcement in which nothing is longer than it may be, or moves a cursor.
func (a Announcement) bounded() Announcement {
	a.Phase, a.Reason = status.Phase(status.Clean(string(a.Phase), maxWord)), status.Reason(status.Clean(string(a.Reason), maxWord))
	a.Detail = status.Clean(a.Detail, maxDetail)
	a.Boot, a.Cycle, a.Version = status.Clean(a.Boot, maxWord), status.Clean(a.Cycle, maxWord), status.Clean(a.Version, maxWord)
	var packages []string
	for _, name := range a.Packages[:min(len(a.Packages), maxPackages)] {
		packages = append(packages, status.Clean(name, maxWord))
	}
	a.Packages = packages
	for _, at := range []*time.Time{&a.Since, &a.Wanted, &a.Rebooted} {
		if *at = at.UTC().Truncate(time.Second); at.Year() < 1 || at.Year() > 9999 {
			*at = time.Time{} // which JSON does not know
		}
	}
	return a
}

// same reports whether b says what a says. A detail or a time that changed alone is not worth a write.
func (a Announcement) same(b Announcement) bool {
	return a.Phase == b.Phase && a.Reason == b.Reason && a.Boot == b.Boot && a.Cycle == b.Cycle &&
		a.Wanted.IsZero() == b.Wanted.IsZero() && a.Rebooted.Equal(b.Rebooted) && a.Version == b.Version
}

// after is what a becomes where text is there: the time of a reboot that was verified stays. news is false if it says the
// same already.
func (a Announcement) after(text string) (next Announcement, news bool) {
	old, err := ParseAnnouncement(text)
	if err != nil {
		return a, true
	}
	if a.Rebooted.Before(old.Rebooted) {
		a.Rebooted = old.Rebooted
	}
	return a, !a.same(old)
}

// encode writes an announcement so that it is never longer than ParseAnnouncement takes: the packages go first, for they
// may be of characters that take four bytes each.
func (a Announcement) encode() string {
	for {
		b, err := json.Marshal(a)
		if err != nil {
			panic(err) // strings, numbers and times always marshal: bounded has seen to the years
		}
		if len(b) <= maxAnnouncement || len(a.Packages) == 0 {
			return string(b)
		}
		a.Packages = a.Packages[:len(a.Packages)-1]
	}
}

// ParseAnnouncement reads a StatusAnnotation. Whoever may patch the Node can write anything there: what is accepted is
// bounded and can be printed, and true only as far as the writer is. Errors are fit for people, too.
func ParseAnnouncement(text string) (Announcement, error) {
	if len(text) > maxAnnouncement {
		return Announcement{}, fmt.Errorf("longer than %d bytes", maxAnnouncement)
	}
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal([]byte(text), &version); err != nil {
		return Announcement{}, errors.New("no JSON object with a version v")
	}
	if version.V != announcementVersion {
		return Announcement{}, fmt.Errorf("version %d, this kured reads version %d", version.V, announcementVersion)
	}
	var a Announcement
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return Announcement{}, errors.New("a field is not of its type")
	}
	a = a.bounded()
	if !a.Phase.Known() {
		return Announcement{}, fmt.Errorf("unknown phase %q", a.Phase)
	}
	return a, nil
}

// announcedOn is the text of the annotation, "" if there is none.
func announcedOn(obj *corev1.Node) string { return obj.Annotations[StatusAnnotation] }

// Announce makes StatusAnnotation say a. was is the text that the caller knows there, "" for none; is that which is there
// now. Nothing is written where it says the same already. It takes one request where was is true: the write replaces
// exactly that text, whatever else changes on the Node meanwhile. Else the Node is read, and an announcement of another process
// of kured's keeps its Rebooted. Errors and retries are those of Cordon.
func (n *Node) Announce(ctx context.Context, a Announcement, was string) (is string, err error) {
	if was != "" {
		next, news := a.after(was)
		if !news {
			return was, nil
		}
		is = next.encode()
		err := n.patch(ctx, write{by: types.JSONPatchType}, replaceAnnouncement(was, is))
		if err == nil {
			return is, nil
		}
		if !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) { // another text is there, or none
			return was, n.wrap("announce on", err)
		}
	}
	is = was
	_, err = n.change(ctx, "announce on", func(obj *corev1.Node) []byte {
		is = announcedOn(obj)
		next, news := a.after(is)
		if !news {
			return nil
		}
		is = next.encode()
		var p nodePatch
		p.annotate(StatusAnnotation, is)
		return p.encode(obj)
	})
	return is, err
}

// Retract takes StatusAnnotation off. It is no error when there is none.
func (n *Node) Retract(ctx context.Context) error {
	_, err := n.change(ctx, "take the status off", func(obj *corev1.Node) []byte {
		var p nodePatch
		if hasKey(obj.Annotations, StatusAnnotation) {
			p.annotate(StatusAnnotation, nil)
		}
		return p.encode(obj)
	})
	return err
}

// replaceAnnouncement is a JSON patch (RFC 6902) that fails unless the annotation is what it was.
func replaceAnnouncement(was, is string) []byte {
	const path = "/metadata/annotations/kured.dev~1status"
	return encode([]map[string]string{
		{"op": "test", "path": path, "value": was},
		{"op": "replace", "path": path, "value": is},
	})
}
