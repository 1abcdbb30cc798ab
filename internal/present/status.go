package present

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// Status writes one status.
func Status(w io.Writer, f Format, s status.Status, now time.Time) error {
	if !f.ForPeople() {
		return Encode(w, f, s)
	}
	t := terminal.Of(w)
	_, err := io.WriteString(w, t.Cut(statusText(s, now, t, f == Wide)))
	return err
}

// statusText is a status for people; with wide also what one seldom wants to know.
func statusText(s status.Status, now time.Time, t terminal.Terminal, wide bool) string {
	b := &things{t: t}
	b.row("node", "%s", cmp.Or(s.Node, "(not known yet)"))
	b.painted(colour(s.Glance()), "phase", "%s, for %s", s.Phase, age(now, s.Since))
	if s.Reason != "" {
		b.row("reason", "%s", s.Reason)
	}
	if s.Detail != "" {
		b.row("detail", "%s", s.Detail)
	}
	if s.Next != nil {
		b.row("next", "%s (in %s)", s.Next.UTC().Format(time.RFC3339), age(*s.Next, now))
	}
	if d := s.Demand; d != nil {
		b.row("wanted", "for %s, by %s", age(now, d.Since), d.Path)
		if len(d.Reasons) > 0 {
			b.row("because", "%s", strings.Join(d.Reasons, ", "))
		}
	}
	if q := s.Queue; q != nil {
		showQueue(b, *q)
	}
	if d := s.Drain; d != nil {
		b.row("drain", "%s%d of %d pods gone", bar(t, d.Gone, d.Pods), d.Gone, d.Pods)
		for _, held := range d.Held {
			fmt.Fprintf(b, "%10s%s\n", "", Line(held))
		}
	}
	if wide {
		showMore(b, s)
	}
	if s.Reason != "" {
		b.painted(terminal.Dim, "more", "kured why")
	}
	return b.String()
}

// colour says at a glance whether somebody has to look.
func colour(g status.Glance) terminal.Colour {
	switch g {
	case status.Quiet:
		return terminal.Green
	case status.Waiting, status.Stopped:
		return terminal.Yellow
	case status.Busy:
		return terminal.Blue
	}
	return terminal.Red
}

// bar is how much of a whole is done, where it can be drawn anew.
func bar(t terminal.Terminal, done, whole int) string {
	const cells = 20
	if !t.Live || whole <= 0 {
		return ""
	}
	full := min(cells, max(0, done)*cells/whole)
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", cells-full) + "] "
}

// showMore adds what -o wide has.
func showMore(b *things, s status.Status) {
	for i, g := range s.Gates {
		key := ""
		if i == 0 {
			key = "gates:"
		}
		verdict := "open"
		if !g.Open {
			verdict = fmt.Sprintf("closed, %s", g.Reason)
		}
		fmt.Fprintf(b, "%-9s %s\n", key, Line(fmt.Sprintf("%s: %s", g.Gate, verdict)))
	}
	for _, row := range []struct{ key, text string }{{"boot", s.Boot}, {"cycle", s.Cycle}, {"version", s.Version}} {
		if row.text != "" {
			b.row(row.key, "%s", row.text)
		}
	}
}

// showQueue adds what is known of the lock.
func showQueue(b *things, q status.Queue) {
	line := "free"
	if len(q.Holders) > 0 {
		line = "held by " + strings.Join(q.Holders, ", ")
	}
	if q.Zone != "" {
		line += " of zone " + q.Zone
	}
	if q.Limit > 0 {
		line += fmt.Sprintf("; %d allowed", q.Limit)
	}
	if q.Place > 0 {
		line += fmt.Sprintf("; place %d of %d in the queue", q.Place, q.Waiting)
	}
	if len(q.Holders)+q.Waiting+len(q.Unavailable) > 0 {
		b.row("lock", "%s", line)
	}
	if len(q.Unavailable) > 0 {
		b.row("down", "%s (they use up the same limit)", strings.Join(q.Unavailable, ", "))
	}
	if q.Uncounted != "" {
		b.row("down", "not counted: %s", q.Uncounted)
	}
	if q.Enforced != nil {
		keeper := "the API server"
		if !*q.Enforced {
			keeper = "the nodes alone; apply wall.yaml"
		}
		b.row("rules", "kept by %s", keeper)
	}
}
