package nodes

import (
	"io"
	"strings"
	"testing"
)

// What a part writes is shown once it may be, all of it and in its order.
func TestOutputIsKept(t *testing.T) {
	var o output
	var shown strings.Builder
	for i, text := range []string{"one ", "two ", "three ", "four"} {
		if i == 2 {
			if shown.Len() > 0 {
				t.Errorf("shown too early: %q", shown.String())
			}
			o.show(&shown)
		}
		if n, err := io.WriteString(&o, text); n != len(text) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	if got := shown.String(); got != "one two three four" {
		t.Errorf("got %q", got)
	}
}
