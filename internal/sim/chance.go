package sim

import (
	"sync"
	"time"
)

// grid is how many actors can exist: each one acts only at instants whose
// nanoseconds leave its own remainder, so no two actors share an instant.
const grid = 64

// actor is somebody who acts at instants of his own.
type actor struct {
	seed  uint64
	class int64 // remainder of its instants, 0 ≤ class < grid
	turns *turns
}

// turns counts draws. With it the n-th draw of an actor for a purpose is
// always the same, whenever it is: a story then stays the same where little
// changes. Without it (nil) a draw depends on its instant, and so not on which
// of an actor's goroutines comes first.
type turns struct {
	mu sync.Mutex
	n  map[[2]uint64]uint64
}

func (t *turns) next(class int64, why purpose) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := [2]uint64{uint64(class), uint64(why)}
	t.n[key]++
	return t.n[key]
}

// align returns the shortest duration of at least d after which this actor may act.
func (a actor) align(d time.Duration) time.Duration {
	at := time.Now().UnixNano() + int64(max(d, 0))
	return time.Duration(at + (a.class-at%grid+grid)%grid - time.Now().UnixNano())
}

// purpose tells draws of one actor at one instant apart.
type purpose uint64

const (
	forFate purpose = iota + 1
	forLate
	forHang
	forThere
	forBack
	forWatch
	forWatchEnd
	forCycle
	forLock
	forGates
	forHost
	forDrain
	forBoot
	forKubelet
	forRestart
	forStale
)

// draw is a random number that depends on seed, actor, purpose and instant only,
// and not on which goroutine comes first.
func (a actor) draw(why purpose) uint64 {
	x := mix(a.seed ^ uint64(a.class)*0x9e3779b97f4a7c15)
	x = mix(x ^ uint64(why))
	if a.turns != nil {
		return mix(x ^ a.turns.next(a.class, why))
	}
	return mix(x ^ uint64(time.Now().UnixNano()))
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// roll is true with the probability p.
func (a actor) roll(why purpose, p float64) bool {
	return p > 0 && float64(a.draw(why)>>11)/(1<<53) < p
}

// between is a random duration in [low, high).
func (a actor) between(why purpose, low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(a.draw(why)%uint64(high-low))
}

// jitter is a source for the Jitter fields of lock.Pace and cycle.Runner: it
// keeps the actor on its instants.
func (a actor) jitter(why purpose) func(time.Duration) time.Duration {
	return func(d time.Duration) time.Duration {
		if d <= 0 {
			return 0
		}
		return time.Duration(a.draw(why)%uint64(d)) / grid * grid
	}
}
