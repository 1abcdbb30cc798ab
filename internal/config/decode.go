package config

import (
	"encoding"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// decode puts every known key of d into cfg and reports the others and those
// whose value has the wrong type, each once. A key replaces what cfg has; the
// tables of a list are added to it.
func (d *document) decode(cfg *Config) []finding {
	var found []finding
	sections := reflect.ValueOf(cfg).Elem()
	for _, name := range slices.Sorted(maps.Keys(d.tree)) {
		section, known := field(sections, name)
		switch {
		case !known:
			found = append(found, unknown(at(name)))
		case section.Kind() == reflect.Slice:
			found = append(found, decodeList(section, at(name), d.tree[name])...)
		default:
			table, isTable := d.tree[name].(map[string]any)
			if !isTable {
				found = append(found, finding{at: at(name), message: fmt.Sprintf("is %s, expected one table: [%s]", kind(d.tree[name]), name)})
				continue
			}
			found = append(found, decodeTable(section, at(name), table)...)
		}
	}
	return found
}

// decodeList adds to a list of tables: [[name]], or name = [{…}].
func decodeList(list reflect.Value, p place, value any) []finding {
	wrong := finding{at: p, message: fmt.Sprintf("is %s, expected a list of tables: [[%s]]", kind(value), p.table)}
	tables, ok := value.([]map[string]any)
	if items, other := value.([]any); other {
		ok = true
		for i, item := range items {
			table, isTable := item.(map[string]any)
			if !isTable {
				wrong.message = fmt.Sprintf("item %d: %sis %s, expected a table", i+1, show(item), kind(item))
				return []finding{wrong}
			}
			tables = append(tables, table)
		}
	}
	if !ok {
		return []finding{wrong}
	}
	var found []finding
	for i, table := range tables {
		element := fresh(list.Type().Elem())
		p.index = i + 1
		found = append(found, decodeTable(element, p, table)...)
		list.Set(reflect.Append(list, element))
	}
	return found
}

// fresh is what one of a list of tables starts from.
func fresh(t reflect.Type) reflect.Value {
	element := reflect.New(t).Elem()
	switch table := element.Addr().Interface().(type) {
	case *Prometheus:
		*table = DefaultPrometheus()
	case *Alertmanager:
		*table = DefaultAlertmanager()
	}
	return element
}

// decodeTable sets the fields of a struct.
func decodeTable(structure reflect.Value, p place, table map[string]any) []finding {
	var found []finding
	for _, key := range slices.Sorted(maps.Keys(table)) {
		leaf, known := field(structure, key)
		switch {
		case !known:
			found = append(found, unknown(p.in(key)))
		case leaf.Kind() == reflect.Map:
			found = append(found, decodeTexts(leaf, p.in(key), table[key])...)
		default:
			for _, message := range assign(leaf, table[key]) {
				found = append(found, finding{at: p.in(key), message: message})
			}
		}
	}
	return found
}

// decodeTexts sets a map from text to text.
func decodeTexts(leaf reflect.Value, p place, value any) []finding {
	table, ok := value.(map[string]any)
	if !ok {
		return []finding{{at: p, message: fmt.Sprintf(`%sis %s, expected a table of texts in quotes such as { name = "value" }`, show(value), kind(value))}}
	}
	var found []finding
	texts := make(map[string]string, len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		switch v := table[name].(type) {
		case string:
			texts[name] = v
		case map[string]any:
			found = append(found, finding{at: p.in(name), message: `is a table, expected text in quotes; a name with dots needs quotes too, such as "example.com/name"`})
		default:
			found = append(found, finding{at: p.in(name), message: fmt.Sprintf("%sis %s, expected text in quotes", show(v), kind(v))})
		}
	}
	leaf.Set(reflect.ValueOf(texts))
	return found
}

// unknown is the finding of a key that no field has.
func unknown(p place) finding {
	message := "unknown"
	if near := nearest(p.path()); near != "" {
		message += fmt.Sprintf(", did you mean %q?", near)
	} else if len(p.keys) == 0 {
		message += ", expected one of the tables " + strings.Join(sectionNames(), ", ")
	} else {
		message += fmt.Sprintf(", the keys of %s are %s", header(p.table), strings.Join(keysOf(p.table), ", "))
	}
	return finding{at: p, message: message}
}

// assign sets a leaf of Config from a TOML value and says what does not fit.
func assign(leaf reflect.Value, value any) []string {
	wrong := func(expected string) []string {
		return []string{fmt.Sprintf("%sis %s, expected %s", show(value), kind(value), expected)}
	}
	if text, ok := leaf.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s, ok := value.(string)
		if !ok {
			return wrong(`a duration in quotes such as "90s" or "30m"`)
		}
		if err := text.UnmarshalText([]byte(s)); err != nil {
			return []string{oneLine(err.Error())}
		}
		return nil
	}
	if number, ok := leaf.Addr().Interface().(*intstr.IntOrString); ok {
		switch v := value.(type) {
		case int64:
			if v < math.MinInt32 || v > math.MaxInt32 {
				return []string{fmt.Sprintf("%d is too large", v)}
			}
			*number = intstr.FromInt32(int32(v))
		case string:
			*number = intstr.FromString(v)
		default:
			return wrong(`a whole number, or text in quotes such as "10%"`)
		}
		return nil
	}
	switch leaf.Kind() {
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return wrong("true or false")
		}
		leaf.SetBool(b)
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			return wrong("text in quotes")
		}
		leaf.SetString(s)
	case reflect.Int:
		n, ok := value.(int64)
		if !ok {
			return wrong("a whole number")
		}
		if leaf.OverflowInt(n) {
			return []string{fmt.Sprintf("%d is too large", n)}
		}
		leaf.SetInt(n)
	case reflect.Slice:
		items, ok := value.([]any)
		if !ok {
			return wrong("a list of texts in quotes")
		}
		var problems []string
		texts := make([]string, 0, len(items))
		for i, item := range items {
			s, ok := item.(string)
			if !ok {
				problems = append(problems, fmt.Sprintf("item %d: %sis %s, expected text in quotes", i+1, show(item), kind(item)))
				continue
			}
			texts = append(texts, s)
		}
		leaf.Set(reflect.ValueOf(texts))
		return problems
	default:
		return []string{"cannot be set: " + leaf.Kind().String()}
	}
	return nil
}

// kind names the TOML type of a value for people.
func kind(value any) string {
	switch value.(type) {
	case string:
		return "text"
	case bool:
		return "a boolean"
	case int64:
		return "a whole number"
	case float64:
		return "a decimal number"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "a list of tables"
	default:
		return "a list"
	}
}

// show is a simple value in one short line with a space behind it; nothing for
// tables, lists and dates, and for addresses, which may have a password.
func show(value any) string {
	switch v := value.(type) {
	case string:
		if strings.Contains(v, "://") {
			return ""
		}
		return cut(strconv.Quote(v), 60) + " "
	case bool, int64, float64:
		return oneLine(fmt.Sprint(v)) + " "
	default:
		return ""
	}
}

// oneLine replaces line ends and other control characters.
func oneLine(s string) string {
	return cut(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), 300)
}

// cut shortens s to about n bytes, on a character's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
