package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// statusAll tells of every node of the pool what the API server knows. It needs no daemon.
func statusAll(cmd *cobra.Command, o statusOptions) error {
	ctx := cmd.Context()
	limited, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	opened, err := openLock(limited, cmd)
	if err != nil {
		return asDaemonError(err)
	}
	all, err := opened.fleet(cmd)
	if err != nil {
		return asDaemonError(err)
	}
	if o.watch {
		return asDaemonError(watchAll(ctx, cmd.OutOrStdout(), o.output, all))
	}
	v, err := all.List(limited)
	if err != nil {
		return asDaemonError(err)
	}
	w := cmd.OutOrStdout()
	if o.output == outJSON || o.output == outYAML {
		return asDaemonError(encode(w, o.output, v))
	}
	t := terminal.Of(w)
	_, err = io.WriteString(w, t.Cut(fleetText(v, t, o.output == outWide)))
	return asDaemonError(err)
}

// fleet is the pool of the lock that was opened.
func (o *opened) fleet(cmd *cobra.Command) (fleet.Fleet, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return fleet.Fleet{}, err
	}
	return fleet.Fleet{Client: o.person.Client, Selector: cfg.Lock.NodeSelector, Lock: o.store, Viewer: o.viewer()}, nil
}

// statusElsewhere is what the API server knows of this node, for people. It is asked where the daemon is down.
func statusElsewhere(ctx context.Context, cmd *cobra.Command) (string, error) {
	opened, err := openLock(ctx, cmd)
	if err != nil {
		return "", err
	}
	cfg, err := loadConfig(cmd)
	if err != nil {
		return "", err
	}
	name := cmp.Or(opened.person.Node, cfg.Kubernetes.NodeName)
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("which node this is: %w", err)
		}
		name = strings.ToLower(strings.TrimSpace(name)) // as kubelets do it
	}
	r, found, err := fleet.Fleet{Client: opened.person.Client, Lock: opened.store}.One(ctx, name)
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", fmt.Errorf("there is no node %s", status.Clean(name, 253))
	}
	return rowText(r, time.Now()), nil
}

// rowText is one node for people, as the API server knows it.
func rowText(r fleet.Row, now time.Time) string {
	var b textBuilder
	row := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", key+":", printable(fmt.Sprintf(format, args...)))
	}
	row("node", "%s, as the API server knows it", r.Node)
	phase := string(r.Phase)
	if !r.Since.IsZero() {
		phase += ", said " + age(now, r.Since) + " ago"
	}
	row("phase", "%s", phase)
	if r.Reason != "" {
		row("reason", "%s", r.Reason)
	}
	if r.Detail != "" {
		row("detail", "%s", r.Detail)
	}
	switch {
	case r.Lock == fleet.Holds:
		row("lock", "held by this node")
	case r.Place > 0:
		row("lock", "place %d in the queue", r.Place)
	}
	row("state", "%s", nodeState(r))
	if !r.Rebooted.IsZero() {
		row("rebooted", "%s ago", age(now, r.Rebooted))
	}
	if r.Problem != "" {
		row("problem", "%s", r.Problem)
	}
	return b.String()
}

// fleetText is the fleet for people: a line on all, and a table. With wide there are more columns.
func fleetText(v fleet.View, t terminal.Terminal, wide bool) string {
	var b textBuilder
	line := func(c terminal.Colour, text string) { b.WriteString(t.Paint(c, printable(text)) + "\n") }
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
		for i := range cells {
			cells[i] = cmp.Or(printable(cells[i]), "-")
			widths[i] = max(widths[i], len([]rune(cells[i])))
		}
	}
	var b textBuilder
	for n, cells := range table {
		var line textBuilder
		for i, cell := range cells {
			gap := strings.Repeat(" ", widths[i]-len([]rune(cell))+2)
			if n > 0 && i == 1 {
				r := v.Nodes[n-1]
				cell = t.Paint(phaseColour(status.Status{Phase: r.Phase, Reason: r.Reason}), cell)
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

// age is the time from then to now in at most two units: "12s", "3m", "5h12m", "2d4h"; empty if then is not known.
func age(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	d := max(0, now.Sub(then))
	seconds, minutes, hours := int(d/time.Second), int(d/time.Minute), int(d/time.Hour)
	two := func(big int, bigUnit string, small int, smallUnit string) string {
		if small == 0 {
			return fmt.Sprintf("%d%s", big, bigUnit)
		}
		return fmt.Sprintf("%d%s%d%s", big, bigUnit, small, smallUnit)
	}
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case minutes < 10:
		return two(minutes, "m", seconds%60, "s")
	case minutes < 60:
		return fmt.Sprintf("%dm", minutes)
	case hours < 24:
		return two(hours, "h", minutes%60, "m")
	}
	return two(hours/24, "d", hours%24, "h")
}

// watchAll shows the fleet and what changes in it until it is interrupted.
func watchAll(ctx context.Context, w io.Writer, o outputFormat, all fleet.Fleet) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	views, ended := make(chan fleet.View), make(chan error, 1)
	go func() {
		ended <- all.Watch(ctx, func(v fleet.View) error {
			select {
			case views <- v:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	show := fleetWatcher(w, o)
	tick := time.NewTicker(time.Second) // ages go on where it is drawn anew
	defer tick.Stop()
	var last fleet.View
	for {
		again := false
		select {
		case last = <-views:
		case <-tick.C:
			again = true
			if last.At.IsZero() {
				continue
			}
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := show(last, again); err != nil {
			cancel()
			<-ended
			return err
		}
	}
}

// fleetWatcher shows views in the way that fits the place and the format: drawn anew on a terminal, else a line for each
// change; for programs a view for each change. again says that it is the view that was shown already.
func fleetWatcher(w io.Writer, o outputFormat) func(v fleet.View, again bool) error {
	t := terminal.Of(w)
	switch {
	case o == outJSON || o == outYAML:
		last := ""
		return func(v fleet.View, again bool) error {
			if again {
				return nil
			}
			text, untimed := v, v
			untimed.At = time.Time{}
			same, err := json.Marshal(untimed)
			if err != nil || string(same) == last {
				return err
			}
			last = string(same)
			if o == outJSON {
				return json.NewEncoder(w).Encode(text)
			}
			if _, err := io.WriteString(w, "---\n"); err != nil {
				return err
			}
			return encode(w, o, text)
		}
	case t.Live:
		screen := terminal.NewScreen(t)
		return func(v fleet.View, _ bool) error {
			if v.Stale == "" {
				v.At = time.Now().UTC()
			}
			return screen.Draw(fleetText(v, t, o == outWide))
		}
	}
	told := map[string]string{}
	return func(v fleet.View, again bool) error {
		if again {
			return nil
		}
		_, err := io.WriteString(w, fleetChanges(v, told))
		return err
	}
}

// fleetChanges is a line for each node that is not as it was told, which it notes in told.
func fleetChanges(v fleet.View, told map[string]string) string {
	var b textBuilder
	tell := func(name, text string) {
		if told[name] != text {
			told[name] = text
			at := v.At
			if v.Stale != "" {
				at = time.Now().UTC()
			}
			fmt.Fprintf(&b, "%s %s\n", at.Format(time.RFC3339), printable(text))
		}
	}
	const general = "" // no node has this name
	if v.Stale != "" {
		tell(general, "not up to date: "+v.Stale)
		return b.String()
	}
	if told[general] != "" {
		tell(general, "up to date again")
		told[general] = ""
	}
	there := map[string]bool{general: true}
	for _, r := range v.Nodes {
		there[r.Node] = true
		tell(r.Node, rowLine(r))
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if !there[name] {
			tell(name, name+" is gone")
			delete(told, name)
		}
	}
	return b.String()
}

// rowLine is one node in one line.
func rowLine(r fleet.Row) string {
	line := r.Node + " " + string(r.Phase)
	if r.Reason != "" {
		line += " (" + string(r.Reason) + ")"
	}
	if r.Place > 0 {
		line += fmt.Sprintf(", place %d", r.Place)
	}
	line += ", " + nodeState(r)
	if r.Detail != "" {
		line += ": " + r.Detail
	}
	if r.Problem != "" {
		line += "; " + r.Problem
	}
	return line
}
