package logind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/status"
)

// An announced reboot is a dry run in logind's own schedule (ScheduleShutdown "dry-reboot", org.freedesktop.login1(5)):
// logind writes to all terminals, more often as the time comes near; `shutdown --show` shows it and `shutdown -c`
// cancels it; from five minutes before /run/nologin keeps people from logging in; and when its time is over nothing
// happens. So it is whoever announced that reboots, by a call of its own.
//
// One thing makes it dangerous. Since systemd 251 logind writes its schedule to a file and reads that when it is
// started anew, and the file does not tell a dry run from a real one (update_schedule_file and
// manager_load_scheduled_shutdown in logind-dbus.c): after a restart of logind the machine would reboot all by itself.
// So Announce removes the file, and logind forgets an announcement with its restart, as it did before 251.

// ErrAnnouncementCancelled means that a person cancelled the announced reboot (`shutdown -c`), or scheduled something
// else in its place: then the error is a [*ScheduledError] too.
var ErrAnnouncementCancelled = errors.New("the announced reboot was cancelled")

const (
	// leeway is how much later than the reboot itself the schedule shows it. As long as it has not passed, an empty
	// schedule means that it was cancelled and not that its time has come. It also covers what is done between the
	// announced time and the call that reboots.
	leeway = 5 * time.Second
	// mark is the part of a second, in microseconds, by which a schedule is recognised as one of kured, by a kured
	// that was started since as well. logind keeps nothing else that could tell whose it is.
	mark = 271_828
	// lookEvery is how often the schedule is looked at: only since systemd 257 logind tells when it changes.
	lookEvery = time.Second
	// seekEvery is how often a logind that was lost is looked for.
	seekEvery = lookEvery / 5
	// jump is how far the time shown may be from the right one before it is told anew.
	jump = 2 * time.Second
	// cleanUpWithin bounds what is done after ctx has ended.
	cleanUpWithin = 5 * time.Second
)

// CanAnnounce tells, without asking logind, why an announcement would fail here: the sandbox has to let this process
// remove the file in which logind writes down its schedule.
func (m Manager) CanAnnounce() error {
	if m.ScheduleFile == "" {
		return fmt.Errorf("%w: no file given", errForget)
	}
	const write = 2 // W_OK of access(2)
	dir := filepath.Dir(m.ScheduleFile)
	if err := syscall.Access(dir, write); err != nil {
		return fmt.Errorf("%w: files in %s have to be removed: %w", errForget, dir, err)
	}
	return nil
}

// Announce tells everybody who is logged in, now and again, that the machine reboots at a time, and why. It reboots
// nothing, now or then. A [*ScheduledError] means that somebody else has scheduled a shutdown; a [*RefusedError] that
// logind said no, since systemd 257 also because of a block inhibitor. After any error nothing is announced, unless
// the error says that it could not be withdrawn. An earlier announcement, also of another process, is replaced.
//
// The schedule shows a time up to six seconds later than at. The clock on the wall may be set in between, so a time
// with a monotonic reading is best (time.Now().Add).
func (m Manager) Announce(ctx context.Context, at time.Time, message string) error {
	if m.ScheduleFile == "" {
		return m.CanAnnounce()
	}
	s, err := m.open(ctx, true)
	if err != nil {
		return fmt.Errorf("announce the reboot: %w", err)
	}
	defer s.close()
	_, err = m.announce(ctx, s, at, message)
	return err
}

// announce returns what it has scheduled.
func (m Manager) announce(ctx context.Context, s *session, at time.Time, message string) (schedule, error) {
	if err := m.unscheduled(ctx, s.conn, s.owner); err != nil {
		return schedule{}, err
	}
	if err := setWallMessage(ctx, s.conn, s.owner, message); err != nil {
		return schedule{}, err
	}
	const method = "ScheduleShutdown"
	shown := shownFor(m.wall(at))
	_, err := call(ctx, s.conn, s.owner, manager+"."+method, dbus.FlagNoAutoStart, "dry-reboot", shown.usec)
	if err == nil {
		if err = m.forget(shown); err == nil {
			return shown, nil
		}
	} else if err = queryError(method, err); refusal(err) {
		return schedule{}, err
	}
	// It may have been scheduled, or it is and a restart of logind would make it real.
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	_ = m.forget(shown) // There is nothing to forget when it was not scheduled.
	if failed := m.Withdraw(bound); failed != nil {
		err = fmt.Errorf("%w; and it could not be withdrawn: %w", err, failed)
	}
	return schedule{}, err
}

// errForget marks that a restart of logind would make an announced reboot a real one.
var errForget = errors.New("keep the announced reboot from happening by itself when logind is restarted")

// forget removes the file from which a new logind would learn of what is scheduled. See at the top of this file.
func (m Manager) forget(shown schedule) error {
	text, err := os.ReadFile(m.ScheduleFile)
	if err == nil && !slices.Contains(strings.Split(string(text), "\n"), "USEC="+strconv.FormatUint(shown.usec, 10)) {
		err = fmt.Errorf("%s tells of another shutdown", m.ScheduleFile)
	}
	if err == nil {
		err = os.Remove(m.ScheduleFile)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errForget, err)
	}
	return nil
}

// wall is what the clock on the wall will show at a time. They differ when the clock was set meanwhile.
func (m Manager) wall(at time.Time) time.Time {
	now := time.Now
	if m.now != nil {
		now = m.now
	}
	return now().Add(time.Until(at))
}

// Tell sets what logind tells those who are logged in when the machine goes down without an announcement: since
// systemd 251 it writes that to all terminals, before only to the journal.
func (m Manager) Tell(ctx context.Context, message string) error {
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return setWallMessage(ctx, conn, service, message)
}

// Withdraw takes back an announcement, and tells so to those who are logged in. What somebody else has scheduled stays.
// It can be called at any time: by a kured that has been started anew, too.
func (m Manager) Withdraw(ctx context.Context) error {
	conn, err := m.dial(ctx)
	if err != nil {
		return fmt.Errorf("withdraw the announced reboot: %w", err)
	}
	defer conn.Close()
	// Nothing better than to look first: logind cancels whatever is scheduled.
	if now, err := scheduled(ctx, conn, service, 0); err != nil || !now.ours() {
		return err
	}
	const method = "CancelScheduledShutdown"
	if _, err := call(ctx, conn, service, manager+"."+method, 0); err != nil {
		return queryError(method, err)
	}
	return setWallMessage(ctx, conn, service, "")
}

func setWallMessage(ctx context.Context, conn *dbus.Conn, dest, message string) error {
	const method = "SetWallMessage"
	if _, err := call(ctx, conn, dest, manager+"."+method, 0, wallText(message), true); err != nil {
		return queryError(method, err)
	}
	return nil
}

// wallText is a message for terminals: ten lines, and as long as logind takes it (WALL_MESSAGE_MAX in logind-dbus.c).
func wallText(message string) string {
	const lines, limit = 10, 4096
	rows := strings.Split(strings.TrimSpace(message), "\n")
	rows = rows[:min(len(rows), lines)]
	for i, row := range rows {
		rows[i] = status.Clean(row, maxText)
	}
	text := strings.Join(rows, "\n")
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

// refusal tells whether an error is logind's own no. That there is no logind is not.
func refusal(err error) bool {
	var no *RefusedError
	return errors.As(err, &no) && !slices.Contains([]string{nameServiceUnknown, nameNoOwner, nameNoServer}, no.Name)
}
