package node

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
)

// ReleasedAnnotation is the note that an admin's release of this node's lock leaves on the Node:
// {"by":"alice","why":"the node is broken","at":"2026-11-22T12:00:00Z","boot":"…"}. Uncordon takes it off.
const ReleasedAnnotation = "kured.dev/released"

// Bounds of the note, which anybody who may patch the Node can write: in bytes, of one text and of all.
const (
	maxNoteText = 200
	maxNote     = 4096
)

// Release is what the note says. By and Why are either both there or, if the note cannot be read, both
// empty; they are one line each, of at most 200 bytes.
type Release struct {
	By   string    // the name under which the API server knows who released it
	Why  string    // the reason that this person gave
	At   time.Time // by this person's clock; zero: not known
	Boot string    // boot id in the entry that was released, as NormalizeBootID writes it; empty: it could not be read
}

// String is the note as one line for people: "lock released by alice: the node is broken".
func (r Release) String() string {
	if r.By == "" {
		return fmt.Sprintf("lock released by somebody whose note on the Node (annotation %s) cannot be read", ReleasedAnnotation)
	}
	return fmt.Sprintf("lock released by %s: %s", r.By, r.Why)
}

// note is the form of a Release in the annotation.
type note struct {
	By   string `json:"by"`
	Why  string `json:"why"`
	At   string `json:"at"`
	Boot string `json:"boot"`
}

// releaseOf reads the note on a Node, nil if there is none. A damaged one is a Release that says so.
func releaseOf(obj *corev1.Node) *Release {
	text, there := obj.Annotations[ReleasedAnnotation]
	if !there {
		return nil
	}
	var n note
	if len(text) > maxNote || json.Unmarshal([]byte(text), &n) != nil {
		return &Release{}
	}
	r := Release{By: safeText(n.By), Why: safeText(n.Why)}
	if r.By == "" || r.Why == "" {
		return &Release{}
	}
	if at, err := time.Parse(time.RFC3339, n.At); err == nil {
		r.At = at
	}
	if boot, err := NormalizeBootID(n.Boot); err == nil {
		r.Boot = boot
	}
	return &r
}

// encode writes the note as releaseOf reads it.
func (r Release) encode() string {
	b, err := json.Marshal(note{By: safeText(r.By), Why: safeText(r.Why), At: r.At.UTC().Format(time.RFC3339), Boot: r.Boot})
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// safeText makes of somebody's text one that is safe to show: without control characters, line ends and
// marks that change the direction of writing, no space twice, and cut at a character's border.
func safeText(s string) string {
	if len(s) > maxNote {
		s = s[:maxNote] // enough to fill the line
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= maxNoteText {
		return s
	}
	const more = "…"
	cut := maxNoteText - len(more)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}
