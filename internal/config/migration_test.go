package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// meaning is what the example of a flag has to do.
type meaning struct {
	key  string
	get  func(Config) any
	want any
}

// flags are those of the DaemonSet kured 1.23, with what the table in
// docs/migration.md has to make of them; nil: there is a reason instead.
var flags = map[string]*meaning{
	"node-id":                      {"kubernetes.node_name", func(c Config) any { return c.Kubernetes.NodeName }, "node-a"},
	"period":                       {"gates.recheck", func(c Config) any { return c.Gates.Recheck }, minute},
	"reboot-sentinel":              {"sentinel.paths", func(c Config) any { return c.Sentinel.Paths }, []string{"/run/reboot-required"}},
	"reboot-sentinel-command":      {"sentinel.paths", func(c Config) any { return c.Sentinel.Paths }, []string{"/run/kured-sentinel/command"}},
	"reboot-method":                {"reboot.method", func(c Config) any { return c.Reboot.Method }, "reboot"},
	"reboot-command":               nil,
	"reboot-signal":                nil,
	"force-reboot":                 {"drain.on_timeout", func(c Config) any { return c.Drain.OnTimeout }, "force"},
	"drain-grace-period":           {"drain.grace_period", func(c Config) any { return c.Drain.GracePeriod }, minute},
	"drain-timeout":                {"drain.timeout", func(c Config) any { return c.Drain.Timeout }, 30 * minute},
	"drain-pod-selector":           {"drain.pod_selector", func(c Config) any { return c.Drain.PodSelector }, "app=web"},
	"skip-wait-for-delete-timeout": {"drain.skip_wait_for_delete", func(c Config) any { return c.Drain.SkipWaitForDelete }, minute},
	"drain-delay":                  {"drain.delay_before", func(c Config) any { return c.Drain.DelayBefore }, 30 * second},
	"reboot-delay":                 {"drain.delay_after", func(c Config) any { return c.Drain.DelayAfter }, 30 * second},
	"concurrency":                  {"lock.max_concurrent", func(c Config) any { return c.Lock.MaxConcurrent }, intstr.FromInt32(2)},
	"ds-namespace":                 {"compat.daemonset", func(c Config) any { return c.Compat.DaemonSet }, "kube-system/kured"},
	"ds-name":                      {"compat.daemonset", func(c Config) any { return c.Compat.DaemonSet }, "kube-system/kured"},
	"lock-annotation":              {"compat.lock_annotation", func(c Config) any { return c.Compat.LockAnnotation }, "example.com/lock"},
	"lock-ttl":                     nil,
	"lock-release-delay":           {"return.release_delay", func(c Config) any { return c.Return.ReleaseDelay }, 5 * minute},
	"prometheus-url":               {"prometheus.urls", func(c Config) any { return c.Prometheus[0].URLs }, []string{"http://prometheus.monitoring"}},
	"alert-filter-regexp":          {"prometheus.ignore_names", func(c Config) any { return c.Prometheus[0].IgnoreNames }, []string{"^Watchdog$"}},
	"alert-filter-match-only":      {"prometheus.only_names", func(c Config) any { return c.Prometheus[0].OnlyNames }, []string{"^Node"}},
	"alert-firing-only":            {"prometheus.alerts", func(c Config) any { return c.Prometheus[0].Alerts }, "firing"},
	"blocking-pod-selector":        {"gates.blocking_pods", func(c Config) any { return c.Gates.BlockingPods }, []string{"app=batch"}},
	"reboot-days":                  {"window.days", func(c Config) any { return c.Windows[0].Days }, []string{"sat", "sun"}},
	"start-time":                   {"window.start", func(c Config) any { return c.Windows[0].Start }, "22:00"},
	"end-time":                     {"window.end", func(c Config) any { return c.Windows[0].End }, "04:00"},
	"time-zone":                    {"schedule.time_zone", func(c Config) any { return c.Schedule.TimeZone }, "Europe/Berlin"},
	"prefer-no-schedule-taint":     {"node.waiting_taint", func(c Config) any { return c.Node.WaitingTaint }, "kured.dev/waits"},
	"annotate-nodes": {"node.annotations_before", func(c Config) any { return c.Node.AnnotationsBefore }, map[string]string{
		"weave.works/kured-reboot-in-progress": "{time}", "weave.works/kured-most-recent-reboot-needed": "{time}",
	}},
	"pre-reboot-node-labels":    {"node.labels_before", func(c Config) any { return c.Node.LabelsBefore }, map[string]string{"state": "rebooting"}},
	"post-reboot-node-labels":   {"node.labels_after", func(c Config) any { return c.Node.LabelsAfter }, map[string]string{"state": "ready"}},
	"notify-url":                {"notify.url", func(c Config) any { return c.Notify[0].URL }, "slack://hook:A-B-C@webhook"},
	"slack-hook-url":            {"notify.url", func(c Config) any { return c.Notify[0].URL }, "https://hooks.slack.com/services/A/B/C"},
	"slack-username":            {"notify.url", func(c Config) any { return c.Notify[0].URL }, "slack://hook:A-B-C@webhook?botname=kured"},
	"slack-channel":             nil,
	"message-template-drain":    {"notify.templates", func(c Config) any { return c.Notify[0].Templates }, map[string]string{"drain": "Draining {{.Node}}"}},
	"message-template-reboot":   {"notify.templates", func(c Config) any { return c.Notify[0].Templates }, map[string]string{"reboot": "Rebooting {{.Node}}"}},
	"message-template-uncordon": {"notify.templates", func(c Config) any { return c.Notify[0].Templates }, map[string]string{"back": "{{.Node}} is back"}},
	"metrics-host":              {"metrics.listen", func(c Config) any { return c.Metrics.Listen }, []string{"10.0.0.1:9788"}},
	"metrics-port":              {"metrics.listen", func(c Config) any { return c.Metrics.Listen }, []string{"127.0.0.1:8080"}},
	"log-format":                {"log.format", func(c Config) any { return c.Log.Format }, "json"},
}

// row is a row of the table: the flag with its value, the example, and the text.
var row = regexp.MustCompile("(?m)^\\| `--([a-z-]+)(?:=[^`]*)?` \\| (?:`([^`]+)`|–) \\| (.*)\\|$")

func TestFlagsOfTheDaemonSet(t *testing.T) {
	data, err := os.ReadFile("../../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := row.FindAllStringSubmatch(string(data), -1)
	if n := strings.Count(string(data), "\n| `--"); len(rows) != n || len(flags) != 43 {
		t.Errorf("%d rows of %d are understood, and %d flags are known of 43", len(rows), n, len(flags))
	}
	quoted := regexp.MustCompile("`([a-z_]+\\.[a-z_]+)`")
	seen := map[string]bool{}
	for _, r := range rows {
		flag, example, text := r[1], r[2], strings.TrimSpace(r[3])
		want, known := flags[flag]
		switch {
		case !known || seen[flag]:
			t.Errorf("--%s: not a flag, or there twice", flag)
			continue
		case want == nil && (example != "" || len(text) < 20):
			t.Errorf("--%s: expected a reason and no example, got %q, %q", flag, example, text)
		case want != nil:
			meansWhatItSays(t, flag, example, *want)
		}
		seen[flag] = true
		// Whatever else looks like a key is one.
		for _, key := range quoted.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(Keys(), key[1]) {
				t.Errorf("--%s: %s is not a key", flag, key[1])
			}
		}
	}
	for flag := range flags {
		if !seen[flag] {
			t.Errorf("--%s is missing", flag)
		}
	}
}

// meansWhatItSays checks that an example of the table has the key, and gives
// it the value, that the flag is about.
func meansWhatItSays(t *testing.T, flag, example string, want meaning) {
	t.Helper()
	if !slices.Contains(Keys(), want.key) {
		t.Errorf("--%s: %s is not a key", flag, want.key)
	}
	section, key, _ := strings.Cut(want.key, ".")
	if !strings.Contains(example, section) || !strings.Contains(example, key) {
		t.Errorf("--%s: no %s in %s", flag, want.key, example)
	}
	cfg, err := Load(write(t, example))
	if err != nil {
		t.Errorf("--%s: %v", flag, err)
		return
	}
	if got := want.get(cfg); !reflect.DeepEqual(got, want.want) {
		t.Errorf("--%s: %s gives %v, not %v", flag, example, got, want.want)
	}
}
