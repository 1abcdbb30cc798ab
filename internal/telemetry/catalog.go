package telemetry

import (
	"regexp"
	"strings"

	"github.com/kured-host/kured/internal/status"
)

// Catalog is the journal's catalog of all words of the vocabulary, in the form
// that journalctl --update-catalog reads (https://systemd.io/CATALOG): with it
// journalctl -x tells what an entry means and what to do. systemd/kured.catalog
// is this text.
func Catalog() string {
	thisNode := regexp.MustCompile(`\bNODE\b`) // journalctl puts the entry's own field in its place
	var b strings.Builder
	b.WriteString("# Written by go test ./internal/telemetry -run TestCatalog -update from the vocabulary in internal/status.\n")
	for _, e := range vocabulary() {
		b.WriteString("\n-- " + MessageID(e.word) + "\n")
		b.WriteString("Subject: kured: " + strings.ReplaceAll(e.word, "-", " ") + "\n")
		b.WriteString("Defined-By: kured\n")
		b.WriteString("Support: https://github.com/kured-host/kured/issues\n")
		b.WriteString("Documentation: man:kured(8)\n\n")
		b.WriteString(wrap(e.help.Means))
		b.WriteString("\n")
		b.WriteString(wrap(thisNode.ReplaceAllString(e.help.Do, "@KURED_NODE@")))
	}
	return b.String()
}

// entry is a word of the vocabulary.
type entry struct {
	word string
	help status.Help
}

// vocabulary is all words: phases, reasons, messages.
func vocabulary() []entry {
	var all []entry
	for _, p := range status.Phases() {
		all = append(all, entry{string(p), p.Help()})
	}
	for _, r := range status.Reasons() {
		all = append(all, entry{string(r), r.Help()})
	}
	for _, m := range status.Messages() {
		all = append(all, entry{string(m), m.Help()})
	}
	return all
}

// columns is how wide the text may be: journalctl breaks no lines and sets a
// sign before each.
const columns = 76

// wrap breaks a text into lines. A command in quotes stays on one line, to be copied.
func wrap(text string) string {
	unbroken := regexp.MustCompile(`[^\s"]*"[^"]*"[^\s"]*|\S+`)
	var b strings.Builder
	width := 0
	for _, word := range unbroken.FindAllString(text, -1) {
		switch {
		case width == 0:
		case width+1+len(word) > columns:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
