package locktest_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
)

// journal is a lock object whose watch tells every version, and which can be
// broken in ways that a race has to find.
type journal struct {
	blind bool // writes to whatever version: no compare-and-swap
	mute  int  // this version is not told to those who watch
	busy  int  // writes that are refused first, as if something were wrong

	mu       sync.Mutex
	versions []map[string]string
	parsed   []lock.Snapshot // of the first versions
	more     chan struct{}
}

func (j *journal) snapshot(i int) lock.Snapshot {
	for n := len(j.parsed); n <= i; n++ {
		j.parsed = append(j.parsed, lock.Snapshot{State: lock.Parse(j.versions[n]), Revision: strconv.Itoa(n)})
	}
	return j.parsed[i]
}

func (j *journal) Read(context.Context) (lock.Snapshot, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.snapshot(len(j.versions) - 1), nil
}

func (j *journal) Write(_ context.Context, revision string, e lock.Edit) (lock.Snapshot, error) {
	time.Sleep(time.Millisecond)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.busy > 0 {
		j.busy--
		return lock.Snapshot{}, fmt.Errorf("the lock is full")
	}
	if revision != strconv.Itoa(len(j.versions)-1) && !j.blind {
		return lock.Snapshot{}, lock.ErrConflict
	}
	j.versions = append(j.versions, e.Apply(j.versions[len(j.versions)-1]))
	close(j.more)
	j.more = make(chan struct{})
	return j.snapshot(len(j.versions) - 1), nil
}

func (j *journal) Watch(ctx context.Context, revision string) (<-chan lock.Snapshot, error) {
	from, err := strconv.Atoi(revision)
	if err != nil {
		return nil, err
	}
	versions := make(chan lock.Snapshot)
	go func() {
		defer close(versions)
		for next := from + 1; ; {
			j.mu.Lock()
			more := j.more
			var fresh []lock.Snapshot
			for ; next < len(j.versions); next++ {
				if next != j.mute {
					fresh = append(fresh, j.snapshot(next))
				}
			}
			j.mu.Unlock()
			for _, s := range fresh {
				select {
				case versions <- s:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}()
	return versions, nil
}

func raceOn(t *testing.T, j *journal, race locktest.Race) locktest.Result {
	t.Helper()
	j.versions, j.more = []map[string]string{{}}, make(chan struct{})
	race.Witness = j
	pace := lock.DefaultPace()
	pace.Opening = 0 // really all at once
	for i := range 20 {
		race.Locks = append(race.Locks, &lock.Lock{
			Store: j, Pace: pace, Node: fmt.Sprintf("node-%02d", i), UID: "uid",
			Boot: "11111111111111111111111111111111", Max: intstr.FromInt32(2), Room: 8,
		})
	}
	got, err := race.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := raceOn(t, &journal{}, locktest.Race{Hold: time.Minute})
		if got.Most != 2 || got.Inside != 2 || len(got.Missed) != 0 || len(got.Turns) != 20 || len(got.Trouble) != 0 || got.Writes-got.Conflicts != got.Versions {
			t.Errorf("a sound race: %+v", got)
		}
		if n := len(got.HandOffs); n < 10 || n > 18 || len(got.Idle) != 18 {
			t.Errorf("%d of %d hand-offs had somebody in the room", n, len(got.Idle))
		}
		for node, turns := range got.Turns {
			if turns != 1 {
				t.Errorf("%s had %d turns", node, turns)
			}
		}
	})
}

// Where turns are shorter than the time until the next one comes, nobody meets; a crowd does.
func TestRaceCrowd(t *testing.T) {
	for crowd, most := range map[int]int{0: 1, 2: 2} {
		synctest.Test(t, func(t *testing.T) {
			if got := raceOn(t, &journal{}, locktest.Race{Crowd: crowd}); got.Most != most || got.Inside != most || len(got.Turns) != 20 {
				t.Errorf("crowd %d: %+v", crowd, got)
			}
		})
	}
}

func TestRaceAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := raceOn(t, &journal{}, locktest.Race{Hold: time.Minute, Again: 50, Rest: time.Minute})
		turns := 0
		for _, n := range got.Turns {
			turns += n
		}
		if turns < 50 || turns > 52 || len(got.Idle) < 45 || got.Took < 20*time.Minute {
			t.Errorf("%d turns: %+v", turns, got)
		}
	})
}

// A witness that could not find anything would be no witness.
func TestRaceFinds(t *testing.T) {
	for name, c := range map[string]struct {
		broken *journal
		found  func(locktest.Result) bool
	}{
		"no compare-and-swap": {&journal{blind: true}, func(r locktest.Result) bool { return r.Most > 2 && r.Inside > 2 }},
		"a version lost":      {&journal{mute: 7}, func(r locktest.Result) bool { return len(r.Missed) == 1 && strings.HasSuffix(r.Missed[0], ": 7") }},
		"a write refused":     {&journal{busy: 1}, func(r locktest.Result) bool { return len(r.Trouble) == 2 }}, // the write, and the report of it
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := raceOn(t, c.broken, locktest.Race{Hold: time.Second}); !c.found(got) {
					t.Errorf("not found: %+v", got)
				}
			})
		})
	}
}
