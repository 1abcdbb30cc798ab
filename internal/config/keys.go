package config

import (
	"reflect"
	"strings"
)

// field is the field of a struct, or of a struct embedded in it, that the TOML
// key names. Unlike the TOML library's own match it minds the case: one
// spelling for each key.
func field(structure reflect.Value, key string) (reflect.Value, bool) {
	for i := range structure.NumField() {
		f := structure.Type().Field(i)
		if f.Anonymous {
			if found, ok := field(structure.Field(i), key); ok {
				return found, true
			}
		} else if f.Tag.Get("toml") == key {
			return structure.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// sectionNames are the tables of the file in their order.
func sectionNames() []string { return tags(reflect.TypeFor[Config]()) }

// keysOf are the keys of one table in their order, nil if there is no such table.
func keysOf(section string) []string {
	f, ok := field(reflect.ValueOf(Config{}), section)
	if !ok {
		return nil
	}
	if f.Kind() == reflect.Slice {
		return tags(f.Type().Elem())
	}
	return tags(f.Type())
}

// header is how a table is written: "[lock]", or "[[window]]" in a list.
func header(section string) string {
	if f, ok := field(reflect.ValueOf(Config{}), section); ok && f.Kind() == reflect.Slice {
		return "[[" + section + "]]"
	}
	return "[" + section + "]"
}

func tags(structure reflect.Type) []string {
	var names []string
	for i := range structure.NumField() {
		f := structure.Field(i)
		if f.Anonymous {
			names = append(names, tags(f.Type)...)
		} else {
			names = append(names, f.Tag.Get("toml"))
		}
	}
	return names
}

// Keys are all keys of the file, such as "lock.max_concurrent", in their order.
// Those of lists of tables are there once: "window.days".
func Keys() []string {
	var keys []string
	for _, section := range sectionNames() {
		for _, key := range keysOf(section) {
			keys = append(keys, section+"."+key)
		}
	}
	return keys
}

// nearest is the table or dotted key that was probably meant, "" if none is
// near. A key of the right name in the wrong table counts as near.
func nearest(path []string) string {
	if len(path) == 1 {
		if near := closest(path[0], sectionNames()); near != "" {
			return near
		}
	} else if near := closest(path[1], keysOf(path[0])); near != "" {
		return near
	}
	wanted := path[len(path)-1]
	for _, key := range Keys() {
		if _, leaf, _ := strings.Cut(key, "."); closest(wanted, []string{leaf}) != "" {
			return key
		}
	}
	return ""
}

// closest is the candidate with the least edit distance to word, "" if even
// that one differs in more than a third of its letters. Case does not count.
func closest(word string, candidates []string) string {
	best, least := "", 0
	for _, c := range candidates {
		if diff := len(c) - len(word); diff > 4 || diff < -4 {
			continue
		}
		n := distance(strings.ToLower(word), c)
		if n <= max(1, len(c)/3) && (best == "" || n < least) {
			best, least = c, n
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
