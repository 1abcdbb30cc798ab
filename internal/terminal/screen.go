package terminal

import (
	"fmt"
	"io"
	"strings"
)

// Screen shows a text that changes: in one place, without a screen of its own,
// so that the last state stays to be read and the scroll-back is left alone.
type Screen struct {
	t              Terminal
	drawn          int // lines above the cursor
	columns, lines int // of the terminal then
}

// NewScreen begins below what is on the terminal, which must be Live.
func NewScreen(t Terminal) *Screen { return &Screen{t: t} }

// Draw replaces the text that was drawn before, in one write. What does not fit
// is left out: the ends of lines, and lines at the end.
func (s *Screen) Draw(text string) error {
	columns, height := s.t.size()
	var b strings.Builder
	switch {
	case s.drawn > 0 && (columns != s.columns || height != s.lines):
		b.WriteString(escape + "H" + escape + "2J") // nobody knows how the terminal wrapped the old lines
	case s.drawn > 0:
		fmt.Fprintf(&b, "%s%dF", escape, s.drawn)
	}
	s.columns, s.lines = columns, height
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if room := height - 1; room > 0 && len(lines) > room { // the cursor has a line of its own
		left := len(lines) - room + 1
		lines = append(lines[:room-1:room-1], s.t.Paint(Dim, fmt.Sprintf("… and %d more lines", left)))
	}
	for _, line := range lines {
		if columns > 0 {
			line = cut(line, columns)
		}
		b.WriteString(line + escape + "K\n")
	}
	b.WriteString(escape + "J")
	s.drawn = len(lines)
	_, err := io.WriteString(s.t.w, b.String())
	return err
}
