package present

import (
	"fmt"
	"io"
	"strings"

	"github.com/kured-host/kured/internal/explain"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// Answer is what kured why tells.
type Answer struct {
	Node   string          `json:"node,omitempty"`
	Phase  status.Phase    `json:"phase"`
	Reason status.Reason   `json:"reason,omitempty"`
	Points []explain.Point `json:"points"`
	// GatesError is why the gates could not be asked now: Points has what the
	// daemon knows of them.
	GatesError string `json:"gates_error,omitempty"`
}

// Why writes the answer. For people it is sentences, which on a terminal are
// folded to its width.
func Why(w io.Writer, f Format, a Answer) error {
	if !f.ForPeople() {
		return Encode(w, f, a)
	}
	t := terminal.Of(w)
	var b strings.Builder
	line := func(indent, text string, paint func(string) string) {
		width := 0
		if t.Live {
			width = t.Width()
		}
		for l := range strings.Lines(fold(text, width-len(indent))) {
			fmt.Fprintf(&b, "%s%s\n", indent, paint(strings.TrimSuffix(l, "\n")))
		}
	}
	as := func(text string) string { return text }
	strong := func(text string) string { return t.Paint(terminal.Bold, text) }
	last := explain.Now
	for _, p := range a.Points {
		if p.Kind != last {
			fmt.Fprintf(&b, "\n%s\n", strong(heading(p.Kind, a.Phase)))
			last = p.Kind
		}
		if p.Kind == explain.Now {
			line("", p.Text, as)
			continue
		}
		line("  ", p.Text, as)
		if p.Do != "" {
			line("    ", p.Do, func(text string) string { return t.Paint(terminal.Dim, text) })
		}
	}
	if a.GatesError != "" {
		fmt.Fprintln(&b)
		line("", "The gates could not be asked now: "+a.GatesError, as)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// heading is that of a part of kured why.
func heading(k explain.Kind, phase status.Phase) string {
	switch {
	case k == explain.Blocks && phase == status.BackingOff:
		return "what was in the way:"
	case k == explain.Blocks:
		return "in the way now:"
	case k == explain.Also && phase == status.Idle:
		return "in the way if a reboot were wanted now:"
	case k == explain.Also:
		return "in the way after that:"
	case k == explain.Then:
		return "by itself:"
	}
	return ""
}

// fold breaks a text into lines of at most width characters; less than 20: it
// does not. A command, which stands in double quotes, stays in one piece, so that
// it can be copied.
func fold(text string, width int) string {
	if width < 20 {
		return text
	}
	var b strings.Builder
	n := 0
	for _, word := range pieces(text, width) {
		length := len([]rune(word))
		switch {
		case n == 0:
		case n+1+length > width:
			b.WriteByte('\n')
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += length
	}
	return b.String()
}

// pieces are the words of a text, what is quoted as one if it fits into a line.
func pieces(text string, width int) []string {
	var out []string
	for words := strings.Fields(text); len(words) > 0; {
		n := 1
		for end := 1; end <= len(words); end++ {
			whole := strings.Join(words[:end], " ")
			if len([]rune(whole)) > width {
				break
			}
			if strings.Count(whole, `"`)%2 == 0 {
				n = end
				break
			}
		}
		out, words = append(out, strings.Join(words[:n], " ")), words[n:]
	}
	return out
}
