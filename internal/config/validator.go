package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	second = Duration(time.Second)
	minute = Duration(time.Minute)
	hour   = Duration(time.Hour)
	day    = 24 * hour

	maxNodes = 9999 // what the lock's entries have room for
)

// validator collects what it finds.
type validator struct{ found []finding }

func (v *validator) add(p place, format string, args ...any) {
	v.found = append(v.found, finding{at: p, message: oneLine(fmt.Sprintf(format, args...))})
}

// clash is add for a value of p that does not go with those of others.
func (v *validator) clash(p place, others []place, format string, args ...any) {
	v.found = append(v.found, finding{at: p, message: oneLine(fmt.Sprintf(format, args...)), with: others})
}

func (v *validator) between(p place, n, least, most int) {
	if n < least || n > most {
		v.add(p, "%d is out of range, expected %d to %d", n, least, most)
	}
}

// duration reports whether d is in its range.
func (v *validator) duration(p place, d, least, most Duration) bool {
	if d < least || d > most {
		v.add(p, "%q is out of range, expected %q to %q", d, least, most)
		return false
	}
	return true
}

// durationOrNone is duration where zero means that there is none.
func (v *validator) durationOrNone(p place, d, least, most Duration) bool {
	if d != 0 && (d < least || d > most) {
		v.add(p, "%q is out of range, expected %q to %q, or \"0s\"", d, least, most)
		return false
	}
	return true
}

// percent is a share of the pool without sign and leading zeros.
var percent = regexp.MustCompile(`^(0|[1-9][0-9]?|100)%$`)

// share checks a number of nodes, or a share of the pool in percent, from
// least on, or a word.
func (v *validator) share(p place, n intstr.IntOrString, least int, word string) {
	expected := fmt.Sprintf("%d to %d, or \"%d%%\" to \"100%%\"", least, maxNodes, least)
	if word != "" {
		expected += fmt.Sprintf(", or %q", word)
	}
	switch {
	case n.Type == intstr.Int:
		if i := int(n.IntVal); i < least || i > maxNodes {
			v.add(p, "%d is out of range, expected %s", i, expected)
		}
	case word != "" && n.StrVal == word:
	case !percent.MatchString(n.StrVal):
		if _, err := strconv.Atoi(n.StrVal); err == nil {
			expected = "a number without quotes: " + expected
		}
		v.add(p, "%s is not known, expected %s", text(n.StrVal), expected)
	case least > 0 && n.StrVal == "0%":
		v.add(p, "%q is out of range, expected %s", n.StrVal, expected)
	}
}

func (v *validator) atLeast(p place, n, least int) {
	if n < least {
		v.add(p, "%d is too small, expected %d or more", n, least)
	}
}

// name checks a name by one of the functions of apimachinery.
func (v *validator) name(p place, name string, check func(string) []string) {
	if wrong := check(name); len(wrong) > 0 {
		v.add(p, "%s is not a name that Kubernetes accepts: %s", text(name), rules(wrong))
	}
}

// rules are what apimachinery says about a name.
func rules(wrong []string) string {
	short := make([]string, len(wrong))
	for i := range wrong {
		short[i], _, _ = strings.Cut(wrong[i], " (e.g. ") // the regular expression helps nobody
	}
	return strings.Join(short, "; ")
}

func (v *validator) oneOf(p place, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		v.add(p, "%s is not known, expected %s", text(value), list(allowed))
	}
}

// selector checks a label selector. The empty one selects everything.
func (v *validator) selector(p place, selector string) {
	if _, err := labels.Parse(selector); err != nil {
		v.add(p, "%s is not a label selector: %s", text(selector), strings.TrimPrefix(err.Error(), "unable to parse requirement: "))
	}
}

func (v *validator) regexps(p place, expressions []string) {
	for _, expression := range expressions {
		if _, err := regexp.Compile(expression); err != nil {
			v.add(p, "%s is not a regular expression: %s", text(expression), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		} else if expression == "" {
			v.add(p, "an empty regular expression matches every name")
		}
	}
}

// file checks a path, if there is one.
func (v *validator) file(p place, path string) {
	if path != "" && !absolute(path) {
		v.add(p, "%s is not an absolute path of a file", text(path))
	}
}

func (v *validator) zone(p place, name string) {
	if _, err := time.LoadLocation(name); err != nil || name == "" {
		v.add(p, "%s is not a time zone that this machine knows, such as \"Europe/Berlin\", \"UTC\" or \"Local\"", text(name))
	}
}

func (v *validator) paths(p place, paths []string) {
	if len(paths) == 0 {
		v.add(p, "the list is empty, expected at least one path")
	}
	seen := map[string]bool{}
	for _, path := range paths {
		if !absolute(path) {
			v.add(p, "%s is not an absolute path of a file", text(path))
			continue
		}
		// So written the same file is the same text, wherever it is looked for.
		if clean := filepath.Clean(path); clean != path {
			v.add(p, "%s has parts that lead nowhere, expected %s", text(path), text(clean))
		} else if seen[path] {
			v.add(p, "%s is listed twice", text(path))
		}
		seen[path] = true
	}
	for _, path := range paths {
		for _, end := range []string{".pkgs", ".failed"} {
			if of, ok := strings.CutSuffix(path, end); ok && seen[of] {
				v.add(p, "%s says something about %s, and cannot be a path of its own", text(path), text(of))
			}
		}
	}
}

// absolute reports whether p can name a file from the root.
func absolute(p string) bool {
	return filepath.IsAbs(p) && !strings.HasSuffix(p, "/") && !strings.ContainsAny(p, "\x00\n") &&
		filepath.Base(p) != "." && filepath.Base(p) != ".."
}

// text is a value in quotes, in one short line.
func text(s string) string { return strconv.Quote(cut(s, 80)) }

// list is `"a", "b" or "c"`.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}
