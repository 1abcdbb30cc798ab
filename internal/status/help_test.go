package status

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every word of the vocabulary tells what it means and what to do, and no word
// is in two of its sets: ids of messages are made from them.
func TestEveryWordHasHelp(t *testing.T) {
	seen := map[string]bool{}
	check := func(word string, h Help) {
		t.Run(word, func(t *testing.T) {
			if seen[word] {
				t.Error("stands twice in the vocabulary")
			}
			seen[word] = true
			for name, text := range map[string]string{"Means": h.Means, "Do": h.Do} {
				switch {
				case text == "":
					t.Errorf("%s is empty", name)
				case len(text) > 300:
					t.Errorf("%s has %d characters", name, len(text))
				case text != strings.Join(strings.Fields(text), " "):
					t.Errorf("%s has spaces that nobody sees: %q", name, text)
				case !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, `."`):
					t.Errorf("%s is no sentence: %q", name, text)
				case strings.Contains(text, "`"):
					t.Errorf("%s: commands stand in double quotes", name)
				}
			}
			commands := commandsIn(t, h.Do)
			if len(commands) == 0 && !strings.HasPrefix(h.Do, "Nothing to do") {
				t.Errorf("neither names a command nor says that nothing is to do: %q", h.Do)
			}
			for _, c := range append(commands, commandsIn(t, h.Means)...) {
				if !known.MatchString(c) {
					t.Errorf("unknown command %q", c)
				}
			}
		})
	}
	for _, p := range Phases() {
		check(string(p), p.Help())
	}
	for _, r := range Reasons() {
		check(string(r), r.Help())
	}
	for _, m := range Messages() {
		check(string(m), m.Help())
	}
	text, err := os.ReadFile("help.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, declared := range regexp.MustCompile(`Message += "(.+)"`).FindAllStringSubmatch(string(text), -1) {
		if !seen[declared[1]] {
			t.Errorf("message %q is declared and not listed", declared[1])
		}
	}
	for word, h := range map[string]Help{"phase": Phase("dancing").Help(), "reason": Reason("dancing").Help(), "none": Reason("").Help(), "message": Message("dancing").Help()} {
		if h != (Help{}) {
			t.Errorf("%s outside the set has help: %+v", word, h)
		}
	}
}

// known is what a person is told to run. That the subcommands exist is the
// business of cmd/kured's tests.
var known = regexp.MustCompile(`^(kured [a-z]|kubectl [a-z-]|systemctl [a-z]|journalctl -u |systemd-inhibit --list$|shutdown (-c|--show)$|df |rm /var/lib/kured/reboots\.json$)`)

// commandsIn are the texts in double quotes.
func commandsIn(t *testing.T, text string) []string {
	t.Helper()
	parts := strings.Split(text, `"`)
	if len(parts)%2 == 0 {
		t.Fatalf("a quote is not closed: %q", text)
	}
	var commands []string
	for i := 1; i < len(parts); i += 2 {
		commands = append(commands, parts[i])
	}
	return commands
}
