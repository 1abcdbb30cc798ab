package present

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
)

// Lock writes who holds the lock of that name, and who waits for it.
func Lock(w io.Writer, f Format, namespace, name string, l lock.Listing, now time.Time) error {
	if !f.ForPeople() {
		return Encode(w, f, struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
			lock.Listing
		}{namespace, name, l})
	}
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(Line(fmt.Sprintf(format, args...)) + "\n") }
	line("lock %s/%s: %s", namespace, name, lockSummary(l))
	if p := l.Policy; p != nil {
		line("policy %s: %s", p.Name, ruling(*p))
	}
	var holders, waiters [][]string
	for _, h := range l.Holders {
		holders = append(holders, []string{h.Node, string(h.Phase), h.Since.UTC().Format(time.RFC3339), age(now, h.Since), h.Zone, h.Boot, h.Reason})
	}
	for _, wait := range l.Waiters {
		waiters = append(waiters, []string{fmt.Sprint(wait.Place), wait.Node, wait.Since.UTC().Format(time.RFC3339), age(now, wait.Since), wait.Zone, fmt.Sprint(wait.Priority)})
	}
	lockTable(&b, []string{"HOLDER", "PHASE", "SINCE", "AGE", "ZONE", "BOOT", "REASON"}, holders)
	lockTable(&b, []string{"PLACE", "WAITER", "SINCE", "AGE", "ZONE", "PRIORITY"}, waiters)
	if len(l.Unreadable) > 0 {
		fmt.Fprintln(&b)
	}
	for _, u := range l.Unreadable {
		what := "it takes a place in the waiting room"
		if u.Holds {
			what = "it counts as a holder"
		}
		remedy := "remove the key from the ConfigMap by hand"
		if u.Node != "" {
			remedy = "kured lock release " + u.Node + " --reason WHY removes it"
		}
		line("%s cannot be read, %s: %s (%s)", u.Key, what, u.What, remedy)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lockSummary counts.
func lockSummary(l lock.Listing) string {
	limit := "limit not known here"
	if l.Limit > 0 {
		limit = fmt.Sprintf("%d allowed", l.Limit)
	}
	if l.LimitNote != "" {
		limit += " (" + l.LimitNote + ")"
	}
	held := len(l.Holders)
	for _, u := range l.Unreadable {
		if u.Holds {
			held++
		}
	}
	return fmt.Sprintf("%d held, %s, %d waiting", held, limit, len(l.Waiters))
}

// lockTable is an empty line, a head and rows, or nothing.
func lockTable(b *strings.Builder, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n" + columns("", append([][]string{head}, rows...)))
}

// ruling is a policy in one line.
func ruling(p lock.Ruling) string {
	var words []string
	if p.Error != "" {
		words = append(words, p.Error)
	}
	if p.Max != "" {
		words = append(words, p.Max+" allowed")
	}
	if p.Room > 0 {
		words = append(words, fmt.Sprintf("%d may wait", p.Room))
	}
	if p.Closed != "" {
		words = append(words, p.Detail)
	}
	if len(words) == 0 {
		return "limits nothing"
	}
	return strings.Join(words, "; ")
}
