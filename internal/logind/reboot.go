package logind

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/status"
)

// Reboot asks logind to reboot and waits until it is certain what came of it, for at most confirmWithin and the
// time of one more question. The outcomes:
//
//   - nil: the machine is going down, PrepareForShutdown(true) or the property PreparingForShutdown says so.
//   - [*RefusedError]: logind said no, or there is no logind. Nothing will happen.
//   - [ErrUnconfirmed]: the call was accepted or its reply got lost, but the same logind process says that it
//     prepares no shutdown, or took it back. Nothing will happen.
//   - [ErrUnknown]: after the call was sent, logind could not be asked any more. The machine is probably going down.
//   - any other error, such as ctx having ended before: the call was not sent. Nothing will happen.
//
// Only an answer of logind counts, never the lack of one: with a delay inhibitor the call returns long before the
// machine goes down, and when the machine goes down the reply may not arrive.
func (m Manager) Reboot(ctx context.Context, confirmWithin time.Duration) error {
	return m.RebootBy(ctx, Normal, confirmWithin)
}

// reboot calls a method of logind that reboots.
func (m Manager) reboot(ctx context.Context, confirmWithin time.Duration, method string, argument any) error {
	s, err := m.open(ctx, true)
	if err != nil {
		return notSent(ctx, method, err)
	}
	defer func() { s.close() }()

	deadline := time.NewTimer(confirmWithin)
	defer deadline.Stop()
	call := s.conn.Object(s.owner, objectPath).GoWithContext(ctx, manager+"."+method, 0, make(chan *dbus.Call, 1), argument)

	w := wait{session: s, method: method, reply: call.Done, deadline: deadline.C, patience: min(answerWithin, max(confirmWithin, time.Second))}
	for {
		next, err := w.next(ctx)
		if next == reconnect {
			if s, err = m.reopen(ctx, s); err != nil {
				return err
			}
			w.session, next = s, ask
		}
		if next == ask {
			next, err = w.ask(ctx)
		}
		if next == decided {
			return err
		}
	}
}

// notSent is the error of a Reboot call that could not be made.
func notSent(ctx context.Context, method string, err error) error {
	var no *RefusedError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ask logind to reboot: %w", ctx.Err())
	case errors.As(err, &no):
		return &RefusedError{Method: method, Name: no.Name, Message: no.Message}
	case errors.Is(err, errConnect):
		return &RefusedError{Method: method, Name: nameNoServer, Message: err.Error()}
	default:
		return &RefusedError{Method: method, Name: nameNoReply, Message: err.Error()}
	}
}

// unknown makes an error of what keeps logind from being asked. It hides what kind of error that was, but for the
// end of ctx: a RefusedError in it would say that nothing will happen.
func unknown(ctx context.Context, why error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return fmt.Errorf("%w: %v", ErrUnknown, why)
}

// reopen connects anew, once, after the connection was lost, and makes sure that the answers come from the same
// logind as before. It always returns a session to close.
func (m Manager) reopen(ctx context.Context, lost *session) (*session, error) {
	lost.close()
	if lost.reopened {
		return lost, unknown(ctx, errors.New("the connection to the bus broke twice"))
	}
	s, err := m.open(ctx, false)
	if err != nil {
		return lost, unknown(ctx, fmt.Errorf("the connection to the bus broke, and then: %w", err))
	}
	s.reopened = true
	if s.owner != lost.owner || s.bus != lost.bus {
		return s, unknown(ctx, errors.New("this logind is not the one that was asked to reboot"))
	}
	return s, nil
}

// wait is what Reboot has seen so far.
type wait struct {
	session  *session
	method   string            // what was called
	reply    <-chan *dbus.Call // nil when the reply is there or lost
	deadline <-chan time.Time
	late     bool          // the deadline has passed
	patience time.Duration // for the answer to one question
	up, down bool          // PrepareForShutdown(true) was seen; and (false) after it
}

// step is what to do next.
type step int

const (
	decided   step = iota
	watch          // wait for the next event
	ask            // read the property
	reconnect      // the connection is lost
)

// next waits for an event that leads on.
func (w *wait) next(ctx context.Context) (step, error) {
	for {
		select {
		case <-ctx.Done():
			return decided, unknown(ctx, nil)
		case <-w.deadline:
			w.late = true
			return ask, nil
		case signal, ok := <-w.session.signals:
			if !ok {
				w.reply = nil
				return reconnect, nil
			}
			switch w.see(signal); {
			case w.session.ownerGone(signal) && !w.up:
				return decided, unknown(ctx, errors.New("logind left the bus"))
			case w.up && w.reply == nil:
				return decided, w.announced()
			case w.up && !w.down:
				// The reply can still say that the reboot could not be started, or never come.
				return ask, nil
			}
		case call := <-w.reply:
			return w.replied(ctx, call)
		}
	}
}

// replied judges the reply to Reboot, or what came in its place.
func (w *wait) replied(ctx context.Context, call *dbus.Call) (step, error) {
	w.reply = nil
	w.drain()
	switch judge(call.Err) {
	case refused:
		return decided, &RefusedError{Method: w.method, Name: dbusName(call.Err), Message: status.Clean(call.Err.Error(), maxText)}
	case goingDown:
		return decided, unknown(ctx, fmt.Errorf("systemd is shutting down already: %w", call.Err))
	}
	if w.up {
		return decided, w.announced()
	}
	return ask, nil
}

func (w *wait) see(signal *dbus.Signal) {
	if active, ok := w.session.prepareFor(signal); ok {
		w.down = w.up && !active
		w.up = w.up || active
	}
}

// drain takes the signals that arrived before the reply.
func (w *wait) drain() {
	for {
		select {
		case signal, ok := <-w.session.signals:
			if !ok {
				return
			}
			w.see(signal)
		default:
			return
		}
	}
}

// announced is the result once PrepareForShutdown(true) was seen.
func (w *wait) announced() error {
	if w.down {
		return fmt.Errorf("%w: the reboot was announced and then taken back", ErrUnconfirmed)
	}
	return nil
}

// ask reads PreparingForShutdown. Without a yes before the deadline the wait goes on.
func (w *wait) ask(ctx context.Context) (step, error) {
	bound, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	// To the very process that was asked to reboot: a logind that was started since would know nothing of it. It
	// answers in order, so that it has seen the Reboot call by then.
	yes, err := preparing(bound, w.session.conn, w.session.owner, dbus.FlagNoAutoStart)
	switch {
	case errors.Is(err, errBroken):
		w.session.close() // Now next cannot miss it.
		return watch, nil
	case err != nil:
		return decided, unknown(ctx, err)
	case yes:
		return decided, nil
	case w.late:
		return decided, fmt.Errorf("%w: waited in vain for PrepareForShutdown", ErrUnconfirmed)
	default:
		return watch, nil
	}
}

// AwaitCancelled waits, after Reboot returned nil, for the shutdown to be taken back: nil means that none is under
// way any more. It returns an error that wraps [ErrUnknown] when the bus or logind is gone, and the error of ctx
// when that ends.
//
// systemd stops logind and the bus within the first half second of every shutdown, and refuses to start them while
// it is under way. So after ErrUnknown it is worth calling again from time to time: when somebody has cancelled the
// shutdown (systemctl cancel), this call brings the bus and logind back and returns nil.
func (m Manager) AwaitCancelled(ctx context.Context) error {
	s, err := m.open(ctx, true)
	if err != nil {
		return awaitError(ctx, err)
	}
	defer s.close()
	// Subscribed to first, read then: it cannot be cancelled unseen in between.
	for look := true; ; {
		if look {
			if yes, err := preparing(ctx, s.conn, s.owner, dbus.FlagNoAutoStart); err != nil {
				return awaitError(ctx, err)
			} else if !yes {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case signal, ok := <-s.signals:
			switch {
			case !ok:
				return awaitError(ctx, errors.New("the connection to the bus broke"))
			case s.ownerGone(signal):
				return awaitError(ctx, errors.New("logind left the bus"))
			}
			if active, ok := s.prepareFor(signal); ok && !active {
				return nil
			}
			// Since systemd 257 shutdown -c takes back what waits for delay inhibitors, too, and no PrepareForShutdown
			// tells that (method_cancel_scheduled_shutdown in logind-dbus.c).
			look = s.propertyChanged(signal, "ScheduledShutdown")
		}
	}
}

func awaitError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unknown(ctx, err)
}
