package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// release is one version in CHANGELOG.md.
type release struct {
	// version as the packages write it; empty for what is not released yet.
	version string
	date    time.Time
	line    int
	changes []change
}

// change is one point of the list, in one line and without Markdown's links.
type change struct {
	kind string // "Added", "Fixed"; may be empty
	text string
}

var heading = regexp.MustCompile(`^\[?v?([0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?)\]? - ([0-9]{4}-[0-9]{2}-[0-9]{2})$`)

// parse reads the form of https://keepachangelog.com/en/1.1.0/. What it does not understand is an error: a line that is
// left out would be missing in the packages, and nobody would notice.
func parse(text string) ([]release, error) {
	var all []release
	var kind string
	var open bool // the last change may go on in the next line
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		number := i + 1
		if title, ok := strings.CutPrefix(line, "## "); ok {
			r, err := parseHeading(title)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			for _, before := range all {
				if before.version == r.version {
					return nil, fmt.Errorf("line %d: a second time %s", number, title)
				}
			}
			r.line = number
			all = append(all, r)
			kind, open = "", false
			continue
		}
		if len(all) == 0 {
			continue // the introduction
		}
		now := &all[len(all)-1]
		point, isPoint := strings.CutPrefix(line, "- ")
		rest := strings.TrimLeft(line, " \t")
		switch {
		case line == "":
			open = false
		case strings.HasPrefix(line, "### "):
			kind, open = plain(line[len("### "):]), false
		case isPoint && plain(point) != "":
			now.changes = append(now.changes, change{kind: kind, text: plain(point)})
			open = true
		case open && rest != line:
			last := &now.changes[len(now.changes)-1]
			last.text = plain(last.text + " " + rest)
		case strings.HasPrefix(line, "[") && strings.Contains(line, "]: "):
			// Where a link goes; the text that it is for stays.
		default:
			return nil, fmt.Errorf("line %d is neither a heading nor a point of a list", number)
		}
	}
	return all, nil
}

func parseHeading(title string) (release, error) {
	if title == "Unreleased" || title == "[Unreleased]" {
		return release{}, nil
	}
	match := heading.FindStringSubmatch(title)
	if match == nil {
		return release{}, fmt.Errorf(`the heading is neither "Unreleased" nor of the form "1.2.3 - YYYY-MM-DD"`)
	}
	date, err := time.Parse(time.DateOnly, match[2])
	if err != nil {
		return release{}, fmt.Errorf("date: %w", err)
	}
	return release{version: packaged(match[1]), date: date}, nil
}

// packaged is a semantic version as packaging/version.sh writes it: 1.3.0~rc.1 is before 1.3.0 for dpkg and rpm.
func packaged(version string) string {
	base, pre, found := strings.Cut(version, "-")
	if !found {
		return base
	}
	return base + "~" + strings.ReplaceAll(pre, "-", ".")
}

var link = regexp.MustCompile(`\[([^][]*)\]\([^()\s]*\)`)

// plain is a text without links and emphasis, with single spaces and without what a terminal could obey.
func plain(text string) string {
	text = link.ReplaceAllString(text, "$1")
	text = strings.ReplaceAll(text, "**", "")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// upTo is the history of one version, from it back to the first. A version that is not in the file is made from what is
// not released yet.
func upTo(all []release, version string, made time.Time) []release {
	for i, r := range all {
		if r.version == version {
			return all[i:]
		}
	}
	now := release{version: version, date: made}
	if len(all) > 0 && all[0].version == "" {
		now.changes, all = all[0].changes, all[1:]
	}
	if len(now.changes) == 0 {
		now.changes = []change{{text: "Nothing that is told here."}}
	}
	return append([]release{now}, all...)
}
