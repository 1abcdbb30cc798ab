package reference

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/kured-host/kured/internal/status"
)

// quoted are commands in the texts of status.Help.
var quoted = regexp.MustCompile(`"([^"]+)"`)

// Words is the part of docs/troubleshoot.md on all phases, reasons and messages:
// a heading for each, what it means and what to do.
func Words() []byte {
	var b strings.Builder
	b.WriteString("\n## Phases\n")
	for _, phase := range status.Phases() {
		word(&b, string(phase), phase.Help())
	}
	b.WriteString("\n## Reasons\n")
	for _, reason := range status.Reasons() {
		word(&b, string(reason), reason.Help())
	}
	b.WriteString("\n## Messages\n\nThese stand in the journal, too, and `journalctl -x` explains them.\n")
	for _, message := range status.Messages() {
		word(&b, string(message), message.Help())
	}
	return []byte(b.String())
}

func word(b *strings.Builder, name string, help status.Help) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n%s\n", name, escape(help.Means), commands(help.Do))
}

// commands makes code of what stands in double quotes.
func commands(text string) string {
	var b strings.Builder
	last := 0
	for _, at := range quoted.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(escape(text[last:at[0]]) + "`" + text[at[2]:at[3]] + "`")
		last = at[1]
	}
	return b.String() + escape(text[last:])
}
