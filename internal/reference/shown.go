package reference

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// shown are outputs that the pages show: files in the scripts that are the
// specification of the commands.
func shown() []struct{ command, script, file string } {
	return []struct{ command, script, file string }{
		{"kured why", "why.txt", "blocked.stdout"},
		{"kured why", "why.txt", "queued.stdout"},
		{"kured why", "why.txt", "draining.stdout"},
		{"kured history", "history.txt", "text"},
	}
}

// moment is a time in an output, so far from now.
var moment = regexp.MustCompile(`\{clock ([-+][0-9a-z]+)\}`)

// Examples is the part of docs/operate.md that shows what commands print.
func Examples(root string) ([]byte, error) {
	now := time.Date(2026, 11, 23, 20, 48, 0, 0, time.FixedZone("CET", 3600))
	var b strings.Builder
	last := ""
	for _, one := range shown() {
		data, err := os.ReadFile(filepath.Join(root, "cmd/kured/testdata/script", one.script))
		if err != nil {
			return nil, err
		}
		_, text, found := strings.Cut(string(data), "\n-- "+one.file+" --\n")
		if !found {
			return nil, fmt.Errorf("%s has no file %s", one.script, one.file)
		}
		text, _, _ = strings.Cut(text, "\n-- ")
		var wrong error
		text = moment.ReplaceAllStringFunc(text, func(m string) string {
			away, err := time.ParseDuration(moment.FindStringSubmatch(m)[1])
			if err != nil {
				wrong = err
			}
			return now.Add(away).Format("Mon 15:04 MST")
		})
		if wrong != nil {
			return nil, fmt.Errorf("%s: %w", one.script, wrong)
		}
		if one.command != last {
			fmt.Fprintf(&b, "\n`%s`:\n", one.command)
		}
		last = one.command
		fmt.Fprintf(&b, "\n```text\n%s\n```\n", strings.TrimRight(text, "\n"))
	}
	session, err := os.ReadFile(filepath.Join(root, sessionFile))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "\n`kured status --all --watch` while three nodes reboot, at five moments; a terminal draws each over the one before:\n\n```text\n%s```\n", session)
	return []byte(b.String()), nil
}

// sessionFile is what a terminal showed while real nodes rebooted: written by
// the end-to-end test TestRollAsItIsTold with -update.
const sessionFile = "internal/e2e/testdata/watch.txt"
