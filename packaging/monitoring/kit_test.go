package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/prometheus"
)

func dashboard(t *testing.T) Dashboard {
	t.Helper()
	d, err := ReadDashboard()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rules(t *testing.T, file string) []Rule {
	t.Helper()
	r, err := ReadRules(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(r) == 0 {
		t.Fatal("no rules in ", file)
	}
	return r
}

// Prometheus' own checker takes the rules, and its tests of them pass.
func TestPromtool(t *testing.T) {
	promtool, err := prometheus.Promtool(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(tests) == 0 {
		t.Fatal(tests, err)
	}
	for _, args := range [][]string{{"check", "rules", RecordingFile, AlertsFile}, append([]string{"test", "rules"}, tests...)} {
		if output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
}

// Each alert is shown to fire, and before and after that not to.
func TestEachAlertIsTested(t *testing.T) {
	type moment struct{ before, fires, after bool }
	seen := map[string]*moment{}
	paths, _ := filepath.Glob("testdata/*.yaml") // an empty list fails below
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Tests []struct {
				Alerts []struct {
					Name   string `json:"alertname"`
					Expect []any  `json:"exp_alerts"`
				} `json:"alert_rule_test"`
			} `json:"tests"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(path, err)
		}
		for _, test := range file.Tests {
			for _, a := range test.Alerts {
				if seen[a.Name] == nil {
					seen[a.Name] = &moment{}
				}
				m := seen[a.Name]
				m.before = m.before || len(a.Expect) == 0 && !m.fires
				m.after = m.after || len(a.Expect) < 2 && m.fires
				m.fires = m.fires || len(a.Expect) > 0
			}
		}
	}
	for _, r := range rules(t, AlertsFile) {
		if m := seen[r.Alert]; m == nil || !m.before || !m.fires || !m.after {
			t.Errorf("%s: quiet, fires, resolves: %+v", r.Alert, m)
		}
	}
}

// Each alert says what it is about, what helps, and where more is written.
func TestAlertsExplainThemselves(t *testing.T) {
	for _, r := range rules(t, AlertsFile) {
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || !regexp.MustCompile(`(kured|kubectl|systemctl) [a-z]+`).MatchString(r.Annotations["description"]) {
			t.Errorf("%s: no summary, or a description without a command: %q", r.Alert, r.Annotations)
		}
		want := "https://github.com/kured-host/kured/blob/main/docs/troubleshoot.md#" + kebab(r.Alert)
		if r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
}

// kebab makes kured-held of KuredHeld.
func kebab(name string) string {
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// The words in the queries belong to the closed sets: a phase or a reason that
// is renamed would make an alert silent.
func TestWordsAreKnown(t *testing.T) {
	known := map[string][]string{}
	for _, p := range status.Phases() {
		known["phase"] = append(known["phase"], string(p))
	}
	for _, r := range status.Reasons() {
		known["reason"] = append(known["reason"], string(r))
	}
	matcher := regexp.MustCompile(`\b(phase|reason)(?:=|!=|=~|!~)"([^"]*)"`)
	for name, expr := range queries(t) {
		for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
			for _, word := range strings.Split(m[2], "|") {
				pattern := regexp.MustCompile("^(?:" + word + ")$")
				if !slices.ContainsFunc(known[m[1]], pattern.MatchString) {
					t.Errorf("%s: there is no %s %q", name, m[1], word)
				}
			}
		}
	}
}

// queries are those of all rules and panels by their names.
func queries(t *testing.T) map[string]string {
	all := map[string]string{}
	for _, file := range []string{RecordingFile, AlertsFile} {
		for _, r := range rules(t, file) {
			all[r.Alert+r.Record] = r.Expr
		}
	}
	for _, p := range dashboard(t).Panels {
		for _, target := range p.Targets {
			all[p.Title+" "+target.RefID] = target.Expr
		}
	}
	return all
}

// The dashboard can be read by people and kept in git: panels do not overlap,
// have an id of their own that no one gives them, a unit and a description, and
// all take the data source that was chosen.
func TestDashboard(t *testing.T) {
	d := dashboard(t)
	kinds := []string{"row", "stat", "timeseries", "state-timeline", "table", "bargauge", "heatmap"}
	taken := map[[2]int]string{}
	for i, p := range d.Panels {
		if p.ID != i+1 {
			t.Errorf("%s: id %d, want %d", p.Title, p.ID, i+1)
		}
		if !slices.Contains(kinds, p.Type) {
			t.Errorf("%s: type %q", p.Title, p.Type)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s overlaps %q or the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.FieldConfig.Defaults.Unit == "" || len(p.Description) < 20 || len(p.Targets) == 0 {
			t.Errorf("%s: unit %q, description %q, %d queries", p.Title, p.FieldConfig.Defaults.Unit, p.Description, len(p.Targets))
		}
		for _, target := range p.Targets {
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: another data source", p.Title)
			}
			if !strings.Contains(target.Expr, `$cluster"`) {
				t.Errorf("%s: %s does not depend on the chosen cluster", p.Title, target.RefID)
			}
		}
		if p.Type == "state-timeline" {
			for i, phase := range status.Phases() {
				number := strconv.Itoa(i + 1)
				if text := p.FieldConfig.Defaults.Mappings[0].Options[number].Text; text != string(phase) {
					t.Errorf("%s shows %s as %q, want %q", p.Title, number, text, phase)
				}
				if !regexp.MustCompile(`\b` + number + ` \* kured_phase\{[^}]*phase="` + string(phase) + `"`).MatchString(p.Targets[0].Expr) {
					t.Errorf("%s does not give %s the number %s", p.Title, phase, number)
				}
			}
		}
	}
}

// The examples of the README are accepted by those who are to read them.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	promtool, err := prometheus.Promtool(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var read int
	for _, block := range regexp.MustCompile("(?s)```(toml|yaml)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		path := filepath.Join(t.TempDir(), "example")
		if err := os.WriteFile(path, []byte(block[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		switch {
		case block[1] == "toml":
			_, err = config.Load(path)
		case strings.Contains(block[2], "tls_server_config"):
			// Prometheus' checker would look for the certificate.
			err = yaml.UnmarshalStrict([]byte(block[2]), &map[string]any{})
		default:
			var output []byte
			if output, err = exec.CommandContext(t.Context(), promtool, "check", "config", "--syntax-only", path).CombinedOutput(); err != nil {
				t.Logf("%s", output)
			}
		}
		if read++; err != nil {
			t.Errorf("%v\n%s", err, block[2])
		}
	}
	if read < 5 {
		t.Errorf("only %d examples were checked", read)
	}
}
