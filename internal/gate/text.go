package gate

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longest bounds a text that comes from others, in characters.
const longest = 200

// oneLine makes a text that comes from others fit for a Detail: one line,
// printable, not long.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text[:min(len(text), 8*longest)]) // the rest would be cut anyway
	text = strings.Join(strings.Fields(text), " ")
	if characters := []rune(text); len(characters) > longest {
		text = strings.TrimSpace(string(characters[:longest-1])) + "…"
	}
	return text
}

// join names up to three items and counts the rest.
func join(items []string) string {
	if len(items) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:3], ", "), len(items)-3)
	}
	return strings.Join(items, ", ")
}
