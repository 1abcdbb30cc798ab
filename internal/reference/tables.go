// Package reference writes what has one source and several readers: the shipped
// kured.toml, the keys in kured.toml(5) and the JSON schema, all from the
// structs of internal/config with their comments and defaults; and the words of
// internal/status in docs/troubleshoot.md. It also reads the pages in docs, so
// that tests can hold them against the code. Nothing of it is in the program.
package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/config"
)

// Table is one table of kured.toml.
type Table struct {
	Name   string
	List   bool     // written [[name]], any number of them
	Text   []string // lines
	Groups []Group
}

// Group is keys that are explained together.
type Group struct {
	Text []string // lines
	Keys []Key
}

// Key is one key of a table.
type Key struct {
	Name    string
	Type    reflect.Type
	Default reflect.Value
	Example string   // TOML, for a key that has to be given; empty: none
	Enum    []string // the only texts it, or an item of its list, may be; nil: any
}

// Header is how the table is written.
func (t Table) Header() string {
	if t.List {
		return "[[" + t.Name + "]]"
	}
	return "[" + t.Name + "]"
}

// enums are the closed sets of values. The tests find one that is missing here.
func enums() map[string][]string {
	return map[string][]string{
		"prometheus.alerts": config.AlertStates(),
		"drain.empty_dir":   config.PodPolicies(),
		"drain.naked_pods":  config.PodPolicies(),
		"drain.order":       config.DrainOrders(),
		"drain.on_timeout":  config.TimeoutPolicies(),
		"drain.preflight":   config.PreflightModes(),
		"reboot.method":     config.RebootMethods(),
		"notify.events":     config.NotifyEvents(),
		"log.level":         config.LogLevels(),
		"log.format":        config.LogFormats(),
	}
}

// Tables are the tables of kured.toml in their order, read from the package
// config in the checkout at root and from the defaults that are compiled in.
func Tables(root string) ([]Table, error) {
	comments, err := fieldComments(filepath.Join(root, "internal/config"))
	if err != nil {
		return nil, err
	}
	var tables []Table
	defaults := reflect.ValueOf(config.Default())
	for i := range defaults.NumField() {
		field, value := defaults.Type().Field(i), defaults.Field(i)
		table := Table{Name: field.Tag.Get("toml"), Text: comments["Config."+field.Name]}
		if table.Text == nil {
			return nil, fmt.Errorf("config.Config.%s has no comment", field.Name)
		}
		if value.Kind() == reflect.Slice {
			table.List, value = true, fresh(field.Type.Elem())
		}
		if err := table.add(value, comments); err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, nil
}

// fresh is what one of a list of tables starts from.
func fresh(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[config.Prometheus]():
		return reflect.ValueOf(config.DefaultPrometheus())
	case reflect.TypeFor[config.Alertmanager]():
		return reflect.ValueOf(config.DefaultAlertmanager())
	}
	return reflect.Zero(t)
}

// add appends the keys of a struct.
func (t *Table) add(structure reflect.Value, comments map[string][]string) error {
	for i := range structure.NumField() {
		field := structure.Type().Field(i)
		if field.Anonymous {
			if err := t.add(structure.Field(i), comments); err != nil {
				return err
			}
			continue
		}
		name := structure.Type().Name() + "." + field.Name
		text, alone := comments[name]
		switch {
		case text != nil:
			t.Groups = append(t.Groups, Group{Text: text})
		case alone || len(t.Groups) == 0:
			return fmt.Errorf("config.%s has no comment", name)
		}
		group := &t.Groups[len(t.Groups)-1]
		key := Key{Name: field.Tag.Get("toml"), Type: field.Type, Default: structure.Field(i), Example: field.Tag.Get("example")}
		key.Enum = enums()[t.Name+"."+key.Name]
		group.Keys = append(group.Keys, key)
	}
	return nil
}

// fieldComments are the lines above each field, by "Struct.Field". A field
// right below another one, without a comment, is not in the map; one that is
// set off from it by an empty line is, with nil.
func fieldComments(dir string) (map[string][]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	comments := map[string][]string{}
	files := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE {
				continue
			}
			for _, spec := range general.Specs {
				named := spec.(*ast.TypeSpec)
				if structure, ok := named.Type.(*ast.StructType); ok {
					ofStruct(files, comments, named.Name.Name, structure)
				}
			}
		}
	}
	return comments, nil
}

func ofStruct(files *token.FileSet, comments map[string][]string, name string, structure *ast.StructType) {
	last := 0
	for _, field := range structure.Fields.List {
		var text []string
		if field.Doc != nil {
			text = strings.Split(strings.TrimSpace(field.Doc.Text()), "\n")
		}
		apart := files.Position(field.Pos()).Line > last+1
		for _, n := range field.Names {
			if text != nil || apart {
				comments[name+"."+n.Name] = text
			}
		}
		last = files.Position(field.End()).Line
	}
}

// TOML is a default as kured.toml has it, on one line.
func TOML(value reflect.Value) string {
	switch v := value.Interface().(type) {
	case config.Duration:
		return strconv.Quote(v.String())
	case intstr.IntOrString:
		if v.Type == intstr.String {
			return strconv.Quote(v.StrVal)
		}
		return strconv.Itoa(int(v.IntVal))
	case string:
		return strconv.Quote(v)
	case []string:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = strconv.Quote(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]string:
		return "{}" // no default has anything in it: the test of the shipped file would tell
	default:
		return fmt.Sprint(v)
	}
}
