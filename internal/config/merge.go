package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// source is a file that was parsed and decoded.
type source struct {
	path  string
	order int
	doc   *document
}

// problem is a message about p, a place in this file.
func (s source) problem(p place, message string) report {
	return report{Problem{s.path, s.doc.lineOf(p), p.String(), message}, s.order}
}

// origin is where one of a list of tables came from.
type origin struct {
	source source
	index  int // 1-based, in its file
}

// report is a problem with the number of its file.
type report struct {
	Problem
	order int
}

// merged is what several files make together.
type merged struct {
	cfg     Config
	sources []source
	origins map[string][]origin // by the name of the list of tables
	broken  map[string]bool     // places in cfg that could not be decoded
	reports []report
}

// parse decodes files over the defaults, one after the other, and validates
// the result. Problems are those that are known before.
func parse(files []file, problems []Problem) (Config, error) {
	m, err := join(files, problems)
	if err != nil {
		return Config{}, err
	}
	return m.cfg, nil
}

// join is parse for who wants to know what came from where.
func join(files []file, problems []Problem) (*merged, error) {
	m := &merged{cfg: Default(), origins: map[string][]origin{}, broken: map[string]bool{}}
	for _, p := range problems {
		m.reports = append(m.reports, report{Problem: p})
	}
	for i, f := range files {
		doc, problem := f.open()
		if problem != nil {
			problem.File = f.path
			m.reports = append(m.reports, report{*problem, i})
			continue
		}
		m.add(source{f.path, i, doc})
	}
	// A file that is missing could make clashes that there are not with it.
	if len(problems) == 0 && len(m.sources) == len(files) {
		for _, f := range m.cfg.check() {
			m.judge(f)
		}
	}
	if len(m.reports) == 0 {
		return m, nil
	}
	slices.SortStableFunc(m.reports, func(a, b report) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line))
	})
	all := &Error{}
	for _, r := range m.reports {
		all.Problems = append(all.Problems, r.Problem)
	}
	return nil, all
}

// add decodes one more file.
func (m *merged) add(s source) {
	m.sources = append(m.sources, s)
	before := m.lengths()
	for _, f := range s.doc.decode(&m.cfg) {
		m.reports = append(m.reports, s.problem(f.at, f.message))
		if f.at.index > 0 {
			f.at.index += before[f.at.table]
		}
		m.broken[f.at.String()] = true
	}
	for name, n := range m.lengths() {
		for i := before[name]; i < n; i++ {
			m.origins[name] = append(m.origins[name], origin{s, i - before[name] + 1})
		}
	}
}

// lengths are those of all lists of tables.
func (m *merged) lengths() map[string]int {
	lengths := map[string]int{}
	for _, name := range sectionNames() {
		if list, _ := field(reflect.ValueOf(m.cfg), name); list.Kind() == reflect.Slice {
			lengths[name] = list.Len()
		}
	}
	return lengths
}

// judge reports what is wrong with a value of cfg, unless that, or one with
// which it clashes, could not be decoded: it is not what the file has, and
// reported already.
func (m *merged) judge(f finding) {
	places := append([]place{f.at}, f.with...)
	for _, p := range places {
		whole := p
		whole.keys = p.keys[:min(1, len(p.keys))]
		if m.broken[p.String()] || m.broken[whole.String()] || m.broken[at(p.table).String()] {
			return
		}
	}
	stands, local := m.find(f.at)
	r := report{Problem: Problem{Key: local.String(), Message: f.message}}
	for _, p := range places {
		// A default may clash with a key that a file has: then that is the line.
		if s, in := m.find(p); s.doc != nil && s.doc.has(in) {
			stands, local = s, in
			break
		}
	}
	for _, p := range f.with {
		if s, in := m.find(p); s.doc != nil && s.path != stands.path && s.doc.has(in) {
			r.Message += fmt.Sprintf(" (%s is in %s:%d)", in, s.path, s.doc.lineOf(in))
		}
	}
	if stands.doc != nil {
		r.File, r.Line, r.order = stands.path, stands.doc.lineOf(local), stands.order
	}
	m.reports = append(m.reports, r)
}

// find is the last file that has p, or the table of a list that p is in, and p
// as it is there.
func (m *merged) find(p place) (source, place) {
	if list := m.origins[p.table]; p.index > 0 && p.index <= len(list) {
		o := list[p.index-1]
		p.index = o.index
		return o.source, p
	}
	for _, s := range slices.Backward(m.sources) {
		if s.doc.has(p) {
			return s, p
		}
	}
	return source{}, p
}
