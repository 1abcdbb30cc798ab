package config

import (
	"fmt"

	"github.com/BurntSushi/toml"
)

// place is where a value stands: in a table, or in the n-th of a list of
// tables, and there under one or more keys.
type place struct {
	table string
	index int      // 1-based; 0: there is one such table
	keys  []string // none: the table itself
}

// at is the place of keys in the one table of that name.
func at(table string, keys ...string) place { return place{table: table, keys: keys} }

// in is the place of keys below p.
func (p place) in(keys ...string) place {
	p.keys = append(p.keys[:len(p.keys):len(p.keys)], keys...)
	return p
}

// path is the place as TOML has it, which does not count the tables of a list.
func (p place) path() []string { return append([]string{p.table}, p.keys...) }

// String is "lock.name", "prometheus[2].urls" or `node.labels_before."a/b"`.
func (p place) String() string {
	s := toml.Key{p.table}.String()
	if p.index > 0 {
		s += fmt.Sprintf("[%d]", p.index)
	}
	if len(p.keys) > 0 {
		s += "." + toml.Key(p.keys).String()
	}
	return cut(s, 200)
}

// finding is a problem before it is known where in which file it stands.
type finding struct {
	at      place
	message string
	with    []place // the other keys that it is about
}
