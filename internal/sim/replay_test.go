package sim

import (
	"strings"
	"testing"
)

// TestReplay: the same seed gives the same history, to the nanosecond.
func TestReplay(t *testing.T) {
	n := max(*seeds/10, 20)
	each(t, n, func(t *testing.T, seed uint64) {
		one, two := tell(t, Weather(seed)).History(), tell(t, Weather(seed)).History()
		if one == two {
			return
		}
		a, b := strings.Split(one, "\n"), strings.Split(two, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("seed %d: the histories part at line %d:\n%s\n---\n%s", seed, i, strings.Join(a[max(0, i-10):i+1], "\n"), b[i])
				return
			}
		}
		t.Errorf("seed %d: one history goes on where the other ends", seed)
	})
}
