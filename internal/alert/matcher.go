package alert

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/status"
)

// operator is how a matcher compares.
type operator string

// The operators of PromQL and of Alertmanager.
const (
	equal         operator = "="
	notEqual      operator = "!="
	matchesRegexp operator = "=~"
	failsRegexp   operator = "!~"
)

// Matcher is one condition on one label, such as severity="info".
type Matcher struct {
	name  string
	op    operator
	value string
	re    *regexp.Regexp // of the operators that have one
}

// ParseMatchers reads a comma list of label matchers, such as
// `severity="info", team=~"a|b"`, with or without braces around it. Values are
// quoted as in PromQL, by " or `; names that are no identifiers may be quoted
// too. Regular expressions are RE2 and match whole values, as everywhere in
// Prometheus and Alertmanager. There is at least one matcher in a list.
func ParseMatchers(text string) ([]Matcher, error) {
	rest := strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(rest, "{"); ok {
		if inner, ok = strings.CutSuffix(inner, "}"); !ok {
			return nil, errors.New("the brace that opens the label matchers is not closed")
		}
		rest = strings.TrimSpace(inner)
	}
	var list []Matcher
	for rest != "" {
		m, after, err := parseMatcher(rest)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
		rest = after
		if rest == "" {
			break
		}
		if !strings.HasPrefix(rest, ",") {
			return nil, fmt.Errorf("expected a comma after the label matcher %s, found %s", m, excerpt(rest))
		}
		rest = strings.TrimSpace(rest[1:])
	}
	if len(list) == 0 {
		return nil, errors.New(`no label matcher such as severity="info"`)
	}
	return list, nil
}

// parseMatcher reads the matcher at the beginning of text, and returns what comes after it.
func parseMatcher(text string) (m Matcher, rest string, err error) {
	name, rest, err := parseName(text)
	if err != nil {
		return Matcher{}, "", err
	}
	var op operator
	for _, o := range []operator{matchesRegexp, notEqual, failsRegexp, equal} {
		if after, ok := strings.CutPrefix(rest, string(o)); ok {
			op, rest = o, strings.TrimSpace(after)
			break
		}
	}
	if op == "" {
		return Matcher{}, "", fmt.Errorf("expected =, !=, =~ or !~ after the label name %s, found %s", status.Clean(name, 40), excerpt(rest))
	}
	value, rest, err := parseQuoted(rest)
	if err != nil {
		return Matcher{}, "", fmt.Errorf("value of the label %s: %w", status.Clean(name, 40), err)
	}
	m, err = newMatcher(name, op, value)
	return m, rest, err
}

func newMatcher(name string, op operator, value string) (Matcher, error) {
	m := Matcher{name: name, op: op, value: value}
	if op == matchesRegexp || op == failsRegexp {
		// Alone first: what closes our parenthesis would get past the anchors.
		_, err := compile(value)
		if err == nil {
			m.re, err = compile("^(?s:" + value + ")$")
		}
		if err != nil {
			return Matcher{}, fmt.Errorf("value of the label %s: %w", status.Clean(name, 40), err)
		}
	}
	return m, nil
}

// compile is regexp.Compile with an error of one line.
func compile(text string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(text)
	if wrong := (*syntax.Error)(nil); errors.As(err, &wrong) {
		err = fmt.Errorf("regular expression: %s: %s", wrong.Code, excerpt(wrong.Expr))
	}
	return re, err
}

// isIdentifier reports whether name can be written without quotes.
func isIdentifier(name string) bool {
	for i, c := range []byte(name) {
		if !isLetter(c) && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func parseName(text string) (name, rest string, err error) {
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "`") {
		name, rest, err = parseQuoted(text)
		if err == nil && name == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			return "", "", fmt.Errorf("label name: %w", err)
		}
		return name, rest, nil
	}
	end := 0
	for end < len(text) && isIdentifier(text[:end+1]) {
		end++
	}
	if end == 0 {
		return "", "", fmt.Errorf("expected a label name, found %s", excerpt(text))
	}
	return text[:end], strings.TrimSpace(text[end:]), nil
}

func parseQuoted(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) && !strings.HasPrefix(text, "`") {
		return "", "", fmt.Errorf(`expected "…", found %s`, excerpt(text))
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err == nil {
		value, err = strconv.Unquote(quoted)
	}
	switch {
	case err != nil:
		return "", "", fmt.Errorf("the quotes of %s are not closed, or one of its \\ begins no escape", excerpt(text))
	case !utf8.ValidString(value):
		return "", "", fmt.Errorf("%s is not UTF-8", excerpt(quoted))
	}
	return value, strings.TrimSpace(text[len(quoted):]), nil
}

// excerpt is the beginning of text in quotes, for errors.
func excerpt(text string) string {
	if text == "" {
		return "the end"
	}
	return fmt.Sprintf("%.40q", text)
}

// Matches reports whether labels meet the condition. A label that is not there
// is empty.
func (m Matcher) Matches(labels map[string]string) bool {
	value := labels[m.name]
	switch m.op {
	case equal:
		return value == m.value
	case notEqual:
		return value != m.value
	case matchesRegexp:
		return m.re.MatchString(value)
	case failsRegexp:
		return !m.re.MatchString(value)
	}
	return false // the zero Matcher
}

// String is the matcher as ParseMatchers reads it.
func (m Matcher) String() string {
	name := m.name
	if !isIdentifier(name) {
		name = strconv.Quote(name)
	}
	return name + string(m.op) + strconv.Quote(m.value)
}
