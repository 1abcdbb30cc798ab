package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const example = `# Changelog

What changes, in the [form](https://keepachangelog.com/en/1.1.0/).

## Unreleased

### Added

- A **bold** word, and a [link](docs/a.md) in a point that is so long that it has to be folded where
  a line of it ends, once more than in the source.
- Another.

### Fixed

- A fault.

## [1.3.0-rc.1] - 2026-02-03

- Without a kind.

## 1.2.3 - 2026-01-02

### Removed

- Everything.

[1.3.0-rc.1]: https://example.org/
`

var made = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func read(t *testing.T, text string) []release {
	t.Helper()
	all, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDebian(t *testing.T) {
	got := debian(upTo(read(t, example), "1.3.0+5.gabc", made))
	want := `kured (1.3.0+5.gabc) unstable; urgency=medium

  [ Added ]
  * A bold word, and a link in a point that is so long that it has to be
    folded where a line of it ends, once more than in the source.
  * Another.

  [ Fixed ]
  * A fault.

 -- kured-host maintainers <kured-host@users.noreply.github.com>  Wed, 04 Mar 2026 05:06:07 +0000

kured (1.3.0~rc.1) unstable; urgency=medium

  * Without a kind.

 -- kured-host maintainers <kured-host@users.noreply.github.com>  Tue, 03 Feb 2026 00:00:00 +0000

kured (1.2.3) unstable; urgency=medium

  [ Removed ]
  * Everything.

 -- kured-host maintainers <kured-host@users.noreply.github.com>  Fri, 02 Jan 2026 00:00:00 +0000
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// A release has its own changes, not what came after it.
	if got := debian(upTo(read(t, example), "1.2.3", made)); !strings.HasPrefix(got, "kured (1.2.3) ") || strings.Count(got, "\nkured (") != 0 {
		t.Errorf("the release itself:\n%s", got)
	}
	if got := debian(upTo(nil, "0.1.0", made)); !strings.Contains(got, "\n  * ") {
		t.Errorf("without any change:\n%s", got)
	}
}

func TestRPM(t *testing.T) {
	got, err := rpm(upTo(read(t, example), "1.3.0~rc.1", made))
	if err != nil {
		t.Fatal(err)
	}
	want := `- changes:
  - note: Without a kind.
  date: "2026-02-03T12:00:00Z"
  packager: kured-host maintainers <kured-host@users.noreply.github.com>
  semver: 1.3.0~rc.1-1
- changes:
  - note: 'Removed: Everything.'
  date: "2026-01-02T12:00:00Z"
  packager: kured-host maintainers <kured-host@users.noreply.github.com>
  semver: 1.2.3-1
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a heading without date":  "## 1.2.3\n",
		"a day that is not":       "## 1.2.3 - 2026-02-30\n",
		"a version twice":         "## 1.2.3 - 2026-01-02\n## 1.2.3 - 2026-01-03\n",
		"a paragraph":             "## Unreleased\n\nSome text.\n",
		"a line after a point":    "## Unreleased\n- A point\nnot indented\n",
		"an empty point":          "## Unreleased\n- **\n",
		"indented without a list": "## Unreleased\n\n  text\n",
	} {
		if all, err := parse(text); err == nil {
			t.Errorf("%s: no error, but %v", name, all)
		}
	}
}

func TestReady(t *testing.T) {
	const released = "## Unreleased\n\n## 1.2.3 - 2026-01-02\n- A change.\n"
	for _, test := range []struct{ text, version, want string }{
		{released, "1.2.3", ""},
		{"## 1.3.0-rc.1 - 2026-01-02\n- A change.\n", "1.3.0~rc.1", ""},
		{released, "1.2.4", "is to be the newest"},
		{released, "", "no version of a release"},
		{released, "1.2.3+5.g1a2b3c4", "no version of a release"},
		{released, "0.1.0~dev.40.g1a2b3c4", "no version of a release"},
		{example, "1.3.0~rc.1", "under Unreleased"},
		{"## 1.2.3 - 2026-01-02\n", "1.2.3", "no change is told"},
		{"## Unreleased\n", "1.2.3", "no heading"},
	} {
		err := ready(read(t, test.text), test.version)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q in %q: %v, want %q", test.version, test.text, err, test.want)
		}
	}
}

// The changelog of kured itself can be read, and every point of it gets into the packages.
func TestOwn(t *testing.T) {
	file := filepath.Join("..", "..", "CHANGELOG.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{"-file", file, "-version", "99.0.0", "-time", "1"}, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(out.String(), "\n  * "), strings.Count(string(text), "\n- "); got != want || got == 0 {
		t.Errorf("%d points, want %d", got, want)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 && !strings.HasPrefix(line, " -- ") {
			t.Errorf("too long: %s", line)
		}
	}
}

// Whatever it reads, the lines that end an entry of Debian's form, and those that begin one, are its own.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("## Unreleased\n- a\n   -- b <c>  d\n- \x1b[2J\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse(text)
		if err != nil {
			return
		}
		list := upTo(all, "99.99.99~none", made)
		entries := 0
		for line := range strings.Lines(debian(list)) {
			switch {
			case strings.HasPrefix(line, " -- "):
				entries++
			case line == "\n", strings.HasPrefix(line, "  "), strings.HasPrefix(line, "kured ("):
			default:
				t.Errorf("a line %q from %q", line, text)
			}
		}
		if entries != len(list) {
			t.Errorf("%d entries, want %d, from %q", entries, len(list), text)
		}
		if _, err := rpm(list); err != nil {
			t.Errorf("%v from %q", err, text)
		}
	})
}
