package present

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// Heard is what was heard last of a daemon: a status, or why there is none.
type Heard struct {
	Status status.Status
	Down   error
}

// Follow shows what is heard, in the way that fits the place and the format:
// drawn anew on a terminal, else a line for each change; for programs each status.
// What it gives is called for each change, and again for what was shown already.
func Follow(w io.Writer, f Format, now func() time.Time) func(Heard) error {
	var last string
	once := func(text, written string) error { // for what is told only once
		if text == last {
			return nil
		}
		last = text
		_, err := io.WriteString(w, written)
		return err
	}
	t := terminal.Of(w)
	switch {
	case !f.ForPeople():
		return func(h Heard) error {
			if h.Down != nil {
				last = "" // a daemon that is back is told, whatever it says
				return nil
			}
			text, err := streamed(f, h.Status)
			if err != nil {
				return err
			}
			return once(text, text)
		}
	case !t.Live:
		return func(h Heard) error {
			line := changeLine(h)
			return once(line, now().UTC().Format(time.RFC3339)+" "+line+"\n")
		}
	}
	screen := terminal.NewScreen(t)
	return func(h Heard) error {
		if h.Down != nil {
			return screen.Draw(t.Paint(terminal.Red, h.Down.Error()))
		}
		return screen.Draw(statusText(h.Status, now(), t, f == Wide))
	}
}

// streamed is a value as one of many: a line of JSON, or a document of YAML.
func streamed(f Format, value any) (string, error) {
	if f == JSON {
		text, err := json.Marshal(value)
		return string(text) + "\n", err
	}
	var b strings.Builder
	err := Encode(&b, f, value)
	return "---\n" + b.String(), err
}

// changeLine is what is heard, as one line of many.
func changeLine(h Heard) string {
	if h.Down != nil {
		return h.Down.Error()
	}
	s := h.Status
	line := cmp.Or(s.Node, "(not known yet)") + " " + s.Line()
	if s.Reason != "" && s.Detail != "" {
		line += " (" + string(s.Reason) + ")"
	}
	if d := s.Drain; d != nil {
		line += fmt.Sprintf("; %d of %d pods gone", d.Gone, d.Pods)
	}
	return Line(line)
}

// FollowFleet shows views as Follow does, a line for each node that changes. again
// says that it is the view that was shown already.
func FollowFleet(w io.Writer, f Format, now func() time.Time) func(v fleet.View, again bool) error {
	t := terminal.Of(w)
	switch {
	case !f.ForPeople():
		last := ""
		return func(v fleet.View, again bool) error {
			if again {
				return nil
			}
			untimed := v
			untimed.At = time.Time{}
			same, err := json.Marshal(untimed)
			if err != nil || string(same) == last {
				return err
			}
			last = string(same)
			text, err := streamed(f, v)
			if err != nil {
				return err
			}
			_, err = io.WriteString(w, text)
			return err
		}
	case t.Live:
		screen := terminal.NewScreen(t)
		return func(v fleet.View, _ bool) error {
			if v.Stale == "" {
				v.At = now().UTC()
			}
			return screen.Draw(fleetText(v, t, f == Wide))
		}
	}
	told := map[string]string{}
	return func(v fleet.View, again bool) error {
		if again {
			return nil
		}
		_, err := io.WriteString(w, fleetChanges(v, told, now()))
		return err
	}
}

// fleetChanges is a line for each node that is not as it was told, which it notes in told.
func fleetChanges(v fleet.View, told map[string]string, now time.Time) string {
	var b strings.Builder
	tell := func(name, text string) {
		if told[name] != text {
			told[name] = text
			at := v.At
			if v.Stale != "" {
				at = now.UTC()
			}
			fmt.Fprintf(&b, "%s %s\n", at.Format(time.RFC3339), Line(text))
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
