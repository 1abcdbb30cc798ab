package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/BurntSushi/toml"
)

// Setting is one key of the configuration in force.
type Setting struct {
	Header string // of its table, "[lock]" or "[[window]]"; "" for all but the first of a table
	Key    string
	Value  string // as TOML has it; secrets are not in it
	From   string // "default", or FILE:LINE
}

// hidden stands for a secret.
const hidden = "(not shown)"

// Settings reads the file at path and its drop-ins as Load does, or with
// optional as LoadOptional, and returns every key in the order of the shipped
// file. Those of lists of tables are there once for each table.
func Settings(path string, optional bool) ([]Setting, error) {
	files, problems, err := readAll(path, optional)
	if err != nil {
		return nil, err
	}
	m, err := join(files, problems)
	if err != nil {
		return nil, err
	}
	var all []Setting
	sections := reflect.ValueOf(m.cfg)
	for _, name := range sectionNames() {
		section, _ := field(sections, name)
		if section.Kind() != reflect.Slice {
			all = append(all, m.settings(at(name), section)...)
			continue
		}
		for i := range section.Len() {
			all = append(all, m.settings(place{table: name, index: i + 1}, section.Index(i))...)
		}
	}
	return all, nil
}

// settings are the keys of one table.
func (m *merged) settings(p place, table reflect.Value) []Setting {
	var all []Setting
	for _, key := range tags(table.Type()) {
		leaf, _ := field(table, key)
		s := Setting{Key: key, Value: value(leaf), From: "default"}
		if len(all) == 0 {
			s.Header = header(p.table)
		}
		if p.table == "notify" && key == "url" && leaf.String() != "" {
			s.Value = quote(hidden) // other addresses are refused if they have a password
		}
		if source, local := m.find(p.in(key)); source.doc != nil && source.doc.has(local) {
			s.From = fmt.Sprintf("%s:%d", source.path, source.doc.lineOf(local))
		}
		all = append(all, s)
	}
	return all
}

// value is a leaf of Config as TOML has it.
func value(leaf reflect.Value) string {
	switch v := leaf.Interface().(type) {
	case encoding.TextMarshaler:
		text, err := v.MarshalText() // of a Duration, which has no error
		if err != nil {
			return quote(err.Error())
		}
		return quote(string(text))
	case intstr.IntOrString:
		if v.Type == intstr.Int {
			return fmt.Sprint(v.IntVal)
		}
		return quote(v.StrVal)
	case string:
		return quote(v)
	case []string:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = quote(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]string:
		if len(v) == 0 {
			return "{}"
		}
		var items []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			items = append(items, toml.Key{key}.String()+" = "+quote(v[key]))
		}
		return "{ " + strings.Join(items, ", ") + " }"
	default:
		return fmt.Sprint(v)
	}
}

// quote is a basic string of TOML (https://toml.io/en/v1.0.0#string).
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
