package logind

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/status"
)

// ScheduledError says that somebody else has scheduled a shutdown (shutdown(8)), or has begun one. It is left alone.
type ScheduledError struct {
	Type  string    // "reboot", "poweroff", "halt", …
	At    time.Time // when
	Begun bool      // it is under way
}

func (e *ScheduledError) Error() string {
	if e.Begun {
		return fmt.Sprintf("somebody shuts this machine down (%s)", e.Type)
	}
	return fmt.Sprintf("somebody has scheduled a %s at %s, shutdown -c cancels it", e.Type, e.At.Format(time.RFC3339))
}

// Reboots tells whether the machine is up again after it.
func (e *ScheduledError) Reboots() bool {
	return slices.Contains([]string{"reboot", "kexec", "soft-reboot"}, e.Type)
}

// MayReboot is nil if logind would reboot now for this caller, and nobody else has scheduled a shutdown, which a reboot
// would make logind forget. A [*ScheduledError] says that only the latter is in the way. Who blocks a shutdown is another
// question: see [Manager.BlockInhibitors].
func (m Manager) MayReboot(ctx context.Context) error {
	answer, err := m.CanReboot(ctx)
	if err != nil {
		return err
	}
	if answer != "yes" {
		return fmt.Errorf("logind answers %q when asked whether this machine can reboot", answer)
	}
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return m.unscheduled(ctx, conn, service)
}

// unscheduled is a [*ScheduledError] while somebody else has scheduled a shutdown.
func (m Manager) unscheduled(ctx context.Context, conn *dbus.Conn, dest string) error {
	now, err := scheduled(ctx, conn, dest, 0)
	if err != nil || now.none() || now.ours() {
		return err
	}
	other := now.others()
	if !other.At.After(m.wall(time.Now()).Add(-leeway)) {
		// It has begun, or came to nothing: logind goes on showing what failed, what was taken back, and every suspend
		// (method_do_shutdown_or_sleep and match_job_removed in logind-dbus.c).
		if other.Begun, err = preparing(ctx, conn, dest, 0); err != nil || !other.Begun {
			return err
		}
	}
	return other
}

// schedule is logind's property ScheduledShutdown.
type schedule struct {
	kind string // empty: nothing is scheduled
	usec uint64 // since 1970
}

func (s schedule) none() bool      { return s.kind == "" }
func (s schedule) ours() bool      { return s.kind == "reboot" && s.usec%1_000_000 == mark }
func (s schedule) time() time.Time { return time.UnixMicro(int64(s.usec)) }

// others is the error that it is not ours. What has begun without a schedule has no time.
func (s schedule) others() *ScheduledError {
	return &ScheduledError{Type: status.Clean(s.kind, maxText), At: s.time(), Begun: s.usec == 0}
}

// shownFor is what the schedule shows of a reboot at a time on the wall.
func shownFor(at time.Time) schedule {
	return schedule{kind: "reboot", usec: uint64(at.Add(leeway).Unix())*1_000_000 + mark}
}

// scheduled reads what is scheduled.
func scheduled(ctx context.Context, conn *dbus.Conn, dest string, flags dbus.Flags) (schedule, error) {
	const property = "ScheduledShutdown"
	body, err := call(ctx, conn, dest, properties+".Get", flags, manager, property)
	if err != nil {
		return schedule{}, queryError(property, err)
	}
	variant, err := value[dbus.Variant](property, body)
	if err != nil {
		return schedule{}, err
	}
	fields, err := value[[]any](property, []any{variant.Value()})
	if err != nil {
		return schedule{}, err
	}
	if len(fields) != 2 {
		return schedule{}, fmt.Errorf("ask logind for %s: %d values in the answer, want 2", property, len(fields))
	}
	var now schedule
	if now.kind, err = value[string](property, fields[:1]); err != nil {
		return schedule{}, err
	}
	now.usec, err = value[uint64](property, fields[1:])
	return now, err
}
