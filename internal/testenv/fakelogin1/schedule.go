package fakelogin1

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Versions of systemd from which on logind behaves differently (logind-dbus.c).
const (
	flagsSince    = 248 // RebootWithFlags
	kexecSince    = 249 // its flag for kexec
	keptSince     = 251 // what is scheduled outlives a restart of logind, but as a real shutdown in any case
	toldSince     = 251 // Reboot ends what is scheduled, and writes to terminals
	signalSince   = 257 // PropertiesChanged tells of ScheduledShutdown
	noneUntil     = 251 // before it, the time of no schedule is 0
	wholeSince    = 257 // CancelScheduledShutdown takes back what waits for delay inhibitors, and tells only of the schedule
	viaKexec      = uint64(1) << 1
	softReboot    = uint64(1) << 2
	wallLimit     = 4096
	warnWithin    = 15 * time.Minute
	systemdName   = "org.freedesktop.systemd1"
	systemdObject = dbus.ObjectPath("/org/freedesktop/systemd1")
)

// schedule is the property ScheduledShutdown, (st), and what logind knows beside it.
type schedule struct {
	Type string
	Usec uint64
}

// planned is what is scheduled. Its zero value is nothing.
type planned struct {
	schedule
	dry   bool
	timer *time.Timer
}

// SetVersion sets the version of systemd, such as "252.39-1~deb12u2", which it is at first. What logind does about
// schedules and flags depends on its number.
func (l *Login1) SetVersion(version string) {
	l.set(func() {
		l.versionText = version
		digits, _, _ := strings.Cut(version, ".")
		l.version, _ = strconv.Atoi(digits)
	})
}

// AnswerSchedule sets how ScheduleShutdown is answered from now on.
func (l *Login1) AnswerSchedule(answer Answer) { l.set(func() { l.scheduleAnswer = answer }) }

// ScheduleFile is this logind's /run/systemd/shutdown/scheduled.
func (l *Login1) ScheduleFile() string { return filepath.Join(l.bus.dir, "shutdown", "scheduled") }

// Scheduled is the property ScheduledShutdown, and whether it is a dry run, which logind tells nobody.
func (l *Login1) Scheduled() (kind string, at time.Time, dry bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plan.Type, time.UnixMicro(int64(l.plan.Usec)), l.plan.dry
}

// Schedule is a person's shutdown(8): kind is "reboot", "poweroff" or "halt".
func (l *Login1) Schedule(kind string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.schedule(kind, uint64(at.UnixMicro()), false)
}

// Unschedule is a person's `shutdown -c`.
func (l *Login1) Unschedule() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unschedule()
}

// Elapse makes the time of what is scheduled come.
func (l *Login1) Elapse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.elapse()
}

// SetClock sets how much later than the real one the clock on the wall shows.
func (l *Login1) SetClock(ahead time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = ahead
	if l.plan.Type != "" {
		l.arm()
	}
}

// Walls is what was written to all terminals.
func (l *Login1) Walls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.walls)
}

// WallMessage is the property.
func (l *Login1) WallMessage() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wallMessage
}

// Flags are those of the last RebootWithFlags.
func (l *Login1) Flags() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flags
}

func (l *Login1) methodScheduleShutdown(kind string, usec uint64) *dbus.Error {
	l.mu.Lock()
	answer := l.scheduleAnswer
	l.mu.Unlock()
	if answer.Loss == ClientsCut {
		l.bus.CutClients()
	}
	err := l.actSchedule(answer, kind, usec)
	l.lose(answer.Loss)
	return err
}

func (l *Login1) actSchedule(answer Answer, kind string, usec uint64) *dbus.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind, dry := strings.CutPrefix(kind, "dry-")
	switch {
	case answer.Do == Refuse:
		return dbus.NewError(answer.Error, []any{answer.Message})
	case !slices.Contains([]string{"reboot", "poweroff", "halt"}, kind):
		return dbus.NewError(errorInvalidArgs, []any{"Unsupported shutdown type"})
	case l.blocked():
		return dbus.NewError(errorAccessDenied, []any{"Access denied due to active block inhibitor"})
	case answer.Do == Accept:
		l.schedule(kind, usec, dry)
	}
	return nil
}

func (l *Login1) methodCancelScheduledShutdown() (bool, *dbus.Error) {
	if err := l.query(); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unschedule(), nil
}

func (l *Login1) methodSetWallMessage(message string, enable bool) *dbus.Error {
	if err := l.query(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(message) > wallLimit {
		return dbus.NewError(errorInvalidArgs, []any{"Wall message too long"})
	}
	l.wallMessage, l.wallEnabled = message, enable
	return nil
}

func (l *Login1) methodRebootWithFlags(flags uint64) *dbus.Error {
	l.mu.Lock()
	version := l.version
	l.flags = flags
	l.mu.Unlock()
	switch {
	case version < flagsSince:
		return dbus.NewError("org.freedesktop.DBus.Error.UnknownMethod", []any{"Unknown method RebootWithFlags or interface " + managerName + "."})
	case flags&viaKexec != 0 && version < kexecSince, flags&softReboot != 0 && version < 254, flags >= softReboot<<3:
		return dbus.NewError(errorInvalidArgs, []any{"Invalid flags parameter"})
	}
	return l.methodReboot(false)
}

// methodVersion is the property of systemd itself.
func (l *Login1) methodVersion(_, name string) (dbus.Variant, *dbus.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if value, there := l.raw[name]; there {
		return dbus.MakeVariant(value), nil
	}
	if name == "Version" {
		return dbus.MakeVariant(l.versionText), nil
	}
	return dbus.MakeVariant(""), dbus.NewError(errorUnknownProperty, []any{"unknown property " + name})
}

// startSystemd brings systemd itself to the bus, which stays when logind goes.
func (l *Login1) startSystemd() error {
	conn, err := dbus.Connect(l.bus.direct)
	if err != nil {
		return err
	}
	l.systemd = conn
	if err := conn.ExportMethodTable(map[string]any{"Get": l.methodVersion}, systemdObject, propsName); err != nil {
		return err
	}
	_, err = conn.RequestName(systemdName, dbus.NameFlagDoNotQueue)
	return err
}

// The functions below need l.mu held.

func (l *Login1) schedule(kind string, usec uint64, dry bool) {
	l.stopTimer()
	l.plan = planned{schedule: schedule{kind, usec}, dry: dry}
	l.arm()
	// As update_schedule_file does: no word of the dry run.
	text := fmt.Sprintf("USEC=%d\nWARN_WALL=1\nMODE=%s\nUID=0\nWALL_MESSAGE=%s\n", usec, kind, l.wallMessage)
	_ = os.MkdirAll(filepath.Dir(l.ScheduleFile()), 0o755)
	_ = os.WriteFile(l.ScheduleFile(), []byte(text), 0o644)
	if left := l.left(); left > 0 && left < warnWithin {
		l.wall(l.wallMessage + "\nThe system will " + kind + " at " + time.UnixMicro(int64(usec)).Format(time.RFC3339) + "!")
	}
	l.tellScheduled()
}

// left is the time until what is scheduled, by the clock on the wall.
func (l *Login1) left() time.Duration {
	return time.Until(time.UnixMicro(int64(l.plan.Usec))) - l.clock
}

func (l *Login1) arm() {
	l.stopTimer()
	p := l.plan
	l.plan.timer = time.AfterFunc(l.left(), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.plan.schedule == p.schedule && l.plan.dry == p.dry && l.conn != nil {
			l.elapse()
		}
	})
}

func (l *Login1) unschedule() bool {
	if l.plan.Type == "" {
		return false
	}
	l.wall("System shutdown has been cancelled")
	if l.version >= wholeSince && !l.executed {
		l.preparing = false
	}
	l.resetSchedule()
	return true
}

func (l *Login1) resetSchedule() {
	l.stopTimer()
	l.plan = l.nothing()
	_ = os.Remove(l.ScheduleFile())
	l.tellScheduled()
}

func (l *Login1) nothing() planned {
	if l.version < noneUntil {
		return planned{}
	}
	return planned{schedule: schedule{Usec: 1<<64 - 1}}
}

func (l *Login1) stopTimer() {
	if l.plan.timer != nil {
		l.plan.timer.Stop()
	}
}

func (l *Login1) elapse() {
	p := l.plan
	if p.Type == "" || l.closed {
		return
	}
	if p.dry {
		l.resetSchedule()
		return
	}
	l.stopTimer() // and what it shows stays
	if !l.preparing {
		l.begin()
	}
}

// reload is what a logind that was started anew makes of the file.
func (l *Login1) reload() {
	l.stopTimer()
	l.plan = l.nothing()
	l.wallMessage = ""
	text, err := os.ReadFile(l.ScheduleFile())
	if err != nil || l.version < keptSince {
		return
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	usec, _ := strconv.ParseUint(values["USEC"], 10, 64)
	l.wallMessage = values["WALL_MESSAGE"]
	l.schedule(values["MODE"], usec, false)
}

func (l *Login1) wall(text string) {
	if l.wallEnabled {
		l.walls = append(l.walls, text)
	}
}

func (l *Login1) tellScheduled() {
	if l.conn != nil && l.version >= signalSince {
		_ = l.conn.Emit(objectPath, propsName+".PropertiesChanged", managerName,
			map[string]dbus.Variant{"ScheduledShutdown": dbus.MakeVariant(l.plan.schedule)}, []string{})
	}
}
