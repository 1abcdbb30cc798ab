package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// textBuilder collects text.
type textBuilder = strings.Builder

// statusRows writes a status for people, a row for each thing.
type statusRows struct {
	textBuilder
	t terminal.Terminal
}

// row adds a row. What comes from others does nothing to a terminal.
func (r *statusRows) row(key, format string, args ...any) {
	r.painted("", key, format, args...)
}

func (r *statusRows) painted(c terminal.Colour, key, format string, args ...any) {
	fmt.Fprintf(r, "%-9s %s\n", key+":", r.t.Paint(c, printable(fmt.Sprintf(format, args...))))
}

// statusText is a status for people; with wide also what one seldom wants to know.
func statusText(s status.Status, now time.Time, t terminal.Terminal, wide bool) string {
	b := &statusRows{t: t}
	b.row("node", "%s", cmp.Or(s.Node, "(not known yet)"))
	b.painted(phaseColour(s), "phase", "%s, for %s", s.Phase, ago(now, s.Since))
	if s.Reason != "" {
		b.row("reason", "%s", s.Reason)
	}
	if s.Detail != "" {
		b.row("detail", "%s", s.Detail)
	}
	if s.Next != nil {
		b.row("next", "%s (in %s)", s.Next.UTC().Format(time.RFC3339), ago(*s.Next, now))
	}
	if d := s.Demand; d != nil {
		b.row("wanted", "for %s, by %s", ago(now, d.Since), d.Path)
		if len(d.Reasons) > 0 {
			b.row("because", "%s", strings.Join(d.Reasons, ", "))
		}
	}
	if q := s.Queue; q != nil {
		showQueue(b.row, *q)
	}
	if d := s.Drain; d != nil {
		b.row("drain", "%s%d of %d pods gone", bar(t, d.Gone, d.Pods), d.Gone, d.Pods)
		for _, held := range d.Held {
			fmt.Fprintf(b, "%10s%s\n", "", printable(held))
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

// phaseColour says at a glance whether somebody has to look.
func phaseColour(s status.Status) terminal.Colour {
	switch s.Glance() {
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
func showMore(b *statusRows, s status.Status) {
	for i, g := range s.Gates {
		key := ""
		if i == 0 {
			key = "gates:"
		}
		verdict := "open"
		if !g.Open {
			verdict = fmt.Sprintf("closed, %s", g.Reason)
		}
		fmt.Fprintf(b, "%-9s %s\n", key, printable(fmt.Sprintf("%s: %s", g.Gate, verdict)))
	}
	for _, row := range []struct{ key, text string }{{"boot", s.Boot}, {"cycle", s.Cycle}, {"version", s.Version}} {
		if row.text != "" {
			b.row(row.key, "%s", row.text)
		}
	}
}

// changeLine is what is seen, as one line of many.
func changeLine(s seen) string {
	if s.down != nil {
		return s.down.Error()
	}
	line := cmp.Or(s.status.Node, "(not known yet)") + " " + s.status.Line()
	if s.status.Reason != "" && s.status.Detail != "" {
		line += " (" + string(s.status.Reason) + ")"
	}
	if d := s.status.Drain; d != nil {
		line += fmt.Sprintf("; %d of %d pods gone", d.Gone, d.Pods)
	}
	return printable(line)
}

// showQueue adds what is known of the lock.
func showQueue(row func(label, format string, args ...any), q status.Queue) {
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
		row("lock", "%s", line)
	}
	if len(q.Unavailable) > 0 {
		row("down", "%s (they use up the same limit)", strings.Join(q.Unavailable, ", "))
	}
	if q.Uncounted != "" {
		row("down", "not counted: %s", q.Uncounted)
	}
	if q.Enforced != nil {
		keeper := "the API server"
		if !*q.Enforced {
			keeper = "the nodes alone; apply wall.yaml"
		}
		row("rules", "kept by %s", keeper)
	}
}

// ago is the time from then to now, in whole seconds.
func ago(now, then time.Time) time.Duration {
	return max(0, now.Sub(then)).Round(time.Second)
}
