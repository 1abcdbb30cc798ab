package sim

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

var (
	seeds = flag.Int("seeds", 150, "histories to simulate")
	first = flag.Uint64("seed", 1, "the first one")
)

// tell runs one history in a bubble of its own.
func tell(t *testing.T, s Setup) (w *World) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { w = Run(s) })
	return w
}

// each calls do for n seeds, as many at a time as there are processors, until one fails.
func each(t *testing.T, n int, do func(t *testing.T, seed uint64)) {
	var next atomic.Uint64
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for !t.Failed() {
				i := next.Add(1) - 1
				if i >= uint64(n) {
					return
				}
				do(t, *first+i)
			}
		})
	}
}

// TestLaws lets chance do its worst, and checks every law at every event.
func TestLaws(t *testing.T) {
	var mu sync.Mutex
	var sum Counts
	done := 0
	t.Run("seeds", func(t *testing.T) {
		each(t, *seeds, func(t *testing.T, seed uint64) {
			w := tell(t, Weather(seed))
			if len(w.Broken()) > 0 {
				fail(t, seed, w)
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			sum.add(w.Counts())
		})
	})
	t.Logf("%d histories: %+v", done, sum)
	if !t.Failed() && done >= 1000 {
		sum.worthIt(t)
	}
}

// fail tells the whole history of a seed: it is told once more, with the journal.
func fail(t *testing.T, seed uint64, w *World) {
	t.Helper()
	s := Weather(seed)
	s.Journal = true
	again := tell(t, s)
	history := again.History()
	if len(again.Broken()) == 0 {
		history = "(the second time nothing was broken, this is the first one)\n" + w.History()
	}
	t.Errorf("seed %d broke\n\t%s\nreplay it with: make sim SEEDS=1 SEED=%d\n%s", seed, strings.Join(w.Broken(), "\n\t"), seed, history)
}

// worthIt fails when something that the histories are to contain has never happened.
func (c Counts) worthIt(t *testing.T) {
	t.Helper()
	for what, n := range map[string]int{
		"conflict": c.Conflicts, "crash": c.Crashes, "power cut": c.PowerCuts, "reboot": c.Reboots, "burial": c.Burials,
		"lost request": c.Lost, "lost answer": c.LostReplies, "late request": c.Late,
	} {
		if n == 0 {
			t.Errorf("in all histories there was not one %s", what)
		}
	}
}
