package logind

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// AwaitAnnounced keeps up what [Manager.Announce] has announced until its time has come, and returns nil then. When
// logind was restarted, or the clock on the wall was set, it announces the same anew. at and message are those of
// Announce. The other outcomes:
//
//   - [ErrAnnouncementCancelled]: a person cancelled it, or scheduled something else ([*ScheduledError] as well).
//   - [*RefusedError]: it had to be announced anew, and logind said no.
//   - the error of ctx.
//   - any other error: when the time had come, logind could not be asked whether it was cancelled; or it had to be
//     announced anew and that failed.
//
// After nil the announcement stands for about five seconds more: call Reboot, which replaces it, or Withdraw. After an
// error call Withdraw.
func (m Manager) AwaitAnnounced(ctx context.Context, at time.Time, message string) error {
	a := announced{Manager: m, at: at, message: message, shown: shownFor(m.wall(at))}
	for {
		over, err := a.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case over:
			return err
		case a.due():
			return fmt.Errorf("see whether the announced reboot was cancelled: %w", err)
		}
		if err := a.rest(ctx); err != nil {
			return err
		}
	}
}

// announced is an announcement that is kept up.
type announced struct {
	Manager
	at         time.Time
	message    string
	shown      schedule // as announced last
	owner, bus string   // of the logind that was asked last; empty: none yet
	lost       bool     // this logind does not know of it
}

func (a *announced) due() bool { return !time.Now().Before(a.at) }

// ranOut tells whether the clock on the wall has passed the time that was shown: an empty schedule says nothing then.
func (a *announced) ranOut() bool { return a.shown.time().Before(a.wall(time.Now())) }

// off tells whether what is shown is no longer the time at which the reboot is due, because the clock was set.
func (a *announced) off(now schedule) bool {
	return shownFor(a.wall(a.at)).time().Sub(now.time()).Abs() > jump
}

// rest waits before logind is looked for again.
func (a *announced) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(seekEvery, max(0, time.Until(a.at)))):
		return nil
	}
}

// follow watches one logind. It is over when nothing more is to be waited for; otherwise logind, or the bus, was lost.
func (a *announced) follow(ctx context.Context) (over bool, err error) {
	s, err := a.open(ctx, true)
	if err != nil {
		return false, err
	}
	defer s.close()
	a.lost = a.lost || a.owner != "" && (a.owner != s.owner || a.bus != s.bus)
	a.owner, a.bus = s.owner, s.bus
	if a.lost && !a.due() {
		if over, err := a.renew(ctx, s); err != nil {
			return over, err
		}
	}
	for {
		due := a.due() // before the look: whoever cancels until then is heard
		now, err := scheduled(ctx, s.conn, s.owner, dbus.FlagNoAutoStart)
		anew := false
		switch {
		case err != nil:
			return false, err
		case !now.none() && !now.ours():
			return true, fmt.Errorf("%w: %w", ErrAnnouncementCancelled, now.others())
		case now.none() && !a.ranOut() && !a.lost: // A restart is no cancellation; at the last look it stood.
			return true, ErrAnnouncementCancelled
		case due:
			return true, nil
		default:
			anew = now.none() || a.off(now)
		}
		if anew {
			if over, err := a.renew(ctx, s); err != nil {
				return over, err
			}
			continue
		}
		if err := a.next(ctx, s); err != nil {
			return false, err
		}
	}
}

// renew announces anew.
func (a *announced) renew(ctx context.Context, s *session) (over bool, err error) {
	shown, err := a.announce(ctx, s, a.at, a.message)
	var other *ScheduledError
	switch {
	case err == nil:
		a.shown, a.lost = shown, false
		return false, nil
	case errors.As(err, &other):
		return true, fmt.Errorf("%w: %w", ErrAnnouncementCancelled, err)
	}
	a.lost = true
	return refusal(err) || errors.Is(err, errForget), fmt.Errorf("announce the reboot anew: %w", err)
}

// next waits until the schedule is to be looked at again.
func (a *announced) next(ctx context.Context, s *session) error {
	timer := time.NewTimer(min(lookEvery, max(0, time.Until(a.at))))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case signal, ok := <-s.signals:
			switch {
			case !ok:
				return errBroken
			case s.ownerGone(signal):
				return errors.New("logind left the bus")
			case s.propertyChanged(signal, "ScheduledShutdown"): // since systemd 257
				return nil
			}
		}
	}
}
