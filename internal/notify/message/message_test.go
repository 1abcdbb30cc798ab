package message

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/status"
)

func TestDefaultTexts(t *testing.T) {
	all, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for event, want := range map[status.Event][2]string{ // with every field, and with the node alone
		status.EventWaiting: {"node-a: waits for its reboot since 2026-11-22 11:00 UTC (linux-image-amd64, libc6): detail", "n: waits for its reboot"},
		status.EventDrain:   {"node-a: cordoned, its pods are being moved, then it reboots (linux-image-amd64, libc6): detail", "n: cordoned, its pods are being moved, then it reboots"},
		status.EventReboot:  {"node-a: drained, it reboots now (linux-image-amd64, libc6): detail", "n: drained, it reboots now"},
		status.EventBack:    {"node-a: rebooted, and well again: detail", "n: rebooted, and well again"},
		status.EventFailed:  {"node-a: did not reboot, all was undone and it will be tried again: detail", "n: did not reboot, all was undone and it will be tried again"},
		status.EventHeld:    {"node-a: stopped, a person is needed: detail", "n: stopped, a person is needed"},
	} {
		for i, o := range []status.Occurrence{sample(event), {Event: event, Node: "n"}} {
			if got, err := all.Render(o, 0); got != want[i] || err != nil {
				t.Errorf("%s:\ngot  %q, %v\nwant %q", event, got, err, want[i])
			}
		}
	}
	if len(all) != len(status.Events()) {
		t.Errorf("%d texts for %d events", len(all), len(status.Events()))
	}
	o := status.Occurrence{Event: status.EventHeld, Node: "n", Reason: status.RebootBudget}
	for missed, want := range map[int]string{
		0: "n: stopped, a person is needed: reboot-budget",
		1: "n: stopped, a person is needed: reboot-budget (an earlier message did not arrive)",
		3: "n: stopped, a person is needed: reboot-budget (3 earlier messages did not arrive)",
	} {
		if got, err := all.Render(o, missed); got != want || err != nil {
			t.Errorf("got  %q, %v\nwant %q", got, err, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	for source, want := range map[string]string{
		`{{.Node}} {{.Event}} {{.Phase}} {{.Reason}} {{.Detail}} {{.Lock}} {{.Boot}}`: "node-a drain draining drain-timeout detail kube-system/kured-lock 0123456789abcdef0123456789abcdef",
		`{{join .Packages "+"}} {{date "15:04" .At}}`:                                 "linux-image-amd64+libc6 12:00",
		`{"text": {{printf "%q" .Detail}}}`:                                           `{"text": "detail"}`,
		"two\r\nlines\t\x1b[31m":                                                      "two \nlines \ufffd[31m",
		"  ":                                                                          "",
		`{{if .Packages}}{{else}}{{end}}`:                                             "",
		`{{if eq .Reason "drain-timeout"}}timeout{{end}}`:                             "timeout",
		strings.Repeat("ä", 2*maxText):                                                strings.Repeat("ä", maxText-1) + Ellipsis,
		`{{define "x"}}ab{{template "x" .}}{{end}}{{template "x" .}}`:                 strings.Repeat("ab", maxText/2)[:maxText-1] + Ellipsis,
	} {
		all, err := New(map[status.Event]string{status.EventDrain: source})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := all.Render(sample(status.EventDrain), 5); got != want || err != nil {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", source, got, err, want)
		}
	}
	for source, want := range map[string]string{
		`{{.Foo}}`:                                "Foo",
		`{{if .Packages}}{{.Foo}}{{end}}`:         "Foo",
		`{{if .Packages}}{{else}}{{.Foo}}{{end}}`: "Foo",
		`{{index .Packages 0}}`:                   "index",
		`{{sprig .Node}}`:                         "sprig",
		`{{.Node`:                                 "unclosed",
		`{{template "nothing"}}`:                  "nothing",
		`{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`: "depth",
	} {
		if _, err := New(map[status.Event]string{status.EventDrain: source}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// A template that fails with what only turns up later must not swallow the message.
func TestFailingTemplateSendsTheDefault(t *testing.T) {
	all, err := New(map[status.Event]string{status.EventHeld: `{{if eq .Reason "reboot-budget"}}{{.Foo}}{{end}}`})
	if err != nil {
		t.Fatal(err)
	}
	got, err := all.Render(status.Occurrence{Event: status.EventHeld, Node: "n", Reason: status.RebootBudget}, 0)
	if got != "n: stopped, a person is needed: reboot-budget" || err == nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOccurrenceIsTidied(t *testing.T) {
	o := sample(status.EventDrain)
	o.Node, o.Detail = "node\x00\n-a", strings.Repeat("x", 3*maxField)
	o.Packages = nil
	for i := range 3 * maxPackages {
		o.Packages = append(o.Packages, fmt.Sprintf("p%d\x07", i))
	}
	all, err := New(map[status.Event]string{status.EventDrain: `{{.Node}}|{{join .Packages " "}}|{{len .Detail}}`})
	if err != nil {
		t.Fatal(err)
	}
	got, err := all.Render(o, 0)
	if !strings.HasPrefix(got, "node -a|p0 p1 ") || !strings.HasSuffix(got, fmt.Sprintf(" and %d more|%d", 2*maxPackages, maxField-1+len(Ellipsis))) || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if o.Packages[0] != "p0\x07" {
		t.Error("the caller's occurrence was changed")
	}
}

func FuzzTemplate(f *testing.F) {
	for _, source := range defaults {
		f.Add(source, "detail")
	}
	f.Add(`{{range .Packages}}{{.}}{{end}}`, "\xff\u2028")
	f.Fuzz(func(t *testing.T, source, detail string) {
		if strings.Contains(source, "range") || strings.Contains(source, "printf") {
			return // an administrator may ask for as much work as he likes
		}
		all, err := New(map[status.Event]string{status.EventDrain: source})
		if err != nil {
			return
		}
		o := sample(status.EventDrain)
		o.Detail = detail
		text, _ := all.Render(o, 0)
		if utf8.RuneCountInString(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Errorf("%q renders to %q", source, text)
		}
	})
}
