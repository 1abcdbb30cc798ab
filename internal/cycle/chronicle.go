package cycle

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// chronicle is what others are yet to be told of our phases and reasons: by an
// announcement on our Node of how it stands, and by an Event of each change. It
// is written beside the step that runs, a moment after a change, so that nothing
// waits for it and what passes at once costs little; and at once before the
// connection is left. No connection is made for it, and nothing stops where it
// fails.
type chronicle struct {
	mu       sync.Mutex
	last     chapter         // taken down last, or told by others; zero: nothing is known yet
	tale     []status.Status // of which no Event was written yet, oldest first
	now      status.Status   // to be announced; without a phase: nothing
	text     string          // of the announcement on our Node, as far as we know
	rebooted time.Time       // when this process has verified a reboot
	failed   bool            // and that was told
	stop     func()          // ends the writer and returns when it has ended; nil: there is none
}

// chapter is what makes a status worth telling.
type chapter struct {
	phase  status.Phase
	reason status.Reason
}

const (
	chronicleDelay   = time.Second            // from a change to its being written
	chronicleGrace   = 250 * time.Millisecond // for a write that is under way
	chronicleTimeout = 10 * time.Second       // of all that is written at a time
	chronicleLength  = 16                     // Events that are kept until they can be written
)

// learn takes note of what is announced on our Node. Another process of kured's,
// or one before this, may have written it: what that told is not told again.
func (c *chronicle) learn(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == (chapter{}) || text != c.text {
		c.last = chapter{phase: status.Idle}
		if a, err := node.ParseAnnouncement(text); err == nil {
			c.last = chapter{a.Phase, a.Reason}
		}
	}
	c.text = text
}

// outdated reports whether our Node still says that we want something. A
// chronicle that could not be written is not tried again for it.
func (c *chronicle) outdated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := node.ParseAnnouncement(c.text)
	return err == nil && a.Phase != status.Idle && !c.failed
}

// takeDown adds what was just published, if it is news.
func (r *Runner) takeDown() {
	if r.cluster == nil || r.cluster.Chronicle == nil {
		return
	}
	c, s := &r.chronicle, r.account()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := chapter{s.Phase, s.Reason}
	switch {
	case c.last == chapter{}, now == c.last:
	case now.phase == status.Starting, now.reason == "" && (now.phase == status.Queued || now.phase == status.Returning):
		// a moment between two that tell more
	case now.reason == status.AwaitingReturn && !r.nagged:
		// kured-uncordon.service tells
	case now.phase == status.Idle && (r.Mode == Abandon || r.Mode == Run && c.last.phase == status.Returning):
		c.last = now // and the end of it, too
	default:
		c.last, c.now = now, s
		c.tale = append(c.tale, s)
		c.tale = c.tale[max(0, len(c.tale)-chronicleLength):]
	}
	if len(c.tale) > 0 && c.stop == nil {
		c.stop = c.writeSoon(r.cluster.Chronicle, r.log())
	}
}

// account is the status as others are told it.
func (r *Runner) account() status.Status {
	s := r.now
	if s.Phase == status.Idle && r.Mode == Return && r.seen.Verified {
		s.Detail = "back in service: the reboot is verified"
	}
	return s
}

// writeSoon starts the writer, which ends when all is written. A write that is
// under way when it is stopped has a moment to come to its end.
func (c *chronicle) writeSoon(to Chronicle, log *slog.Logger) (stop func()) {
	waiting, halt := context.WithCancel(context.Background())
	writing, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		for sleep(waiting, chronicleDelay) == nil {
			if c.write(writing, waiting.Done(), to, log); c.finished() {
				return
			}
		}
	}()
	return func() {
		halt()
		grace := time.AfterFunc(chronicleGrace, cancel)
		<-done
		grace.Stop()
	}
}

// finished reports whether the writer may end, and then there is none.
func (c *chronicle) finished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tale) > 0 {
		return false
	}
	c.stop = nil
	return true
}

// halt ends the writer. What it has not written is kept.
func (c *chronicle) halt() {
	c.mu.Lock()
	stop := c.stop
	c.stop = nil
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// bringOut writes at once what cannot be written later: the machine goes down,
// or this process ends. Before any other action it sees to it that no write
// meets one of the action's own; see lastWord for those that leave the
// connection.
func (r *Runner) bringOut(ctx context.Context, act Action) {
	c := &r.chronicle
	c.halt()
	if act.Do == Learn || r.cluster == nil || r.cluster.Chronicle == nil || r.Mode == Return && r.seen.Entry == ThisBootEntry {
		return
	}
	s, last := r.account(), false
	switch act.Do {
	case Reboot:
		last = true
	case Finish:
		if last = r.Mode == Abandon; last {
			s = status.Status{} // who is not there announces nothing
		}
		if r.Mode == Return && r.seen.Verified {
			c.rebooted, last = time.Now(), true
		}
	}
	if !last {
		r.takeDown()
		return
	}
	_ = r.writeNow(ctx, s, watching{}) // nothing ends it but ctx, which ends all
}

// lastWord writes what there is before the connection is left. The demand, which
// may change just then, does not wait for it: then it returns errChanged, and
// what is missing is written later.
func (r *Runner) lastWord(ctx context.Context) error {
	if r.cluster == nil || r.cluster.Chronicle == nil {
		return nil
	}
	r.chronicle.halt()
	err := r.writeNow(ctx, r.account(), watching{demand: true})
	if err == nil && !r.Demand.State().Equal(r.demanded) {
		return errChanged // in the moment in which all was written: the signal may have been taken
	}
	return err
}

// writeNow writes what there is and that s holds now, also where that is no
// news: an announcement may be of an earlier boot.
func (r *Runner) writeNow(ctx context.Context, s status.Status, w watching) error {
	c := &r.chronicle
	c.mu.Lock()
	c.now = s
	c.mu.Unlock()
	to, log := r.cluster.Chronicle, r.log()
	return r.during(ctx, func(ctx context.Context) error {
		limited, cancel := context.WithTimeout(ctx, chronicleTimeout)
		defer cancel()
		c.write(limited, nil, to, log)
		return ctx.Err()
	}, w)
}

// write writes all that there is, or begins nothing more once enough is closed.
// What is refused is not tried again: the next change makes the announcement right.
func (c *chronicle) write(ctx context.Context, enough <-chan struct{}, to Chronicle, log *slog.Logger) {
	c.mu.Lock()
	tale, now, text, rebooted := c.tale, c.now, c.text, c.rebooted
	c.tale = nil
	c.mu.Unlock()
	text, err := to.Announce(ctx, now, rebooted, text)
	for len(tale) > 0 && ctx.Err() == nil && !over(enough) {
		failed := to.Record(ctx, tale[0])
		if ctx.Err() != nil {
			break
		}
		err = errors.Join(err, failed)
		tale = tale[1:]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = text
	c.tale = append(tale, c.tale...)
	switch {
	case err == nil:
		c.failed = false
	case !c.failed && ctx.Err() == nil:
		c.failed = true
		log.Warn("others do not see how far this node is: "+err.Error(), "phase", now.Phase)
	}
}

func over(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
