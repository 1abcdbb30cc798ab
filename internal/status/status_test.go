package status

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// The lists must name every constant: metrics and documentation are made from them.
func TestListsAreComplete(t *testing.T) {
	listed := map[string]map[string]bool{"Phase": {}, "Reason": {}, "Gate": {}, "Event": {}}
	for _, p := range Phases() {
		listed["Phase"][string(p)] = true
	}
	for _, r := range Reasons() {
		listed["Reason"][string(r)] = true
	}
	for _, g := range Gates() {
		listed["Gate"][string(g)] = true
	}
	for _, e := range Events() {
		listed["Event"][string(e)] = true
	}
	declared := map[string]int{}
	look := func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		kind, ok := spec.Type.(*ast.Ident)
		if !ok || listed[kind.Name] == nil {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		declared[kind.Name]++
		if !listed[kind.Name][value] {
			t.Errorf("%s %q is declared and not listed", kind.Name, value)
		}
		return true
	}
	for _, name := range []string{"status.go", "gate.go", "event.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, look)
	}
	for kind, set := range listed {
		if declared[kind] != len(set) {
			t.Errorf("%s: %d declared, %d listed", kind, declared[kind], len(set))
		}
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		s    Status
		want string
	}{
		{Status{Phase: Idle}, "idle"},
		{Status{Phase: Blocked, Reason: Inhibited}, "blocked: inhibited"},
		{Status{Phase: Queued, Reason: LockFull, Detail: "place 2 of 3 behind node-a"}, "queued: place 2 of 3 behind node-a"},
	} {
		if got := c.s.Line(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if !Draining.Known() || Phase("dancing").Known() {
		t.Error("Known does not follow the closed set")
	}
}
