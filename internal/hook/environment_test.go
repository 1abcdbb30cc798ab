package hook

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// parseEnvironment reads what EnvironmentFile= reads, by the states of systemd's parse_env_file_internal() (env-file.c
// of systemd 247 to 257), and refuses what env_value_is_valid() refuses.
func parseEnvironment(text string) (map[string]string, error) {
	const (
		preKey = iota
		key
		preValue
		value
		valueEscape
		single
		double
		doubleEscape
		comment
	)
	env, state := map[string]string{}, preKey
	var name, val []byte
	trailing := 0 // white space at the end of an unquoted value
	push := func() error {
		v := string(val[:len(val)-trailing])
		if !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r == 0x7f }) {
			return errors.New("value is refused")
		}
		env[strings.TrimRight(string(name), " \t")] = v
		name, val, trailing = nil, nil, 0
		return nil
	}
	add := func(c byte) { val, trailing = append(val, c), 0 }
	for _, c := range []byte(text + "\n") {
		space, end := c == ' ' || c == '\t', c == '\n' || c == '\r'
		switch state {
		case preKey:
			switch {
			case c == '#' || c == ';':
				state = comment
			case !space && !end:
				state, name = key, []byte{c}
			}
		case key:
			switch {
			case end:
				state = preKey
			case c == '=':
				state = preValue
			default:
				name = append(name, c)
			}
		case preValue, value:
			switch {
			case end:
				if err := push(); err != nil {
					return nil, err
				}
				state = preKey
			case c == '\'' && state == preValue:
				state = single
			case c == '"' && state == preValue:
				state = double
			case c == '\\':
				state, trailing = valueEscape, 0
			case space && state == preValue:
			default:
				state, val = value, append(val, c)
				if space {
					trailing++
				} else {
					trailing = 0
				}
			}
		case valueEscape:
			if state = value; !end {
				add(c)
			}
		case single:
			if c == '\'' {
				state = preValue
			} else {
				add(c)
			}
		case double:
			switch c {
			case '"':
				state = preValue
			case '\\':
				state = doubleEscape
			default:
				add(c)
			}
		case doubleEscape:
			state = double
			switch {
			case strings.IndexByte("\"\\`$", c) >= 0:
				add(c)
			case c != '\n':
				add('\\')
				add(c)
			}
		case comment:
			if end {
				state = preKey
			}
		}
	}
	if state != preKey {
		return nil, errors.New("unfinished")
	}
	return env, nil
}

func TestEnvironment(t *testing.T) {
	for value, want := range map[string]string{
		"":                                     "",
		"plain":                                "plain",
		`a "b" 'c' \d $e ` + "`f`" + ` #g;h=i`: `a "b" 'c' \d $e ` + "`f`" + ` #g;h=i`,
		" spaces stay ":                        " spaces stay ",
		`ends with \`:                          `ends with \`,
		"two\nlines\r\n\x00":                   "two lines   ",
		"\xff\u202e\x1b[2J":                    "\ufffd  [2J",
		strings.Repeat("ü", maxValue):          strings.Repeat("ü", (maxValue-3)/2) + "…",
	} {
		text, err := environment(map[string]string{"A": value, "B": "after"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseEnvironment(string(text))
		if err != nil || len(got) != 2 || got["A"] != want || got["B"] != "after" {
			t.Errorf("%q became %q, %v, want %q", value, got, err, want)
		}
	}
	for _, name := range []string{"", "a", "1A", "A-B", "A=B", "A\n"} {
		if _, err := environment(map[string]string{name: ""}); err == nil {
			t.Errorf("%q is taken for the name of a variable", name)
		}
	}
}

func FuzzEnvironment(f *testing.F) {
	f.Add("libc6, linux-image-6.1.0-40-amd64", "node-a")
	f.Add("\\", "\"'`$\\\n\r\t\x00\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		text, err := environment(map[string]string{"A": a, "B": b})
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseEnvironment(string(text))
		if err != nil || len(got) != 2 || got["A"] != oneLine(a) || got["B"] != oneLine(b) {
			t.Errorf("%q and %q became %q, %v", a, b, got, err)
		}
		for _, value := range got {
			if len(value) > maxValue || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("value %q is too long or no line of text", value)
			}
		}
	})
}
