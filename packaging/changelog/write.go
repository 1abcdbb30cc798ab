package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// The maintainer, as in nfpm.yaml.
const maintainer = "kured-host maintainers <kured-host@users.noreply.github.com>"

// width of a line in Debian's changelogs; lintian complains above 80.
const width = 78

// debian is the form that deb-changelog(5) describes.
func debian(list []release) string {
	var b strings.Builder
	for i, r := range list {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "kured (%s) unstable; urgency=medium\n\n", r.version)
		var kind string
		for i, c := range r.changes {
			if c.kind != kind {
				if i > 0 {
					b.WriteString("\n")
				}
				fmt.Fprintf(&b, "  [ %s ]\n", c.kind)
				kind = c.kind
			}
			fmt.Fprintf(&b, "  * %s\n", fold(c.text, "    "))
		}
		fmt.Fprintf(&b, "\n -- %s  %s\n", maintainer, r.date.UTC().Format(time.RFC1123Z))
	}
	return b.String()
}

// fold breaks a text between words; the further lines begin with the indent, and the first one has the same length.
func fold(text, indent string) string {
	var b strings.Builder
	column := len(indent)
	for i, word := range strings.Fields(text) {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+length > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

// entry is what github.com/goreleaser/chglog reads, as far as nfpm writes it into an rpm.
type entry struct {
	Semver   string    `json:"semver"`
	Date     time.Time `json:"date"`
	Packager string    `json:"packager"`
	Changes  []note    `json:"changes"`
}

type note struct {
	Note string `json:"note"`
}

// rpm is the YAML that nfpm wants. rpm itself names the release of the package, too, which is always 1.
func rpm(list []release) ([]byte, error) {
	entries := make([]entry, 0, len(list))
	for _, r := range list {
		// rpm shows only the day, of noon.
		e := entry{Semver: r.version + "-1", Date: r.date.UTC().Truncate(24 * time.Hour).Add(12 * time.Hour), Packager: maintainer}
		for _, c := range r.changes {
			text := c.text
			if c.kind != "" {
				text = c.kind + ": " + text
			}
			e.Changes = append(e.Changes, note{Note: fold(text, "  ")})
		}
		entries = append(entries, e)
	}
	return yaml.Marshal(entries)
}
