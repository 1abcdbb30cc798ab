// Package present is what the commands show of what other rooms found: text for
// people, in columns and colours, and for programs the same as JSON or YAML,
// whose forms only gain fields. It finds out nothing itself.
package present

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/kured-host/kured/internal/terminal"
)

// Format is how an answer is written.
type Format string

// The formats.
const (
	Text Format = "text"
	Wide Format = "wide" // text with more in it
	JSON Format = "json"
	YAML Format = "yaml"
)

// ForPeople reports whether it is text.
func (f Format) ForPeople() bool { return f == Text || f == Wide }

// Encode writes a value for programs: as JSON with indentation, or as YAML with
// the same names.
func Encode(w io.Writer, f Format, value any) error {
	switch f {
	case JSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	case YAML:
		text, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("write as YAML: %w", err)
		}
		_, err = w.Write(text)
		return err
	}
	return fmt.Errorf("%q is no form for a program", f)
}

// Line is a line of text, some of which others wrote, that does nothing to a
// terminal.
func Line(line string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.TrimSuffix(line, "\n"))
}

// things writes a row for each thing that there is to say.
type things struct {
	strings.Builder
	t terminal.Terminal
}

// row adds a row. What comes from others does nothing to a terminal.
func (r *things) row(key, format string, args ...any) {
	r.painted("", key, format, args...)
}

func (r *things) painted(c terminal.Colour, key, format string, args ...any) {
	fmt.Fprintf(r, "%-9s %s\n", key+":", r.t.Paint(c, Line(fmt.Sprintf(format, args...))))
}

// clean makes cells fit for a table: text that others wrote stays in its cell,
// and one that would be empty has a dash, so that columns stay such for awk(1).
func clean(cells []string) []string {
	for i, c := range cells {
		if cells[i] = Line(c); c == "" {
			cells[i] = "-"
		}
	}
	return cells
}

// columns writes rows of cells below each other, each behind the indent and
// without space at its end.
func columns(indent string, rows [][]string) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, cells := range rows {
		fmt.Fprintln(table, indent+strings.Join(clean(cells), "\t"))
	}
	_ = table.Flush() // into memory
	var lines strings.Builder
	for line := range strings.Lines(b.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return lines.String()
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
