// Package message makes the texts of notifications, by text/template. It stands
// alone, so that the configuration can be checked with what is used later.
//
// A template sees the fields of status.Occurrence and has, beside the functions
// of text/template, join (LIST SEPARATOR) as in {{join .Packages ", "}} and
// date (LAYOUT TIME) as in {{date "15:04" .At}}: in UTC, and "" for no time.
// Methods such as .At.Format are no part of that: an engine that calls them by
// name makes the program 20 MB larger, because the linker must keep all methods
// of all types. This one is a copy of text/template without that.
package message

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	template "github.com/DataDog/datadog-agent/pkg/template/text"

	"github.com/kured-host/kured/internal/status"
)

// Ellipsis stands for what was cut.
const Ellipsis = "…"

// Bounds in runes, except for the packages' number.
const (
	maxText     = 2000 // of a message; Discord takes no more
	maxField    = 600  // of each field of an occurrence
	maxPackage  = 100
	maxPackages = 20
)

// defaults are the texts of one line each.
var defaults = map[status.Event]string{
	status.EventWaiting: `{{.Node}}: waits for its reboot{{with date "2006-01-02 15:04" .Wanted}} since {{.}} UTC{{end}}` + packages + because,
	status.EventDrain:   `{{.Node}}: cordoned, its pods are being moved, then it reboots` + packages + because,
	status.EventReboot:  `{{.Node}}: drained, it reboots now` + packages + because,
	status.EventBack:    `{{.Node}}: rebooted, and well again` + because,
	status.EventFailed:  `{{.Node}}: did not reboot, all was undone and it will be tried again` + because,
	status.EventHeld:    `{{.Node}}: stopped, a person is needed` + because,
}

const (
	packages = `{{with .Packages}} ({{join . ", "}}){{end}}`
	because  = `{{if .Detail}}: {{.Detail}}{{else if .Reason}}: {{.Reason}}{{end}}`
)

// Texts are the templates of one target.
type Texts map[status.Event]text

type text struct {
	custom, fallback *template.Template // custom is nil if none is configured
}

// New parses the templates and tries each with an occurrence that has
// everything and one that has nothing, so that a field that does not exist is
// found now. An event without a template has the default text. Every problem is
// in the error.
func New(custom map[status.Event]string) (Texts, error) {
	all := Texts{}
	for event, source := range defaults {
		parsed, err := parse(event, source)
		if err != nil {
			return nil, err
		}
		all[event] = text{fallback: parsed}
	}
	var problems []error
	for _, event := range slices.Sorted(maps.Keys(custom)) {
		known, ok := all[event]
		if !ok {
			problems = append(problems, fmt.Errorf("template: %w", UnknownEvent(event)))
			continue
		}
		parsed, err := parse(event, custom[event])
		if err != nil {
			problems = append(problems, err)
			continue
		}
		all[event] = text{custom: parsed, fallback: known.fallback}
	}
	return all, errors.Join(problems...)
}

// functions are what templates can call beside what text/template has.
func functions() template.FuncMap {
	return template.FuncMap{
		"join": strings.Join,
		"date": func(layout string, t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return t.UTC().Format(layout)
		},
	}
}

// Check says what is wrong with the template of an event.
func Check(event status.Event, source string) error {
	_, err := parse(event, source)
	return err
}

// UnknownEvent is the error for what is not an event.
func UnknownEvent(e status.Event) error {
	return fmt.Errorf("unknown event %q: there are %s", e, status.Events())
}

func parse(event status.Event, source string) (*template.Template, error) {
	t, err := template.New(string(event)).Option("missingkey=error").
		Funcs(functions()).Parse(source)
	for _, o := range []status.Occurrence{sample(event), {Event: event}} {
		if err == nil {
			_, err = execute(t, o)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("template of the event %s: %w", event, err)
	}
	return t, nil
}

// sample is an occurrence with every field.
func sample(event status.Event) status.Occurrence {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return status.Occurrence{
		Event: event, At: at, Node: "node-a", Boot: "0123456789abcdef0123456789abcdef", Phase: status.Draining,
		Reason: status.DrainTimeout, Detail: "detail", Packages: []string{"linux-image-amd64", "libc6"},
		Wanted: at.Add(-time.Hour), Lock: "kube-system/kured-lock",
	}
}

// Render returns the text of an occurrence, printable and at most 2000 runes long: the default one, with an error,
// where the configured template fails. Only a default text says how many
// messages before it did not arrive: a configured one may be JSON.
func (t Texts) Render(o status.Occurrence, missed int) (string, error) {
	o = tidied(o)
	known, ok := t[o.Event]
	if !ok {
		return "", UnknownEvent(o.Event)
	}
	var failed error
	if known.custom != nil {
		message, err := execute(known.custom, o)
		if err == nil {
			return message, nil
		}
		failed = err
	}
	message, err := execute(known.fallback, o)
	if err != nil {
		return "", errors.Join(failed, err)
	}
	switch {
	case missed == 1:
		message += " (an earlier message did not arrive)"
	case missed > 1:
		message += fmt.Sprintf(" (%d earlier messages did not arrive)", missed)
	}
	return message, failed
}

// tidied bounds what others wrote, and makes it printable.
func tidied(o status.Occurrence) status.Occurrence {
	o.Node, o.Boot, o.Lock = status.Clean(o.Node, maxField), status.Clean(o.Boot, maxField), status.Clean(o.Lock, maxField)
	o.Phase, o.Reason = status.Phase(status.Clean(string(o.Phase), maxField)), status.Reason(status.Clean(string(o.Reason), maxField))
	o.Detail = status.Clean(o.Detail, maxField)
	names := make([]string, 0, min(len(o.Packages), maxPackages+1))
	for i, name := range o.Packages {
		if i == maxPackages {
			names = append(names, fmt.Sprintf("and %d more", len(o.Packages)-i))
			break
		}
		names = append(names, status.Clean(name, maxPackage))
	}
	o.Packages = names
	return o
}

// execute runs a template. Its output is bounded while it is made, so that a
// template without an end ends.
func execute(t *template.Template, o status.Occurrence) (string, error) {
	out := bounded{left: maxText*4 + 1} // bytes: a rune has four at most
	if err := t.Execute(&out, o); err != nil && !errors.Is(err, errFull) {
		return "", err
	}
	return clean(out.text.String(), maxText), nil
}

var errFull = errors.New("the text is too long")

// bounded is a writer that takes no more than left bytes.
type bounded struct {
	text strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.text.Write(p[:n])
	b.left -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// clean makes a text of lines printable and cuts it to limit runes.
func clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
	text = strings.TrimSpace(text)
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + Ellipsis
}
