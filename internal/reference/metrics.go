package reference

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// series are name and labels of a line in the format of Prometheus.
var series = regexp.MustCompile(`^([a-z_]+)(?:\{([^}]*)\})? `)

// metric is one of /metrics.
type metric struct{ name, kind, labels, help string }

// Metrics is the table of all metrics, from the expositions that the tests of
// internal/metrics compare with.
func Metrics(root string) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(root, "internal/metrics/testdata/*.prom"))
	if err != nil {
		return nil, err
	}
	all := map[string]*metric{}
	of := func(name string) *metric {
		if all[name] == nil {
			all[name] = &metric{name: name}
		}
		return all[name]
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if about, ok := strings.CutPrefix(line, "# HELP "); ok {
				name, help, _ := strings.Cut(about, " ")
				of(name).help = help
			} else if about, ok := strings.CutPrefix(line, "# TYPE "); ok {
				name, kind, _ := strings.Cut(about, " ")
				of(name).kind = kind
			} else if m := series.FindStringSubmatch(line); m != nil {
				name := m[1]
				for _, end := range []string{"_bucket", "_sum", "_count"} {
					if short := strings.TrimSuffix(name, end); all[short] != nil {
						name = short
					}
				}
				if labels := labelNames(m[2]); labels != "" {
					of(name).labels = labels
				}
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no metrics in %s", filepath.Join(root, "internal/metrics/testdata"))
	}
	var list []*metric
	for _, m := range all {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *metric) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString("\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range list {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, escape(m.help))
	}
	return []byte(b.String()), nil
}

// labelNames are the names in labels such as `phase="idle",le="1"`, but for
// that of a histogram's bucket.
func labelNames(labels string) string {
	var names []string
	for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(labels, -1) {
		if m[1] != "le" && !slices.Contains(names, "`"+m[1]+"`") {
			names = append(names, "`"+m[1]+"`")
		}
	}
	return strings.Join(names, ", ")
}
