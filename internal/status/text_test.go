package status

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 10, ""},
		{"plain", 5, "plain"},
		{" two\r\n\tlines  and\u00a0more ", 40, "two lines and more"},
		{"red \x1b[31m, \x9b31m, \u202eback", 40, "red [31m, 31m, back"},
		{"broken \xff\xfe utf-8 \xc3", 40, "broken utf-8"},
		{"Grüße 世界", 8, "Grüße 世界"},
		{"Grüße 世界", 7, "Grüße…"},
		{"123456", 5, "1234…"},
		{"1234 6", 5, "1234…"},
		{"123 56", 5, "123…"},
		{"12345 ", 5, "12345"},
		{"ab", 1, "…"},
		{"ab", 0, ""},
		{"ab", -1, ""},
	} {
		if got := Clean(c.text, c.limit); got != c.want {
			t.Errorf("Clean(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func TestFew(t *testing.T) {
	for want, items := range map[string][]string{
		"": nil, "a": {"a"}, "a, b": {"a", "b"}, "a, b and 1 more": {"a", "b", "c"}, "a, b and 2 more": {"a", "b", "c", "d"},
	} {
		if got := Few(items, 2); got != want {
			t.Errorf("%q: %q, want %q", items, got, want)
		}
	}
}

func TestFirstThree(t *testing.T) {
	for want, items := range map[string][]string{
		"": nil, "a": {"a"}, "a; b; c": {"a", "b", "c"}, "a; b; c; and 1 more pod": {"a", "b", "c", "d"}, "a; b; c; and 2 more pods": {"a", "b", "c", "d", "e"},
	} {
		if got := FirstThree(items, "pod"); got != want {
			t.Errorf("%q: %q, want %q", items, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x00b\n\u2028\u202e c\xff", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		got := Clean(text, limit)
		if n := utf8.RuneCountInString(got); !utf8.ValidString(got) || n > max(limit, 0) {
			t.Fatalf("%d characters of at most %d: %q", n, limit, got)
		}
		if strings.TrimSpace(got) != got || strings.Contains(got, "  ") {
			t.Fatalf("spaces: %q", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q in %q", r, got)
			}
		}
		if again := Clean(got, limit); again != got {
			t.Fatalf("%q becomes %q", got, again)
		}
	})
}
