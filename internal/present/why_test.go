package present

import (
	"strings"
	"testing"

	"github.com/kured-host/kured/internal/explain"
	"github.com/kured-host/kured/internal/status"
)

func TestWhySaysThatGatesWereNotAsked(t *testing.T) {
	var b strings.Builder
	if err := Why(&b, Text, Answer{Phase: status.Idle, Points: []explain.Point{{Kind: explain.Now, Text: "node-a is idle"}}, GatesError: "no permission"}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "node-a is idle\n\nThe gates could not be asked now: no permission\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, "place 4 of 9 behind node-a"},
		{19, "place 4 of 9 behind node-a"},
		{20, "place 4 of 9 behind\nnode-a"},
		{26, "place 4 of 9 behind node-a"},
	} {
		if got := fold("place 4 of 9 behind node-a", c.width); got != c.want {
			t.Errorf("%d: %q", c.width, got)
		}
	}
	if got, want := fold(`Look at "kured lock release node-a --reason WHY" and "that 5" and so on`, 44), "Look at\n\"kured lock release node-a --reason WHY\" and\n\"that 5\" and so on"; got != want {
		t.Errorf("a command: %q", got)
	}
	if got := fold(`says "it is too long for one line here`, 20); got != "says \"it is too long\nfor one line here" {
		t.Errorf("a quote that is not closed: %q", got)
	}
	if got := fold("x "+strings.Repeat("ü", 30)+" y", 20); got != "x\n"+strings.Repeat("ü", 30)+"\ny" {
		t.Errorf("a long word: %q", got)
	}
}
