package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// screen writes lines, and on a terminal keeps a table below them that is redrawn in place.
type screen struct {
	style style

	mu    sync.Mutex
	out   *os.File
	live  bool     // a terminal that can be redrawn
	table []string // as drawn now
}

// newScreen finds out what out is. NO_COLOR (no-color.org) and TERM=dumb are heeded.
func newScreen(out *os.File) *screen {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	live := err == nil && os.Getenv("TERM") != "dumb"
	return &screen{out: out, live: live, style: style(live && os.Getenv("NO_COLOR") == "")}
}

// width of the terminal in characters; 0 if there is no limit.
func (s *screen) width() int {
	if !s.live {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 80
	}
	return int(size.Col)
}

// say writes lines above the table.
func (s *screen) say(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paint(lines, s.table)
}

// step begins a part of the demonstration.
func (s *screen) step(title string) { s.say("", s.style.bold("── "+title)) }

// draw replaces the table, if this is a terminal.
func (s *screen) draw(table []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && !slices.Equal(table, s.table) {
		s.paint(nil, table)
	}
}

// keep leaves the table where it is, among the lines; a next one begins below.
func (s *screen) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table = nil
}

// paint writes in one go, so that nothing flickers.
func (s *screen) paint(lines, table []string) {
	var text strings.Builder
	if n := len(s.table); n > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\r\x1b[J", n) // up, and clear to the end (ECMA-48 CUU, ED)
	}
	for _, line := range slices.Concat(lines, table) {
		text.WriteString(line + "\n")
	}
	s.table = table
	_, _ = s.out.WriteString(text.String())
}

// Write takes the progress of others, line by line.
func (s *screen) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		s.say(s.style.dim("   " + strings.TrimRight(line, "\n")))
	}
	return len(text), nil
}
