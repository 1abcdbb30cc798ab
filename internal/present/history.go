package present

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/history"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// History writes past cycles.
func History(w io.Writer, f Format, log history.Log) error {
	if !f.ForPeople() {
		return Encode(w, f, log)
	}
	if len(log.Cycles) == 0 {
		_, err := fmt.Fprintln(w, "no cycles in the journal")
		return err
	}
	screen := terminal.Of(w)
	for i, line := range historyTable(log.Cycles) {
		if _, err := fmt.Fprintln(w, screen.Cut(line)); err != nil {
			return err
		}
		if i == 0 {
			continue // the head
		}
		for _, s := range log.Cycles[i-1].Setbacks {
			line := fmt.Sprintf("  %s %s: %s", s.At.Format(time.RFC3339), s.Reason, s.Detail)
			if _, err := fmt.Fprintln(w, screen.Cut(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// historyTable is a head and a line for each cycle. Nodes are named if there are several.
func historyTable(cycles []history.Cycle) []string {
	nodes := map[string]bool{}
	for _, c := range cycles {
		nodes[c.Node] = true
	}
	var rows [][]string
	row := func(node string, cells ...string) {
		if len(nodes) > 1 {
			cells = append([]string{node}, cells...)
		}
		rows = append(rows, cells)
	}
	row("NODE", "BEGAN", "TOOK", "TRIES", "RESULT", "WAIT", "QUEUE", "DRAIN", "REBOOT", "RETURN", "WHY")
	for _, c := range cycles {
		result := string(c.Result)
		if c.Result == history.Running && c.Phase != "" {
			result += " (" + string(c.Phase) + ")"
		}
		tries := ""
		if c.Tries > 0 {
			tries = strconv.Itoa(c.Tries)
		}
		row(c.Node, c.Began.Format(time.RFC3339), took(c.Took()), tries, result,
			took(c.In(status.Starting, status.Blocked, status.BackingOff, status.Held)), took(c.In(status.Queued)),
			took(c.In(status.Locked, status.Draining, status.RollingBack)), took(c.In(status.Rebooting)), took(c.In(status.Returning)),
			strings.Join(c.Packages, ", "))
	}
	return strings.Split(strings.TrimSuffix(columns("", rows), "\n"), "\n")
}

// took is a duration in whole seconds, or nothing.
func took(d time.Duration) string {
	if d = d.Round(time.Second); d == 0 {
		return ""
	}
	return d.String()
}
