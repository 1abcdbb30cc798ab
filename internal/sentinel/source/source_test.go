package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The story of one source, read back as the daemon reads it.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	s := Sentinel{Directory: dir, Name: "kernel"}
	path := filepath.Join(dir, "kernel")
	look := func() sentinel.State { return sentinel.Read([]string{path}) }

	must(t, s.Report(Finding{}, nil))
	if got := look(); got.Wanted || got.Err != nil {
		t.Errorf("nothing wanted: %+v", got)
	}
	must(t, s.Report(Finding{Wanted: true, Reasons: []string{"b", "a\x1b\nc", "b", " "}}, nil))
	if got := look(); !got.Wanted || got.Err != nil || strings.Join(got.Reasons, "|") != "a c|b" {
		t.Errorf("wanted: %+v", got)
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	must(t, os.Chtimes(path, old, old))
	must(t, s.Report(Finding{Wanted: true, Reasons: []string{"other"}}, nil))
	if got := look(); !got.Since.Equal(old) || strings.Join(got.Reasons, "|") != "other" {
		t.Errorf("still wanted, for another reason: %+v", got)
	}
	must(t, s.Report(Finding{}, errors.New("tool: exit status 3\nmore"+strings.Repeat("x", 1000))))
	if got := look(); !got.Wanted || !got.Since.Equal(old) || got.Err == nil || !strings.Contains(got.Err.Error(), "tool: exit status 3 more") {
		t.Errorf("a check that failed: %+v", got)
	}
	if text := read(t, path+".failed"); strings.Count(text, "\n") != 1 || utf8.RuneCountInString(text) > maxReason+1 {
		t.Errorf(".failed is %q", text)
	}
	must(t, s.Report(Finding{}, nil))
	if got := look(); got.Wanted || got.Err != nil {
		t.Errorf("not wanted any more: %+v", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, name := range []string{"", ".", "..", "a/b", ".hidden"} {
		if err := (Sentinel{dir, name}).Report(Finding{Wanted: true}, nil); err == nil {
			t.Errorf("%q is taken for the name of a sentinel", name)
		}
	}
	// What cannot be written is told, and an error stays.
	must(t, s.Report(Finding{}, errors.New("broken")))
	must(t, os.Mkdir(path+".pkgs", 0o755))
	must(t, os.WriteFile(path+".pkgs/file", nil, 0o644))
	if err := s.Report(Finding{Wanted: true}, nil); err == nil || look().Err == nil {
		t.Errorf("error %v, and the daemon sees %+v", err, look())
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\nb\x00\u202e", " b", strings.Repeat("ü", 300))
	f.Fuzz(func(t *testing.T, a, b, c string) {
		content := text([]string{a, b, c})
		for got := range strings.Lines(content) {
			if !strings.HasSuffix(got, "\n") || utf8.RuneCountInString(got) > maxReason+1 || status.Clean(got, maxReason) != strings.TrimSuffix(got, "\n") || len(got) == 1 {
				t.Errorf("line %q is unclean, empty or too long", got)
			}
		}
		if strings.Count(content, "\n") > 3 {
			t.Errorf("three reasons became %q", content)
		}
	})
}
