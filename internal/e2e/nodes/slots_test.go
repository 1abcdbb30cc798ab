package nodes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSlots(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	var frees []func()
	for range 2 {
		free, err := awaitSlot(t.Context(), &out, dir, 2)
		if err != nil {
			t.Fatal(err)
		}
		frees = append(frees, free)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := awaitSlot(ctx, &out, dir, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third run: %v, want it to wait", err)
	}
	if got := out.String(); strings.Count(got, "waiting for one of 2 other runs") != 1 {
		t.Errorf("told %q, want that it waits, once", got)
	}
	frees[0]()
	if _, err := awaitSlot(t.Context(), &out, dir, 2); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	frees[1]()
}
