package kubernetes_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestWallAloneKeepsTheLimit has nodes take the lock all at once that do not look at it first and compare no version, which
// kured never does: the API server itself lets in as many as may hold.
func TestWallAloneKeepsTheLimit(t *testing.T) {
	w := theWorld(t)
	const racers, limit = 20, 3
	var nodes []caller
	for i := range racers {
		nodes = append(nodes, w.caller(t, byKubelet, fmt.Sprintf("racer-%d", i)))
	}
	take := func(i int, value string) (answer, error) {
		return nodes[i].send(t.Context(), patchOf(lockPath, fmt.Sprintf("holder.racer-%d", i), value))
	}
	for range 5 {
		w.set(t, free())
		var in atomic.Int32
		var group sync.WaitGroup
		for i := range racers {
			group.Go(func() {
				got, err := take(i, holds("node-f", "max", fmt.Sprint(limit)))
				switch {
				case err != nil:
					t.Error(err)
				case got.code == http.StatusOK:
					in.Add(1)
				case got.code != http.StatusForbidden && got.code != http.StatusConflict:
					t.Errorf("%d %s", got.code, got.message)
				}
			})
		}
		group.Wait()
		entries := w.entries(t)
		if in.Load() != limit || len(entries) != limit {
			t.Fatalf("%d were let in, %d hold, want %d", in.Load(), len(entries), limit)
		}
		for key := range entries {
			var i int
			if _, err := fmt.Sscanf(key, "holder.racer-%d", &i); err != nil {
				t.Fatal(err)
			}
			if got, err := take(i, ""); err != nil || got.refused() {
				t.Fatalf("release: %d %s, %v", got.code, got.message, err)
			}
		}
	}
}
