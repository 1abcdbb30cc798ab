package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/BurntSushi/toml"
)

// document is a parsed file that still knows where its keys stand.
type document struct {
	data  []byte
	tree  map[string]any
	top   map[string]toml.Primitive
	meta  toml.MetaData
	lists map[string][]int // offsets of the headers of each list of tables

	parts  map[int]*document                    // see part
	tables map[string]map[string]toml.Primitive // see table
}

// newDocument parses data. TOML's syntax errors end the parse, so there is at
// most one; its Problem has a line and no file.
func newDocument(data []byte) (*document, *Problem) {
	outline := survey(data)
	if outline.problem != nil {
		return nil, outline.problem
	}
	d := &document{data: data, parts: map[int]*document{}}
	_, err := toml.Decode(string(data), &d.tree)
	if err == nil {
		d.meta, err = toml.Decode(string(data), &d.top)
	}
	var pe toml.ParseError
	switch {
	case err == nil && len(d.meta.Keys()) > maxKeys:
		return nil, &Problem{Line: 1, Message: fmt.Sprintf("has more than %d keys and cannot be a configuration of kured", maxKeys)}
	case err == nil:
		d.lists = elements(data, outline.headers)
		return d, nil
	case errors.As(err, &pe):
		return nil, &Problem{Line: d.lineAt(pe.Position.Start), Message: oneLine(pe.Message)}
	default:
		return nil, &Problem{Message: oneLine(err.Error())}
	}
}

// has reports whether the file has the key at p, or implies it. The index of a
// place in a list of tables is that of this file.
func (d *document) has(p place) bool {
	if p.index > 0 {
		part, _ := d.part(p)
		return part != nil && part.probe(p.path()) > 0
	}
	return d.meta.IsDefined(p.path()...)
}

// lineOf is the line where p stands; that of the table around it if the file
// does not have it, and 0 if it has none of that either.
func (d *document) lineOf(p place) int {
	part, offset := d, 0
	if p.index > 0 {
		if part, offset = d.part(p); part == nil {
			return d.line([]string{p.table}) // written as a list of inline tables
		}
	}
	before := d.lineAt(offset) - 1
	for path := p.path(); len(path) > 0; path = path[:len(path)-1] {
		if n := part.line(path); n > 0 {
			return before + n
		}
	}
	if p.index > 0 {
		return before + 1
	}
	return 0
}

// part is the file from the header of one of a list of tables to that of the
// next, and its offset; nil if there is no such header. The TOML library keeps
// one position for each key, so those of all but the last table are lost, and
// each has to be parsed alone.
func (d *document) part(p place) (*document, int) {
	headers := d.lists[p.table]
	if p.index > len(headers) {
		return nil, 0
	}
	start, end := headers[p.index-1], len(d.data)
	if p.index < len(headers) {
		end = headers[p.index]
	}
	part, known := d.parts[start]
	if !known {
		part = &document{data: d.data[start:end]}
		meta, err := toml.Decode(string(part.data), &part.top)
		if part.meta = meta; err != nil {
			part.top = nil
		}
		d.parts[start] = part
	}
	return part, start
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
	last := len(path) - 1
	value, ok := d.table(path[:last])[path[last]]
	if !ok {
		return 0
	}
	var pe toml.ParseError
	if err := d.meta.PrimitiveDecode(value, new(refusal)); !errors.As(err, &pe) || pe.Position.Line == 0 {
		return 0
	}
	return d.lineAt(pe.Position.Start)
}

// table is the table at path, or the one of a list there, nil if there is none.
func (d *document) table(path []string) map[string]toml.Primitive {
	if len(path) == 0 {
		return d.top
	}
	name := toml.Key(path).String()
	table, known := d.tables[name]
	if known {
		return table
	}
	last := len(path) - 1
	if value, ok := d.table(path[:last])[path[last]]; ok {
		var list []map[string]toml.Primitive
		// What is no table leaves table as it is, with an error or without.
		if err := d.meta.PrimitiveDecode(value, &table); err != nil || table == nil {
			table = nil
			if err := d.meta.PrimitiveDecode(value, &list); err == nil && len(list) == 1 {
				table = list[0]
			}
		}
	}
	if d.tables == nil {
		d.tables = map[string]map[string]toml.Primitive{}
	}
	d.tables[name] = table
	return table
}

// lineAt counts the lines up to an offset; the library's own number is that of
// the end of a value, which differs for text over several lines.
func (d *document) lineAt(offset int) int {
	offset = min(max(offset, 0), len(d.data))
	return 1 + bytes.Count(d.data[:offset], []byte("\n"))
}

// refusal refuses every value.
type refusal struct{}

func (*refusal) UnmarshalTOML(any) error { return errors.New("refused") }
