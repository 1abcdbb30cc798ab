package config

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// FuzzLoad: no file makes the loader panic, and what it accepts is valid.
func FuzzLoad(f *testing.F) {
	data, err := os.ReadFile(shipped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, s := range []string{
		"", "[lock]\nname = \"a\"", "lock = {name = \"a\", x.y = 1}", "[[lock]]\n[[lock]]", "a.b.c = 1\n[a.b]", "\"\" = 1",
		"[sentinel]\npaths = [\"/a\", [1]]", "x = '''\n\n'''", "[drain]\ntimeout = 1979-05-27", "\xef\xbb\xbf[a", "\r\n[lock]\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parse([]file{{"f", data}}, nil)
		if err == nil {
			if p := cfg.Validate(); len(p) > 0 {
				t.Errorf("accepted and not valid: %v", p)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("not an *Error with problems: %v", err)
		}
		for _, p := range e.Problems {
			if strings.ContainsAny(p.Error(), "\n\r") {
				t.Errorf("more than one line: %q", p.Error())
			}
			if p.Line < 1 || p.Line > 1+strings.Count(string(data), "\n") {
				t.Errorf("line %d of a file of %d lines: %v", p.Line, 1+strings.Count(string(data), "\n"), p)
			}
		}
	})
}
