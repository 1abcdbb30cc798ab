package notify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The errors of one try.
var (
	errStopped  = errors.New("notifications are stopped")
	errNoAnswer = errors.New("no answer in time")
	errHanging  = errors.New("too many earlier sends have no answer yet")
)

// someTold is an error after which another try would tell those who know already.
type someTold struct{ error }

// pace says how patiently a message is delivered.
type pace struct {
	limit time.Duration // of one send
	first time.Duration // pause after the first failure; it doubles up to longest
	// longest bounds a pause. The true pause is between 3/4 and 5/4 of it.
	longest  time.Duration
	tries    int           // at most
	patience time.Duration // age at which a message that failed is given up
	crowded  time.Duration // the same while others wait behind it
	hanging  int           // sends to one target that may be under way, those without an answer in time included
}

// defaultPace: the limit is as long as that of the slowest service of
// shoutrrr that has one, so that most sends end by themselves. A message that
// a target refuses for ever holds up others for two minutes only.
var defaultPace = pace{
	limit:    30 * time.Second,
	first:    2 * time.Second,
	longest:  5 * time.Minute,
	tries:    12,
	patience: 30 * time.Minute,
	crowded:  2 * time.Minute,
	hanging:  3,
}

// result is how a try ended.
type result struct {
	try int
	err error
}

// work delivers what is queued for t, one after the other, and ends when the
// queue is empty.
func (n *Notifier) work(t *target) {
	select {
	case <-t.hurry: // was meant for what is delivered already
	default:
	}
	for {
		n.mu.Lock()
		if n.stopped || len(t.queue) == 0 {
			t.busy = false
			n.mu.Unlock()
			n.logDropped(t)
			return
		}
		m := t.queue[0]
		t.queue = t.queue[1:]
		missed := t.missed
		n.mu.Unlock()

		n.logDropped(t)
		arrived := n.deliver(t, m, missed)

		n.mu.Lock()
		if arrived {
			t.missed -= missed
		} else {
			t.missed++
		}
		if len(t.queue) == 0 {
			t.queue = nil // and its memory
		}
		n.finished()
		n.mu.Unlock()
	}
}

// logDropped tells of messages that gave way to newer ones. Not Tell does it,
// because writing a log can block.
func (n *Notifier) logDropped(t *target) {
	n.mu.Lock()
	dropped := t.dropped
	t.dropped = 0
	n.mu.Unlock()
	if dropped > 0 {
		n.log.Warn("too many notifications at once: the oldest were dropped", "target", t.name, "count", dropped)
	}
}

// deliver tries until m has arrived, and reports whether it has.
func (n *Notifier) deliver(t *target, m item, missed int) bool {
	log := n.log.With("target", t.name, "event", string(m.occurrence.Event))
	text, err := t.texts.Render(m.occurrence, missed)
	if err != nil {
		log.Warn("the template of a notification failed, the default text is sent instead", "err", err)
	}
	if text == "" {
		return true
	}
	results := make(chan result, n.pace.tries) // a late one never blocks
	pause := n.pace.first
	for try := 1; ; try++ {
		err := n.try(t, text, try, results)
		if errors.Is(err, errStopped) {
			return false
		}
		switch {
		case err == nil:
			log.Debug("notification sent")
			return true
		case errors.As(err, new(someTold)):
			log.Warn("notification sent, but not to all", "err", err)
			return true
		}
		left := n.patience(t) - time.Since(m.told)
		if try == n.pace.tries || left <= 0 {
			log.Warn("notification not sent, given up", "tries", try, "err", err)
			return false
		}
		if try == 1 {
			log.Warn("notification not sent, it is tried again", "err", err)
		} else {
			log.Debug("notification not sent, it is tried again", "tries", try, "err", err)
		}
		late, err := n.wait(t, min(left, pause*3/4+rand.N(pause/2+1)), results)
		if err != nil {
			return false
		}
		if late {
			log.Debug("notification sent, the answer came late")
			return true
		}
		pause = min(2*pause, n.pace.longest)
		n.logDropped(t)
	}
}

// patience is the age at which a message is given up.
func (n *Notifier) patience(t *target) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(t.queue) > 0 {
		return n.pace.crowded
	}
	return n.pace.patience
}

// try sends once and waits for the answer, within the limit. An earlier try
// that succeeds meanwhile is as good. shoutrrr knows no context: a send that
// hangs keeps its goroutine, and these are bounded for each target.
func (n *Notifier) try(t *target, text string, number int, results chan result) error {
	n.mu.Lock()
	if t.underWay == n.pace.hanging {
		n.mu.Unlock()
		return fmt.Errorf("%w (%d)", errHanging, n.pace.hanging)
	}
	t.underWay++
	n.mu.Unlock()
	go func() {
		err := n.send(t, text)
		n.mu.Lock()
		t.underWay--
		n.mu.Unlock()
		results <- result{number, err}
	}()
	limit := time.NewTimer(n.pace.limit)
	defer limit.Stop()
	for {
		select {
		case r := <-results:
			if r.err == nil || r.try == number {
				return r.err
			}
		case <-limit.C:
			return fmt.Errorf("%w (%s)", errNoAnswer, n.pace.limit)
		case <-n.done:
			return errStopped
		}
	}
}

// wait pauses for d, or until Flush or a newer message is in a hurry. It reports whether a try
// that was given up has succeeded after all.
func (n *Notifier) wait(t *target, d time.Duration, results chan result) (late bool, err error) {
	pause := time.NewTimer(d)
	defer pause.Stop()
	for {
		select {
		case r := <-results:
			if r.err == nil {
				return true, nil
			}
		case <-pause.C:
			return false, nil
		case <-t.hurry:
			return false, nil
		case <-n.done:
			return false, errStopped
		}
	}
}
