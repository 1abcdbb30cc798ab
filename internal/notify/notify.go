// Package notify tells people what happens to the node, by shoutrrr
// (https://shoutrrr.nickfedor.com): Slack, Teams, mail, webhooks and whatever
// else it has an URL for.
//
// Telling must not disturb what is told about: [Notifier.Tell] never blocks,
// each target has a bounded queue and a goroutine of its own while there is
// something in it, and no error leaves this package but in the log. Nothing
// runs, waits or stays connected while there is nothing to send. Delivery is
// at least once, and what is still queued when the process ends is lost.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/notify/message"
	"github.com/kured-host/kured/internal/status"
)

// queueLength bounds what waits for one target. A node has about four events
// in a cycle; more than this is a fault or an outage.
const queueLength = 20

// Target is one place that is told. Exactly one of URL and URLFile is given.
type Target struct {
	URL string // as shoutrrr has them; a plain Slack webhook is understood too
	// URLFile is the absolute path of a file with the URL. It is read at each
	// send, so that a secret can be rotated.
	URLFile string
	Events  []status.Event // that are told; none: all
	// Templates are text/template texts over status.Occurrence, see package
	// message. An event that has none gets the default. One that renders to
	// nothing but white space sends nothing.
	Templates map[status.Event]string
}

// Notifier sends to several targets, none of which holds up another.
type Notifier struct {
	targets []*target
	log     *slog.Logger
	open    func(address string) (sender, error)
	pace    pace
	done    chan struct{} // closed by Stop
	workers sync.WaitGroup

	mu      sync.Mutex // for what follows and for the queues
	pending int        // messages that are queued or under way
	empty   chan struct{}
	stopped bool
}

// target is a Target, ready to be used, and what is on its way to it.
type target struct {
	name  string // for the log, without secrets
	url   string // "": from file
	file  string
	wants []status.Event
	texts message.Texts
	hurry chan struct{} // a token in it ends the pause before the next try

	queue    []item // guarded by Notifier.mu, as what follows
	busy     bool   // a worker runs
	underWay int    // sends that have not ended, those given up included
	dropped  int    // messages of a flood, until they are logged
	missed   int    // messages that did not arrive, until one that says so does
}

// item is an occurrence on its way.
type item struct {
	occurrence status.Occurrence
	told       time.Time // for its age
}

// New checks the targets, all of them, and returns every problem at once. No
// error shows a secret. Nothing is sent, connected or read from a URLFile yet.
func New(targets []Target, log *slog.Logger) (*Notifier, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{log: log, pace: defaultPace, done: make(chan struct{})}
	n.open = func(address string) (sender, error) { return connect(address, log) }
	var problems []error
	for i, given := range targets {
		t, err := newTarget(i+1, given)
		if err != nil {
			problems = append(problems, fmt.Errorf("notify, target %d: %w", i+1, err))
			continue
		}
		n.targets = append(n.targets, t)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return n, nil
}

func newTarget(number int, given Target) (*target, error) {
	t := &target{file: given.URLFile, wants: given.Events, hurry: make(chan struct{}, 1)}
	var problems []error
	switch {
	case (given.URL == "") == (given.URLFile == ""):
		problems = append(problems, errors.New("either a URL or a file with it has to be given"))
	case given.URLFile != "":
		if !filepath.IsAbs(given.URLFile) {
			problems = append(problems, fmt.Errorf("file with the URL %q: not an absolute path", given.URLFile))
		}
		t.name = fmt.Sprintf("%d (%s)", number, given.URLFile)
	default:
		address, err := checked(given.URL)
		if err != nil {
			problems = append(problems, err)
			break
		}
		t.url = address
		t.name = fmt.Sprintf("%d (%s)", number, service(address))
	}
	for _, e := range given.Events {
		if !slices.Contains(status.Events(), e) {
			problems = append(problems, message.UnknownEvent(e))
		}
	}
	var err error
	if t.texts, err = message.New(given.Templates); err != nil {
		problems = append(problems, err)
	}
	return t, errors.Join(problems...)
}

// Tell queues o for the targets that want it, and returns at once. When a
// queue is full its oldest message gives way; that is logged, and the next
// message that arrives says so where its text is a default one.
func (n *Notifier) Tell(o status.Occurrence) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	for _, t := range n.targets {
		if len(t.wants) > 0 && !slices.Contains(t.wants, o.Event) {
			continue
		}
		if len(t.queue) == queueLength {
			t.queue = slices.Delete(t.queue, 0, 1)
			t.dropped++
			t.missed++
			n.finished()
		}
		t.queue = append(t.queue, item{occurrence: o, told: time.Now()})
		if t.busy && len(t.queue) == 1 {
			t.hasten() // there is less patience with the one before it now
		}
		if n.pending == 0 {
			n.empty = make(chan struct{})
		}
		n.pending++
		if !t.busy {
			t.busy = true
			n.workers.Go(func() { n.work(t) })
		}
	}
}

// finished takes a message off the count. The caller holds mu.
func (n *Notifier) finished() {
	n.pending--
	if n.pending == 0 {
		close(n.empty)
		n.empty = nil
	}
}

// hasten ends the pause before the next try.
func (t *target) hasten() {
	select {
	case t.hurry <- struct{}{}:
	default: // it is told already
	}
}

// Flush waits until nothing is queued or under way any more, or ctx ends; then
// its error says how much is left. Targets that pause after a failure are
// tried again at once. A message that was given up is not an error here.
func (n *Notifier) Flush(ctx context.Context) error {
	n.mu.Lock()
	empty := n.empty
	for _, t := range n.targets {
		if t.busy {
			t.hasten()
		}
	}
	n.mu.Unlock()
	if empty == nil {
		return nil
	}
	var err error
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-n.done:
		err = errStopped
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Errorf("send notifications: %d not sent yet: %w", n.pending, err)
}

// Stop ends all work without waiting for answers; what is queued is lost, and
// Tell does nothing any more. Sends that hang in shoutrrr are left to
// themselves, because it gives no means to end them.
func (n *Notifier) Stop() {
	n.mu.Lock()
	if !n.stopped {
		n.stopped = true
		close(n.done)
	}
	n.mu.Unlock()
	n.workers.Wait()
}
