package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// document is a parsed file that still knows where its keys stand.
type document struct {
	data []byte
	tree map[string]any
	top  map[string]toml.Primitive
	meta toml.MetaData
}

// newDocument parses data. TOML's syntax errors end the parse, so there is at
// most one; its Problem has a line and no file.
func newDocument(data []byte) (*document, *Problem) {
	d := &document{data: data}
	_, err := toml.Decode(string(data), &d.tree)
	if err == nil {
		d.meta, err = toml.Decode(string(data), &d.top)
	}
	var pe toml.ParseError
	switch {
	case err == nil:
		return d, nil
	case errors.As(err, &pe):
		return nil, &Problem{Line: d.lineAt(pe.Position), Message: oneLine(pe.Message)}
	default:
		return nil, &Problem{Message: oneLine(err.Error())}
	}
}

// decode puts every known key into cfg and reports the others and those whose
// value has the wrong type, each once, with their lines.
func (d *document) decode(cfg *Config) []Problem {
	var problems []Problem
	sections := reflect.ValueOf(cfg).Elem()
	for _, name := range slices.Sorted(maps.Keys(d.tree)) {
		section, known := field(sections, name)
		if !known {
			problems = append(problems, d.unknown(name))
			continue
		}
		table, isTable := d.tree[name].(map[string]any)
		if !isTable {
			problems = append(problems, d.problem([]string{name},
				fmt.Sprintf("is %s, expected one table: [%s]", kind(d.tree[name]), name)))
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(table)) {
			value, known := field(section, key)
			if !known {
				problems = append(problems, d.unknown(name, key))
				continue
			}
			for _, message := range assign(value, table[key]) {
				problems = append(problems, d.problem([]string{name, key}, message))
			}
		}
	}
	return problems
}

// problem is one about the key at path.
func (d *document) problem(path []string, message string) Problem {
	p := Problem{Key: toml.Key(path).String(), Message: message}
	p.Line = d.line(path)
	return p
}

// unknown is the problem of a key that no field has.
func (d *document) unknown(path ...string) Problem {
	message := "unknown"
	if near := nearest(path); near != "" {
		message += fmt.Sprintf(", did you mean %q?", near)
	} else if len(path) == 1 {
		message += ", expected one of the tables " + strings.Join(sectionNames(), ", ")
	} else {
		message += fmt.Sprintf(", the keys of [%s] are %s", path[0], strings.Join(keysOf(path[0]), ", "))
	}
	return d.problem(path, message)
}

// lineOf is the line of a dotted known key, 0 if the file does not have it.
func (d *document) lineOf(key string) int {
	path := strings.Split(key, ".")
	if !d.meta.IsDefined(path...) {
		return 0
	}
	return d.line(path)
}

// line is the line where the key at path stands. A table that is only implied
// ("a.b = 1" implies a) stands where its first key does.
func (d *document) line(path []string) int {
	if n := d.probe(path); n > 0 {
		return n
	}
	for _, key := range d.meta.Keys() {
		if len(key) > len(path) && slices.Equal(key[:len(path)], path) {
			if n := d.probe(key); n > 0 {
				return n
			}
		}
	}
	return 0
}

// probe asks the TOML library for the position of one key. It tells positions
// only in errors, so the value is decoded into a type that refuses it.
func (d *document) probe(path []string) int {
	value, ok := d.top[path[0]]
	if !ok {
		return 0
	}
	for _, name := range path[1:] {
		var table map[string]toml.Primitive
		if err := d.meta.PrimitiveDecode(value, &table); err != nil {
			break // an array of tables: its own line has to do
		}
		next, ok := table[name]
		if !ok {
			break
		}
		value = next
	}
	var pe toml.ParseError
	if err := d.meta.PrimitiveDecode(value, new(refusal)); !errors.As(err, &pe) || pe.Position.Line == 0 {
		return 0
	}
	return d.lineAt(pe.Position)
}

// lineAt counts the lines up to the start of a position; the library's own
// number is that of the end, which differs for text over several lines.
func (d *document) lineAt(p toml.Position) int {
	start := min(max(p.Start, 0), len(d.data))
	return 1 + bytes.Count(d.data[:start], []byte("\n"))
}

// refusal refuses every value.
type refusal struct{}

func (*refusal) UnmarshalTOML(any) error { return errors.New("refused") }

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
// tables and lists.
func show(value any) string {
	switch v := value.(type) {
	case string:
		return cut(strconv.Quote(v), 60) + " "
	case bool, int64, float64, time.Time:
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
