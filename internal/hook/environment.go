package hook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/statefile"
)

// maxValue bounds a value, in bytes.
const maxValue = 4096

// environment writes variables in the form of EnvironmentFile= (systemd.exec(5)). Values become one line of printable
// text: systemd refuses a file with anything else in it.
func environment(env map[string]string) ([]byte, error) {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !validName(name) {
			return nil, fmt.Errorf("%q is not the name of a variable", name)
		}
		text = fmt.Appendf(text, "%s=%s\n", name, quote(oneLine(env[name])))
	}
	return text, nil
}

func validName(name string) bool {
	for i, c := range []byte(name) {
		if c != '_' && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// quote puts a line into double quotes. Within them a backslash takes its meaning from four characters only.
func quote(line string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "`", "\\`", `$`, `\$`).Replace(line) + `"`
}

// oneLine is the text as a value: white space and control characters become single spaces.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
	if len(text) <= maxValue {
		return text
	}
	const ellipsis = "…"
	end := maxValue - len(ellipsis)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// writeEnvironment makes the file in one step: systemd sees the old one or the new one.
func writeEnvironment(path string, env map[string]string) error {
	text, err := environment(env)
	if err != nil {
		return err
	}
	return statefile.Replace(path, text, 0o600)
}
