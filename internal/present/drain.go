package present

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/drain"
)

// rehearsal is that of a drain, for programs.
type rehearsal struct {
	Node    string      `json:"node"`
	Through bool        `json:"through"` // the drain would go through
	Tiers   []drainTier `json:"tiers"`   // in the order in which they leave
	Staying []drainStay `json:"staying"`
	Held    []drainHeld `json:"held"`    // would be held up now
	Refused []drainHeld `json:"refused"` // may not be evicted by the configuration: while there is one, nothing would be
	Unknown []drainHeld `json:"unknown"` // of which a dry run tells nothing
	// Together names the groups of which a budget may let fewer go at a time than one by one.
	Together []string `json:"together,omitempty"`

	Timeout   string `json:"timeout"`    // drain.timeout
	OnTimeout string `json:"on_timeout"` // drain.on_timeout
}

type drainTier struct {
	Name string       `json:"name,omitempty"` // absent: there is but one
	Pods []drainLeave `json:"pods"`
}

type drainLeave struct {
	Namespace    string  `json:"namespace"`
	Name         string  `json:"name"`
	Owner        string  `json:"owner,omitempty"` // absent: nobody makes it anew
	GraceSeconds float64 `json:"grace_seconds"`
	Terminating  bool    `json:"terminating,omitempty"` // it is being deleted already
}

type drainStay struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Why       string `json:"why"`
}

type drainHeld struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Why       drain.Why `json:"why"`
	Budget    string    `json:"budget,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Text      string    `json:"text"` // all of it as a sentence
}

// Drain writes what a drain of the node would do, as a rehearsal with these options found.
func Drain(w io.Writer, f Format, name string, options drain.Options, r drain.Report) error {
	if !f.ForPeople() {
		return Encode(w, f, rehearsalOf(name, options, r))
	}
	_, err := io.WriteString(w, drainText(name, options, r))
	return err
}

// rehearsalOf puts a report into the form for programs.
func rehearsalOf(name string, options drain.Options, r drain.Report) rehearsal {
	d := rehearsal{
		Node: name, Through: r.Err() == nil, Together: r.Together,
		Tiers: []drainTier{}, Staying: []drainStay{}, Held: drainHolds(r.Held), Refused: drainHolds(r.Refused), Unknown: drainHolds(r.Unknown),
		Timeout: options.Timeout.String(), OnTimeout: string(options.OnTimeout),
	}
	for _, tier := range r.Tiers {
		t := drainTier{Name: tier.Name}
		for _, pod := range tier.Leaving {
			t.Pods = append(t.Pods, drainLeave{pod.Namespace, pod.Name, pod.Owner, pod.Grace.Seconds(), pod.Terminating})
		}
		d.Tiers = append(d.Tiers, t)
	}
	for _, pod := range r.Staying {
		d.Staying = append(d.Staying, drainStay{pod.Namespace, pod.Name, pod.Why})
	}
	return d
}

func drainHolds(pods []drain.HeldPod) []drainHeld {
	all := []drainHeld{}
	for _, h := range pods {
		all = append(all, drainHeld{h.Namespace, h.Name, h.Why, h.Budget, h.Detail, h.String()})
	}
	return all
}

// drainText is a rehearsal for people.
func drainText(name string, options drain.Options, r drain.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %s: %s\n", name, drainSummary(r))
	if len(r.Tiers) == 0 && len(r.Refused) == 0 {
		fmt.Fprintln(&b, "no pod has to leave")
	}
	for i, tier := range r.Tiers {
		head := pods(len(tier.Leaving), "leaves", "leave")
		if i > 0 {
			head = "then " + head
		}
		if tier.Name != "" {
			head += ", " + tier.Name
		}
		drainTable(&b, head, leaving(tier.Leaving))
	}
	var staying [][]string
	for _, pod := range r.Staying {
		staying = append(staying, []string{pod.Namespace + "/" + pod.Name, pod.Why})
	}
	drainTable(&b, pods(len(r.Staying), "stays", "stay"), staying)
	for _, held := range []struct {
		pods []drain.HeldPod
		what string
	}{{r.Refused, "may not be evicted, so nothing would be"}, {r.Held, "would be held now"}, {r.Unknown, "cannot be told by a dry run"}} {
		var sentences [][]string
		for _, h := range held.pods {
			sentences = append(sentences, []string{h.String()})
		}
		drainTable(&b, pods(len(held.pods), held.what, held.what), sentences)
	}
	var groups [][]string
	for _, group := range r.Together {
		groups = append(groups, []string{group})
	}
	drainTable(&b, "asked about one by one; a budget may let fewer go at a time", groups)
	if len(r.Held)+len(r.Unknown) > 0 && len(r.Refused) == 0 {
		fmt.Fprintf(&b, "\nA drain asks again until drain.timeout, %s, is over; then: %s (drain.on_timeout).\n", options.Timeout, options.OnTimeout)
	}
	return b.String()
}

// drainSummary is whether a drain would go through.
func drainSummary(r drain.Report) string {
	switch err := r.Err(); {
	case err == nil:
		return "a drain would go through now"
	case errors.Is(err, drain.ErrRefused):
		return "a drain would not begin: there are pods that may not be evicted"
	case len(r.Held) > 0:
		return "a drain would be held up now"
	}
	return "a dry run does not tell whether a drain would go through"
}

// leaving is a row for each pod that leaves.
func leaving(pods []drain.LeavingPod) (rows [][]string) {
	for _, pod := range pods {
		owner := pod.Owner
		if owner == "" {
			owner = "nobody makes it anew"
		}
		grace := "stops within " + pod.Grace.Truncate(time.Second).String()
		if pod.Terminating {
			grace = "is stopping already"
		}
		rows = append(rows, []string{pod.Namespace + "/" + pod.Name, grace, owner})
	}
	return rows
}

// drainTable is an empty line, a head and rows, or nothing.
func drainTable(b *strings.Builder, head string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", Line(head))
	b.WriteString(columns("  ", rows))
}

// pods says how many pods do something.
func pods(n int, one, many string) string {
	if n == 1 {
		return "1 pod " + one
	}
	return fmt.Sprintf("%d pods %s", n, many)
}
