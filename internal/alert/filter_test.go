package alert

import (
	"slices"
	"strings"
	"testing"
)

func TestParseMatchers(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // matchers joined by a blank, or part of the error
		ok   bool
	}{
		{`severity="info"`, `severity="info"`, true},
		{`{severity="info"}`, `severity="info"`, true},
		{" { severity = \"info\" , team=~\"a|b\" , } ", `severity="info" team=~"a|b"`, true},
		{`a!="x",b!~"y.*",c="",_d9="e"`, `a!="x" b!~"y.*" c="" _d9="e"`, true},
		{"path=~`C:\\\\.*`", `path=~"C:\\\\.*"`, true},
		{`a="with , comma and } brace and \" quote"`, `a="with , comma and } brace and \" quote"`, true},
		{`"k8s.pod"="x"`, `"k8s.pod"="x"`, true},
		{`a="ü"`, `a="ü"`, true},

		{``, "no label matcher", false},
		{`{}`, "no label matcher", false},
		{`{severity="info"`, "not closed", false},
		{`severity`, `after the label name severity, found the end`, false},
		{`severity=info`, `value of the label severity: expected "…", found "info"`, false},
		{`severity='info'`, `expected "…"`, false},
		{`severity="info`, "not closed", false},
		{`severity=="info"`, `found "=\"info\""`, false},
		{`a="1" b="2"`, `expected a comma after the label matcher a="1", found "b=\"2\""`, false},
		{`,a="1"`, "expected a label name", false},
		{`a="1",,b="2"`, "expected a label name", false},
		{`9a="1"`, "expected a label name", false},
		{`""="1"`, "label name: it is empty", false},
		{`a=~"("`, "value of the label a: regular expression: missing closing )", false},
		{`a=~"(\n"`, `missing closing ): "(\n"`, false}, // in one line
		{`a=~"x)|(?:y"`, "unexpected )", false},
		{`a="\q"`, "no escape", false},
		{`a="\xff"`, "not UTF-8", false},
		{`a="1"}`, "expected a comma", false},
		{"a=\x00", `found "\x00"`, false},
	} {
		list, err := ParseMatchers(c.text)
		var got string
		if err != nil {
			got = err.Error()
		} else {
			var texts []string
			for _, m := range list {
				texts = append(texts, m.String())
			}
			got = strings.Join(texts, " ")
		}
		if c.ok != (err == nil) || c.ok && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.text, got, c.want)
		}
	}
}

func TestMatches(t *testing.T) {
	labels := map[string]string{"severity": "critical", "lines": "a\nb"}
	for text, want := range map[string]bool{
		`severity="critical"`:             true,
		`severity="crit"`:                 false,
		`severity!="critical"`:            false,
		`severity=~"crit"`:                false, // anchored
		`severity=~"crit.*"`:              true,
		`severity=~"warning|critical"`:    true,
		`severity!~"warning|crit"`:        true,
		`severity!~"c.*"`:                 false,
		`team=""`:                         true, // a missing label is empty
		`team!=""`:                        false,
		`team=~".*"`:                      true,
		`team!~".+"`:                      true,
		`lines=~"a.b"`:                    true,
		`severity=~"a|critical", team=""`: true,
		`severity="critical", team="x"`:   false, // all have to match
	} {
		list, err := ParseMatchers(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := matchesAll(list, labels); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if (Matcher{}).Matches(labels) {
		t.Error("the zero Matcher matches")
	}
}

func TestFilter(t *testing.T) {
	watchdog := Alert{"alertname": "Watchdog", "severity": "none"}
	down := Alert{"alertname": "NodeDown", "severity": "critical", "team": "infra"}
	disk := Alert{"alertname": "DiskFull", "severity": "warning", "team": "data"}
	nameless := Alert{"severity": "critical"}
	all := []Alert{watchdog, down, disk, nameless}
	for _, c := range []struct {
		what                                 string
		ignoreNames, onlyNames, ignore, only []string
		want                                 []Alert
	}{
		{what: "nothing said", want: all},
		{what: "names are not anchored", ignoreNames: []string{"dog"}, want: []Alert{down, disk, nameless}},
		{what: "unless they are", ignoreNames: []string{"^dog$"}, want: all},
		{what: "only by name", onlyNames: []string{"Node", "Disk"}, want: []Alert{down, disk}},
		{what: "ignore by labels", ignore: []string{`severity=~"none|warning"`}, want: []Alert{down, nameless}},
		{what: "items are alternatives", ignore: []string{`severity="none"`, `team="data"`}, want: []Alert{down, nameless}},
		{what: "matchers of one item are not", ignore: []string{`severity="critical", team="infra"`}, want: []Alert{watchdog, disk, nameless}},
		{what: "only by labels", only: []string{`severity="critical"`}, want: []Alert{down, nameless}},
		{what: "only by either", onlyNames: []string{"Disk"}, only: []string{`team="infra"`}, want: []Alert{down, disk}},
		{what: "ignore wins", onlyNames: []string{"Node", "Disk"}, ignore: []string{`team="data"`}, want: []Alert{down}},
		{what: "name as a label", ignore: []string{`alertname="Watchdog"`}, want: []Alert{down, disk, nameless}},
		{what: "missing label", only: []string{`team=""`}, want: []Alert{watchdog, nameless}},
	} {
		f, err := NewFilter(c.ignoreNames, c.onlyNames, c.ignore, c.only)
		if err != nil {
			t.Fatal(err)
		}
		got := f.Select(all)
		if !slices.EqualFunc(got, c.want, func(a, b Alert) bool { return a.String() == b.String() }) {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	for _, c := range [][4][]string{{0: {"("}}, {1: {"("}}, {2: {"x"}}, {3: {""}}} {
		if _, err := NewFilter(c[0], c[1], c[2], c[3]); err == nil {
			t.Errorf("%q: no error", c)
		}
	}
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		alerts []Alert
		want   string
	}{
		{[]Alert{{}}, "an alert without a name"},
		{
			[]Alert{{"alertname": "B"}, {"alertname": "A", "severity": "critical", "instance": "a:9100", "pod": "x", "namespace": "db"}},
			`A (instance="a:9100", namespace="db", severity="critical"), B`,
		},
		{[]Alert{{"alertname": "D"}, {"alertname": "C"}, {"alertname": "B"}, {"alertname": "A"}, {"alertname": "E"}}, "A, B, C and 2 more"},
		{[]Alert{{"alertname": "one\nline\x1b[31m", "severity": "\r\n"}}, "one line [31m"},
		{[]Alert{{"alertname": strings.Repeat("n", 100)}}, strings.Repeat("n", 59) + "…"},
	} {
		if got := Summary(c.alerts); got != c.want && !strings.HasPrefix(got, c.want+" (") {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// What was read is written so that it reads the same.
func FuzzParseMatchers(f *testing.F) {
	f.Add(`severity="info", team=~"a|b"`)
	f.Add("{\"a.b\"!~`x`,}")
	f.Add(`{a="\u00fc}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseMatchers(text)
		if err != nil {
			if list != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v with the error %q", list, err)
			}
			return
		}
		for _, m := range list {
			again, err := ParseMatchers("{" + m.String() + "}")
			if err != nil || len(again) != 1 || again[0].String() != m.String() {
				t.Errorf("%q becomes %v, %v", m.String(), again, err)
			}
			m.Matches(map[string]string{m.name: m.value})
		}
	})
}
