package present

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// Fleet writes one view of the fleet.
func Fleet(w io.Writer, f Format, v fleet.View) error {
	if !f.ForPeople() {
		return Encode(w, f, v)
	}
	t := terminal.Of(w)
	_, err := io.WriteString(w, t.Cut(fleetText(v, t, f == Wide)))
	return err
}

// Row writes one node for people, as the API server knows it.
func Row(w io.Writer, r fleet.Row, now time.Time) error {
	b := &things{t: terminal.Of(w)}
	b.row("node", "%s, as the API server knows it", r.Node)
	phase := string(r.Phase)
	if !r.Since.IsZero() {
		phase += ", said " + age(now, r.Since) + " ago"
	}
	b.row("phase", "%s", phase)
	if r.Reason != "" {
		b.row("reason", "%s", r.Reason)
	}
	if r.Detail != "" {
		b.row("detail", "%s", r.Detail)
	}
	switch {
	case r.Lock == fleet.Holds:
		b.row("lock", "held by this node")
	case r.Place > 0:
		b.row("lock", "place %d in the queue", r.Place)
	}
	b.row("state", "%s", nodeState(r))
	if !r.Rebooted.IsZero() {
		b.row("rebooted", "%s ago", age(now, r.Rebooted))
	}
	if r.Problem != "" {
		b.row("problem", "%s", r.Problem)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fleetText is the fleet for people: a line on all, and a table. With wide there are more columns.
func fleetText(v fleet.View, t terminal.Terminal, wide bool) string {
	var b strings.Builder
	line := func(c terminal.Colour, text string) { b.WriteString(t.Paint(c, Line(text)) + "\n") }
	line(terminal.Bold, v.Summary())
	if v.Stale != "" {
		line(terminal.Red, "as it was at "+v.At.Format(time.RFC3339)+": "+v.Stale)
	}
	if p := v.Policy; p != nil && (p.Closed != "" || p.Error != "") {
		line(terminal.Yellow, "policy "+p.Name+": "+ruling(*p))
	}
	if v.LimitNote != "" {
		line(terminal.Yellow, v.LimitNote)
	}
	if len(v.Nodes) > 0 {
		b.WriteString("\n" + fleetTable(v, t, wide))
	}
	notes := false
	note := func(text string) {
		if !notes {
			b.WriteString("\n")
			notes = true
		}
		line(terminal.Yellow, text)
	}
	for _, r := range v.Nodes {
		if r.Problem != "" {
			note(r.Node + ": " + r.Problem)
		}
	}
	for _, u := range v.Strange {
		note("lock " + v.Lock + ": " + u.Key + " cannot be read and counts as a holder: " + u.What)
	}
	return b.String()
}

// fleetTable is a row for each node. Colours take no room, which tabwriter does not know.
func fleetTable(v fleet.View, t terminal.Terminal, wide bool) string {
	table := [][]string{{"NODE", "PHASE", "REASON", "SINCE", "PLACE", "BOOT", "WANTED", "STATE"}}
	if wide {
		table[0] = append(table[0], "REBOOTED", "VERSION", "PACKAGES", "DETAIL")
	}
	for _, r := range v.Nodes {
		place := ""
		if r.Place > 0 {
			place = fmt.Sprint(r.Place)
		}
		cells := []string{r.Node, string(r.Phase), string(r.Reason), age(v.At, r.Since), place, r.Boot[:min(8, len(r.Boot))], age(v.At, r.Wanted), nodeState(r)}
		if wide {
			cells = append(cells, age(v.At, r.Rebooted), r.Version, strings.Join(r.Packages, " "), r.Detail)
		}
		table = append(table, cells)
	}
	widths := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range clean(cells) {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for n, cells := range table {
		var line strings.Builder
		for i, cell := range cells {
			gap := strings.Repeat(" ", widths[i]-len([]rune(cell))+2)
			if n > 0 && i == 1 {
				r := v.Nodes[n-1]
				cell = t.Paint(colour(status.Status{Phase: r.Phase, Reason: r.Reason}.Glance()), cell)
			}
			line.WriteString(cell + gap)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// nodeState is what kubectl shows of a Node.
func nodeState(r fleet.Row) string {
	state := "NotReady"
	if r.Ready {
		state = "Ready"
	}
	if r.Cordoned {
		state += ",cordoned"
	}
	return state
}
