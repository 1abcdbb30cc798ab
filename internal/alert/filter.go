package alert

import (
	"fmt"
	"regexp"
	"slices"
)

// Filter chooses among alerts. The zero Filter chooses all.
type Filter struct {
	ignoreNames, onlyNames []*regexp.Regexp
	ignore, only           [][]Matcher
}

// NewFilter makes a Filter of names, which are RE2 and not anchored, and of
// lists of label matchers, of which all of one item have to match. An alert is
// chosen if onlyNames and only are both empty or one of their items matches it,
// and no item of ignoreNames and ignore does.
func NewFilter(ignoreNames, onlyNames, ignore, only []string) (Filter, error) {
	var f Filter
	for _, names := range []struct {
		what string
		from []string
		to   *[]*regexp.Regexp
	}{{"ignore_names", ignoreNames, &f.ignoreNames}, {"only_names", onlyNames, &f.onlyNames}} {
		for _, text := range names.from {
			re, err := compile(text)
			if err != nil {
				return Filter{}, fmt.Errorf("%s: %w", names.what, err)
			}
			*names.to = append(*names.to, re)
		}
	}
	for _, lists := range []struct {
		what string
		from []string
		to   *[][]Matcher
	}{{"ignore", ignore, &f.ignore}, {"only", only, &f.only}} {
		for _, text := range lists.from {
			list, err := ParseMatchers(text)
			if err != nil {
				return Filter{}, fmt.Errorf("%s: %w", lists.what, err)
			}
			*lists.to = append(*lists.to, list)
		}
	}
	return f, nil
}

// Select returns the alerts that count, in their order.
func (f Filter) Select(alerts []Alert) []Alert {
	var chosen []Alert
	for _, a := range alerts {
		if f.counts(a) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

func (f Filter) counts(a Alert) bool {
	if matchesOne(a, f.ignoreNames, f.ignore) {
		return false
	}
	return len(f.onlyNames)+len(f.only) == 0 || matchesOne(a, f.onlyNames, f.only)
}

// matchesOne reports whether one of the names or one of the lists matches the alert.
func matchesOne(a Alert, names []*regexp.Regexp, lists [][]Matcher) bool {
	return slices.ContainsFunc(names, func(re *regexp.Regexp) bool { return re.MatchString(a.Name()) }) ||
		slices.ContainsFunc(lists, func(list []Matcher) bool { return matchesAll(list, a) })
}

func matchesAll(list []Matcher, labels map[string]string) bool {
	return !slices.ContainsFunc(list, func(m Matcher) bool { return !m.Matches(labels) })
}
