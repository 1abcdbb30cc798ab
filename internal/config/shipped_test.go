package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const shipped = "../../packaging/kured.toml"

// commented is the start of a line that is TOML but for its "#".
var commented = regexp.MustCompile(`(?m)^#([a-z_]+ = |\[\[|  "|\]$)`)

// examples are the keys that have no default, for which the shipped file has
// an example.
var examples = []string{"window.start", "window.end", "freeze.from", "freeze.until", "prometheus.urls", "alertmanager.urls", "notify.url"}

// The shipped file documents every key with its default, so that removing all
// the "#" changes nothing but that there is one of each list of tables.
func TestShippedFile(t *testing.T) {
	data, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err := Load(shipped); err != nil || !reflect.DeepEqual(cfg, Default()) {
		t.Errorf("as shipped: %+v, %v", cfg, err)
	}
	text := commented.ReplaceAllString(string(data), "$1")
	cfg, err := Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	withoutTables(t, &cfg)
	if !sameValues(reflect.ValueOf(cfg), reflect.ValueOf(Default())) {
		t.Errorf("with all keys: %+v", cfg)
	}
	doc, problem := newDocument([]byte(text))
	if problem != nil {
		t.Fatal(problem)
	}
	var there []string
	for _, key := range doc.meta.Keys() {
		if len(key) == 2 {
			there = append(there, key.String())
		}
	}
	if !slices.Equal(there, Keys()) {
		t.Errorf("the keys of the file, in order:\n%v\nthe keys of Config:\n%v", there, Keys())
	}
	// Each key, or the group of keys it stands in, has its comment.
	for block := range strings.SplitSeq(string(data), "\n\n") {
		if at := commented.FindStringIndex(block); at != nil && at[0] == 0 {
			t.Errorf("no comment above:\n%s", block)
		}
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if len([]rune(line)) > 80 {
			t.Errorf("long line: %s", line)
		}
	}
}

// withoutTables checks that each list of tables has one, which is as it starts
// from but for the examples, and takes them out of cfg.
func withoutTables(t *testing.T, cfg *Config) {
	t.Helper()
	for _, section := range sectionNames() {
		list, _ := field(reflect.ValueOf(cfg).Elem(), section)
		if list.Kind() != reflect.Slice {
			continue
		}
		if list.Len() != 1 {
			t.Errorf("%d %s", list.Len(), header(section))
			continue
		}
		element, start := list.Index(0), fresh(list.Type().Elem())
		for _, example := range examples {
			if name, key, _ := strings.Cut(example, "."); name == section {
				value, _ := field(element, key)
				if value.IsZero() {
					t.Errorf("no example of %s", example)
				}
				value.SetZero()
			}
		}
		if !sameValues(element, start) {
			t.Errorf("%s: %+v, not the default %+v", header(section), element, start)
		}
		list.SetZero()
	}
}

// sameValues is reflect.DeepEqual for which empty lists and maps are like none.
func sameValues(a, b reflect.Value) bool {
	switch {
	case a.Kind() == reflect.Struct:
		for i := range a.NumField() {
			if !sameValues(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case a.Kind() == reflect.Slice || a.Kind() == reflect.Map:
		return a.Len() == 0 && b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface())
	default:
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
}
