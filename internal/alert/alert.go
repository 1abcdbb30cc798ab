// Package alert asks Prometheus and Alertmanager how the cluster is: which
// alerts there are, what PromQL queries give; and silences the alerts of a node
// while it reboots. Nothing is kept between two questions: no connection, no
// credential, no timer.
package alert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kured-host/kured/internal/status"
)

// Alert is the labels of one alert, its name (alertname) among them.
type Alert map[string]string

// Name is the alert's name, "" if it has none.
func (a Alert) Name() string { return a["alertname"] }

// String is the alert for people, with the labels that say where it is and how
// bad: NodeDown (instance="a:9100", severity="critical").
func (a Alert) String() string {
	name := status.Clean(a.Name(), 60)
	if name == "" {
		name = "an alert without a name"
	}
	var labels []string
	for _, label := range []string{"instance", "namespace", "severity"} {
		if value := a[label]; value != "" {
			labels = append(labels, fmt.Sprintf("%s=%q", label, status.Clean(value, 40)))
		}
	}
	if len(labels) == 0 {
		return name
	}
	return name + " (" + strings.Join(labels, ", ") + ")"
}

// Summary names up to three alerts, sorted, and counts the rest.
func Summary(alerts []Alert) string { return summary(alerts) }

// summary names up to three items, sorted, and counts the rest.
func summary[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	slices.SortFunc(texts, cmp.Compare[string])
	return status.Few(texts, 3)
}
