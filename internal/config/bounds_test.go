package config

import (
	"fmt"
	"strings"
	"testing"
)

// However a file of the greatest size looks, it is read in an instant: a bound
// that does not hold shows in the time-out of the tests.
func TestBounds(t *testing.T) {
	fill := func(head, line string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := 0; b.Len() < maxSize-len(line)-10; i++ {
			b.WriteString(strings.ReplaceAll(line, "N", fmt.Sprint(i)))
		}
		return b.String()
	}
	few := func(head, line string) string {
		return head + strings.Join(strings.SplitAfter(fill("", line), "\n")[:maxKeys-5], "")
	}
	for name, c := range map[string]struct{ content, want string }{
		"keys":           {fill("[lock]\n", "aN=1\n"), "f:1: has more than 2000 keys"},
		"tables":         {fill("", "[aN]\n"), "f:1: has more than 2000 keys"},
		"list":           {fill("", "[[window]]\n"), "f:1: has more than 2000 keys"},
		"fewer keys":     {few("[lock]\n", "aN=1\n"), "f:2: lock.a0: unknown"},
		"fewer tables":   {few("", "[aN]\n"), "f:1: a0: unknown"},
		"fewer windows":  {few("", "[[window]]\n"), "f:1: window[1]: start and end are missing"},
		"fewer labels":   {few("[node.labels_before]\n", "aN=1\n"), "f:2: node.labels_before.a0: 1 is a whole number"},
		"implied tables": {few("[[window]]\n[[window]]\n", "aN.b=1\n"), "f:1: window[1]: start and end are missing"},
		"inline tables":  {"window=[" + strings.Repeat("{a=1,b=1,c=1,d=1},\n", 100) + "]", "f:1: window[1].a: unknown"},
		"brackets":       {strings.Repeat("[", maxSize), "f:1: line of more than 4096 bytes"},
		"nested lists":   {"x=" + strings.Repeat("\n[", maxSize/2-2), "f:"},
		"freezes":        {strings.Repeat("[[freeze]]\nfrom=\"2026-01-01\"\nuntil=\"2026-01-01\"\ntime_zone=\"Europe/Berlin\"\n", 400), ""},
	} {
		_, err := parse([]file{{"f", []byte(c.content)}}, nil)
		if got := fmt.Sprint(err); (c.want == "") != (err == nil) || err != nil && !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", name, cut(got, 200))
		}
	}
}
