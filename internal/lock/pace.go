package lock

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pace is how long things of the queue take; all durations are positive.
type Pace struct {
	Spread     time.Duration // a lost write: wait a random part of this first
	Hesitate   time.Duration // a place in the room that many see at once: wait a random part of this and look again first
	Opening    time.Duration // an instant that many share: wait a random part of this first
	Stagger    time.Duration // a waiter that leaves a free slot this long is overtaken
	Outside    time.Duration // about how often a node outside the waiting room looks, at first
	OutsideMax time.Duration // and how seldom, when the queue moves slowly
	Evidence   time.Duration // about how often the first in the queue checks the holders' Nodes
	Recheck    time.Duration // how soon the first in the queue looks again whether nodes that were down are back; doubles up to Evidence
	Retry      time.Duration // the longest pause between tries while the API server does not answer
	Call       time.Duration // the longest one request may take

	// Jitter returns a random part of d, 0 or more and less than d; nil: math/rand/v2.
	Jitter func(d time.Duration) time.Duration
}

// DefaultPace is what a cluster uses.
func DefaultPace() Pace {
	return Pace{
		Spread:     200 * time.Millisecond,
		Hesitate:   2 * time.Second,
		Opening:    10 * time.Second,
		Stagger:    5 * time.Second,
		Outside:    time.Minute,
		OutsideMax: 10 * time.Minute,
		Evidence:   time.Minute,
		Recheck:    time.Second,
		Retry:      30 * time.Second,
		Call:       15 * time.Second,
	}
}

// part is a random part of d.
func (p Pace) part(d time.Duration) time.Duration {
	switch {
	case d <= 0:
		return 0
	case p.Jitter != nil:
		return p.Jitter(d)
	}
	return rand.N(d)
}

// about is d, give or take a quarter.
func (p Pace) about(d time.Duration) time.Duration { return d*3/4 + p.part(d/2) }

// backoff is the pause after so many failures in a row: doubling from half a
// second to Retry, of which a random half is taken off, because an outage is
// an instant that all share.
func (p Pace) backoff(failures int) time.Duration {
	d := min(p.Retry, 500*time.Millisecond<<min(failures-1, 10))
	return d - p.part(d/2)
}

// maxDoublings bounds how far the pause after a lost write grows.
const maxDoublings = 5

// crowded is the most that is waited after a lost write by one of many.
func (p Pace) crowded(lost int) time.Duration { return p.Spread << min(lost, maxDoublings) }

// brief is the same for who has nobody to make way for: the first in the room,
// and those who hold.
func (p Pace) brief(lost int) time.Duration { return p.crowded(lost) / 10 }

// outside is how long a node outside the waiting room waits until it looks
// again, from how long it waited last (0: it has not yet) and how many of the
// room's places have changed hands meanwhile. It aims at a quarter: less often
// would risk that the room runs empty, more often only loads the API server.
func (p Pace) outside(last time.Duration, left, room int) time.Duration {
	switch {
	case last == 0:
		return p.Outside
	case left*8 <= room:
		return min(p.OutsideMax, last*2)
	case left*2 >= room:
		return max(p.Outside, last/2)
	}
	return last
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
