package source

import (
	"cmp"
	"strings"
	"unicode"
)

// Release is the release of a Linux kernel, as uname -r has it, in two parts: 6.1.0-40-cloud-amd64 is version 6.1.0-40
// of flavour cloud-amd64. A kernel takes the place of another one only within a flavour.
type Release struct {
	Name    string // whole
	Version string
	Flavour string
}

// ParseRelease splits a release. The flavour begins at the first part, between hyphens, that begins with a letter and
// does not mark a release candidate; in the releases of rpm distributions it follows the last plus sign.
func ParseRelease(name string) Release {
	release := Release{Name: name, Version: name}
	for i := 0; i < len(name); i++ {
		if name[i] != '-' || i+1 == len(name) {
			continue
		}
		if rest := name[i+1:]; letter(rest[0]) && !candidate(rest) {
			release.Version, release.Flavour = name[:i], rest
			return release
		}
	}
	if plus := strings.LastIndexByte(name, '+'); plus > strings.LastIndexByte(name, '-') && strings.Contains(name, "-") && plus+1 < len(name) && letter(name[plus+1]) {
		release.Version, release.Flavour = name[:plus], name[plus+1:]
	}
	return release
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// candidate tells whether a text begins with "rc" and a number.
func candidate(text string) bool {
	number, ok := strings.CutPrefix(text, "rc")
	return ok && number != "" && number[0] >= '0' && number[0] <= '9'
}

// CompareVersions orders versions of kernels as linux-version(1) does: as Debian orders versions (deb-version(7)), with
// a release candidate before the release. It returns a number below, equal to or above 0.
func CompareVersions(a, b string) int { return compareDebian(early(a), early(b)) }

// early marks what comes before a release without it with a tilde.
func early(version string) string {
	return strings.NewReplacer("-rc", "~rc", "-trunk", "~trunk").Replace(version)
}

// compareDebian is the comparison of upstream versions and revisions in deb-version(7): by turns a part without digits,
// in which a tilde comes before the end, the end before letters and letters before the rest, and a number.
func compareDebian(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			if c := cmp.Compare(order(a), order(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		var left, right string
		left, a = number(a)
		right, b = number(b)
		if c := cmp.Or(cmp.Compare(len(left), len(right)), cmp.Compare(left, right)); c != 0 {
			return c
		}
	}
	return 0
}

// order is the place of a text's first character among those that are not digits.
func order(text string) int {
	switch {
	case text == "" || digit(text[0]):
		return 0
	case text[0] == '~':
		return -1
	case letter(text[0]):
		return int(text[0])
	default:
		return int(text[0]) + unicode.MaxASCII + 1
	}
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// number cuts the leading number off, without its leading zeros.
func number(text string) (digits, rest string) {
	end := 0
	for end < len(text) && digit(text[end]) {
		end++
	}
	return strings.TrimLeft(text[:end], "0"), text[end:]
}
