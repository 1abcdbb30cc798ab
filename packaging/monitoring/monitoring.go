// Package monitoring reads the kit beside it for its checks: the dashboard and
// the rules, and the queries in them as Grafana and Prometheus would ask them.
// Tests only; nothing of kured needs it.
package monitoring

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed kured-dashboard.json kured-recording.yaml kured-alerts.yaml
var files embed.FS

// Names of the files with rules.
const (
	RecordingFile = "kured-recording.yaml"
	AlertsFile    = "kured-alerts.yaml"
	dashboardFile = "kured-dashboard.json"
)

// File is the content of one of the files of the kit.
func File(name string) (string, error) {
	content, err := files.ReadFile(name)
	return string(content), err
}

// Dashboard is what the checks need of Grafana's model of one.
type Dashboard struct {
	UID        string  `json:"uid"`
	Panels     []Panel `json:"panels"`
	Templating struct {
		List []Variable `json:"list"`
	} `json:"templating"`
}

// Variable is one that people choose at the head of the dashboard.
type Variable struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Definition string `json:"definition"`
}

// Panel is a panel or the head of a row of them.
type Panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  Source `json:"datasource"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit     string `json:"unit"`
			Mappings []struct {
				Options map[string]struct{ Text string } `json:"options"`
			} `json:"mappings"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []Target `json:"targets"`
}

// Source is where a panel's data is.
type Source struct {
	UID string `json:"uid"`
}

// Target is one query of a panel.
type Target struct {
	RefID      string `json:"refId"`
	Expr       string `json:"expr"`
	Legend     string `json:"legendFormat"`
	Instant    bool   `json:"instant"`
	Datasource Source `json:"datasource"`
}

// ReadDashboard reads the dashboard of the kit.
func ReadDashboard() (Dashboard, error) {
	var d Dashboard
	text, err := File(dashboardFile)
	if err == nil {
		err = json.Unmarshal([]byte(text), &d)
	}
	if err != nil {
		return Dashboard{}, fmt.Errorf("%s: %w", dashboardFile, err)
	}
	return d, nil
}

// Rule is an alert or a recording rule.
type Rule struct {
	Alert       string            `json:"alert"`
	Record      string            `json:"record"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// ReadRules reads one of the files with rules.
func ReadRules(name string) ([]Rule, error) {
	text, err := File(name)
	if err != nil {
		return nil, err
	}
	var content struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []Rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict([]byte(text), &content); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var rules []Rule
	for _, g := range content.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules, nil
}

// Chosen is what a person has chosen at the head of the dashboard: regular
// expressions, and the time range.
type Chosen struct {
	Cluster, Job, Node string
	From               int64 // seconds since 1970
}

// Substitute puts what was chosen in the place of Grafana's variables, as
// Grafana does for a range of 6 hours and a data source that is scraped every
// 15 seconds.
func Substitute(expr string, c Chosen) string {
	return strings.NewReplacer(
		"$__rate_interval", "60s", "$__interval", "15s", "$__range", "6h",
		"${__from:date:seconds}", fmt.Sprint(c.From),
		"$cluster", c.Cluster, "$job", c.Job, "$node", c.Node,
	).Replace(expr)
}
