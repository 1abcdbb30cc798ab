package status

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes a text that others wrote fit for a line that is shown to people:
// valid UTF-8 in which nothing moves a cursor, white space and what cannot be
// printed as single spaces, at most limit characters. What was longer ends in "…".
// It reads no more of the text than it needs.
func Clean(text string, limit int) string {
	var b strings.Builder
	last, n := 0, 0 // last is the length up to which one more character, the "…", has room
	space := false
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) || r == ' ' {
			space = n > 0
			continue
		}
		width := 1
		if space {
			width = 2
		}
		if n+width > limit {
			if limit <= 0 {
				return ""
			}
			return strings.TrimSuffix(b.String()[:last], " ") + "…"
		}
		if space {
			b.WriteByte(' ')
			if n++; n < limit {
				last = b.Len()
			}
			space = false
		}
		b.WriteRune(r)
		if n++; n < limit {
			last = b.Len()
		}
	}
	return b.String()
}

// Few names the first items, at most so many, and counts the rest: "a, b and 3 more".
func Few(items []string, most int) string {
	if len(items) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
	}
	return strings.Join(items, ", ")
}

// Count is a number and what there is of it: "1 pod", "2 pods".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// FirstThree names the first three of all, and says how many more of that noun there are: "a; b; c; and 2 more pods".
func FirstThree(all []string, noun string) string {
	if more := len(all) - 3; more > 0 {
		return strings.Join(all[:3], "; ") + "; and " + Count(more, "more "+noun)
	}
	return strings.Join(all, "; ")
}
