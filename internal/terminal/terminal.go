// Package terminal is how text for people looks: in colour, cut to the width
// and drawn anew in its place on a terminal; plain and whole elsewhere.
package terminal

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// Terminal is a place for text, which may be a terminal.
type Terminal struct {
	// Live says that it is a terminal on which text can be drawn anew.
	Live   bool
	w      io.Writer
	fd     int
	colour bool
}

// Of looks at w. It is a terminal if it is a file that the kernel calls one, and
// $TERM is not "dumb". It has colours unless $NO_COLOR is set and not empty
// (https://no-color.org).
func Of(w io.Writer) Terminal {
	t := Terminal{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		t.Live, t.fd = true, int(f.Fd())
		t.colour = os.Getenv("NO_COLOR") == ""
	}
	return t
}

// size is how many columns and lines fit now; 0: any number.
func (t Terminal) size() (columns, lines int) {
	if !t.Live {
		return 0, 0
	}
	columns, lines, err := term.GetSize(t.fd)
	if err != nil {
		return 0, 0
	}
	return columns, lines
}

// Width is how many columns fit now; 0: any number.
func (t Terminal) Width() int {
	columns, _ := t.size()
	return columns
}

// Colour is one of the few that kured uses.
type Colour string

// The colours, as parameters of SGR (ECMA-48).
const (
	Bold   Colour = "1"
	Dim    Colour = "2"
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Blue   Colour = "34"
)

// Paint is text in a colour, or as it is where there are none.
func (t Terminal) Paint(c Colour, text string) string {
	if !t.colour || text == "" || c == "" {
		return text
	}
	return escape + string(c) + "m" + text + plain
}

const (
	escape = "\x1b["
	plain  = escape + "0m"
)

// Cut makes each line of text, which Paint may have coloured, as short as the
// terminal is wide. Elsewhere it changes nothing.
func (t Terminal) Cut(text string) string {
	columns := t.Width()
	if columns == 0 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		body, end := strings.CutSuffix(line, "\n")
		b.WriteString(cut(body, columns))
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// cut makes one line as short as columns. A line that is longer ends in "…".
func cut(line string, columns int) string {
	used, room, painted := 0, -1, false // room: where the line ends if it is too long
	for i := 0; i < len(line); {
		if strings.HasPrefix(line[i:], escape) {
			end := strings.IndexByte(line[i:], 'm')
			if end < 0 {
				return line[:i]
			}
			painted = true
			i += end + 1
			continue
		}
		size, wide := 0, 0
		for j, r := range line[i:] {
			if j > 0 {
				size = j
				break
			}
			wide = cells(r)
		}
		if size == 0 {
			size = len(line) - i
		}
		if room < 0 && used+wide > columns-1 {
			room = i
		}
		if used+wide > columns {
			short := line[:room] + "…"
			if painted {
				short += plain
			}
			return short
		}
		used += wide
		i += size
	}
	return line
}

// cells is how many columns a character takes (Unicode Standard Annex #11).
func cells(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
