// Package fakelogin1 is a fake systemd-logind on a real, private D-Bus daemon, for tests and simulations.
//
// It behaves like the real one in what a rebooter can see (org.freedesktop.login1(5), and logind-dbus.c of systemd
// 247 to 258): PrepareForShutdown(true) is sent before the reply, PreparingForShutdown stays true from then on, a
// second Reboot is answered with OperationInProgress, delay inhibitors hold the reboot back, a cancelled job sends
// PrepareForShutdown(false), and every inhibitor that comes or goes is told by PropertiesChanged. It can be told
// to refuse, to lose its reply and to vanish. Schedules, dry runs, wall messages and flags behave as in the version
// of systemd that SetVersion names. It never reboots anything: an accepted reboot calls a function.
package fakelogin1

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of the real service.
const (
	busName     = "org.freedesktop.login1"
	objectPath  = dbus.ObjectPath("/org/freedesktop/login1")
	managerName = "org.freedesktop.login1.Manager"
	propsName   = "org.freedesktop.DBus.Properties"
)

// Behaviour is what happens on Reboot.
type Behaviour int

const (
	// Accept announces the shutdown, answers with success, and reboots when no delay inhibitor is left.
	Accept Behaviour = iota
	// AcceptSilently answers with success, and nothing follows.
	AcceptSilently
	// Refuse answers with Answer.Error, and nothing else happens.
	Refuse
	// FailLate announces the shutdown, takes that back, and answers with Answer.Error: the reboot job could not be
	// started.
	FailLate
)

// Loss is how the reply gets lost.
type Loss int

const (
	// Delivered loses nothing.
	Delivered Loss = iota
	// NeverAnswered keeps the caller waiting for a reply.
	NeverAnswered
	// ClientsCut closes the connections of all clients when the call has arrived, before anything is announced.
	// Clients may connect again and ask.
	ClientsCut
	// LoginGone makes logind leave the bus instead of replying.
	LoginGone
	// BusGone kills dbus-daemon instead of letting the reply through.
	BusGone
)

// Answer tells how calls are answered. The zero value is a well-behaved logind.
type Answer struct {
	Do      Behaviour
	Error   string // D-Bus error name, for Refuse and FailLate
	Message string
	Loss    Loss
}

// inhibitor has the fields of ListInhibitors in their order, a(ssssuu).
type inhibitor struct {
	What, Who, Why, Mode string
	UID, PID             uint32
}

func (i inhibitor) blocks() bool   { return strings.HasPrefix(i.Mode, "block") && i.shutdown() }
func (i inhibitor) delays() bool   { return i.Mode == "delay" && i.shutdown() }
func (i inhibitor) shutdown() bool { return slices.Contains(strings.Split(i.What, ":"), "shutdown") }

// Login1 is the fake. Its methods may be called at any time from any goroutine.
type Login1 struct {
	bus       *Bus
	callbacks sync.WaitGroup

	mu            sync.Mutex
	conn          *dbus.Conn
	gone          chan struct{} // closed when conn is
	closed        bool
	canReboot     string
	inhibitors    map[int]inhibitor
	nextInhibitor int
	preparing     bool // a shutdown is announced
	executed      bool // and has begun
	delayMax      time.Duration
	refuseBlocked bool
	answer        Answer
	queries       Answer
	onCall        func()
	onReboot      func()
	calls         int
	reboots       int
	raw           map[string]any // values of properties that replace the right ones
	asked         map[string]int // how often, by property

	systemd        *dbus.Conn // of org.freedesktop.systemd1
	version        int
	versionText    string
	scheduleAnswer Answer
	plan           planned
	clock          time.Duration // ahead of the real one
	wallMessage    string
	wallEnabled    bool
	walls          []string
	flags          uint64
}

// TB is the part of testing.TB that Start needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start is New for a test: it fails the test when dbus-daemon cannot be started, and cleans up after it.
func Start(t TB) *Login1 {
	t.Helper()
	login, err := New()
	if err != nil {
		t.Fatalf("fake login1: %v", err)
		return nil
	}
	t.Cleanup(login.Close)
	return login
}

// New starts a bus and a fake logind on it. Close ends both.
func New() (*Login1, error) {
	bus, err := StartBus()
	if err != nil {
		return nil, err
	}
	l := &Login1{bus: bus, canReboot: "yes", inhibitors: map[int]inhibitor{}, raw: map[string]any{}, asked: map[string]int{}}
	l.SetVersion("252.39-1~deb12u2")
	if err := errors.Join(l.startSystemd(), l.Arrive()); err != nil {
		bus.Close()
		return nil, fmt.Errorf("fake login1: %w", err)
	}
	return l, nil
}

// Address is the D-Bus address for clients.
func (l *Login1) Address() string { return l.bus.Address() }

// Bus is the daemon underneath.
func (l *Login1) Bus() *Bus { return l.bus }

// Close ends the fake and its bus, and waits for OnCall and OnReboot functions that still run.
func (l *Login1) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.Leave()
	_ = l.systemd.Close()
	l.bus.Close()
	l.callbacks.Wait()
}

// Leave makes logind vanish from the bus, as if it had crashed. What it knew is kept for Arrive, but for what was
// scheduled: that is what the file says of it.
func (l *Login1) Leave() {
	l.mu.Lock()
	conn, gone := l.conn, l.gone
	l.conn = nil
	l.stopTimer()
	l.mu.Unlock()
	if conn != nil {
		// The name first, and with an answer: from here on nobody finds logind under it.
		_, _ = conn.ReleaseName(busName)
		_ = conn.Close()
		close(gone)
	}
}

// Arrive makes logind come (back) to the bus under a new unique name.
func (l *Login1) Arrive() error {
	conn, err := dbus.Connect(l.bus.direct)
	if err != nil {
		return fmt.Errorf("fake login1: %w", err)
	}
	l.mu.Lock()
	if l.conn != nil || l.closed {
		l.mu.Unlock()
		_ = conn.Close()
		return errors.New("fake login1: already on the bus, or closed")
	}
	l.conn, l.gone = conn, make(chan struct{})
	l.wallEnabled = true
	l.reload()
	l.mu.Unlock()
	if err := l.export(conn); err != nil {
		l.Leave()
		return fmt.Errorf("fake login1: %w", err)
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("name %s is taken", busName)
	}
	if err != nil {
		l.Leave()
		return fmt.Errorf("fake login1: %w", err)
	}
	return nil
}

// Restart is what a reboot of the machine does to logind: it leaves, forgets inhibitors and announced shutdowns,
// and comes back. An OnReboot function may call it.
func (l *Login1) Restart() error {
	l.Leave()
	l.mu.Lock()
	l.inhibitors = map[int]inhibitor{}
	l.preparing, l.executed = false, false
	_ = os.Remove(l.ScheduleFile())
	l.mu.Unlock()
	return l.Arrive()
}

// AnswerReboot sets how Reboot is answered from now on.
func (l *Login1) AnswerReboot(answer Answer) { l.set(func() { l.answer = answer }) }

// AnswerQueries sets how everything but Reboot and ScheduleShutdown is answered: only Answer.Error with Refuse, and Loss, matter.
func (l *Login1) AnswerQueries(answer Answer) { l.set(func() { l.queries = answer }) }

// SetCanReboot sets what CanReboot answers: "yes" at first.
func (l *Login1) SetCanReboot(answer string) { l.set(func() { l.canReboot = answer }) }

// RefuseWhenBlocked makes Reboot fail with AccessDenied while a block inhibitor is held, as for root since systemd
// 257. Before, root was let through, which is what the fake does at first.
func (l *Login1) RefuseWhenBlocked(refuse bool) { l.set(func() { l.refuseBlocked = refuse }) }

// SetDelayMax is InhibitDelayMaxSec=: how long delay inhibitors can hold back a reboot. Zero, the value at first,
// means until they are released.
func (l *Login1) SetDelayMax(limit time.Duration) { l.set(func() { l.delayMax = limit }) }

// OnCall sets a function that is called when a Reboot call has arrived, before anything else is done about it. It
// must not call Close.
func (l *Login1) OnCall(f func()) { l.set(func() { l.onCall = f }) }

// OnReboot sets a function that is called, in a goroutine of its own, when the machine would reboot: the call was
// accepted and no delay inhibitor is left. It must not call Close.
func (l *Login1) OnReboot(f func()) { l.set(func() { l.onReboot = f }) }

// SetRawProperty answers a property with this value, whatever its type, instead of the right one.
func (l *Login1) SetRawProperty(name string, value any) { l.set(func() { l.raw[name] = value }) }

func (l *Login1) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// Calls counts the Reboot calls that arrived.
func (l *Login1) Calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// Asked counts how often a property was asked for.
func (l *Login1) Asked(property string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[property]
}

// Reboots counts the reboots that would have happened.
func (l *Login1) Reboots() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reboots
}

// Preparing is the property PreparingForShutdown.
func (l *Login1) Preparing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.preparing
}

// Inhibit takes an inhibitor lock as systemd-inhibit(1) does and returns the function that releases it.
func (l *Login1) Inhibit(who, what, mode, why string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.nextInhibitor
	l.nextInhibitor++
	held := inhibitor{What: what, Who: who, Why: why, Mode: mode, UID: uint32(os.Getuid()), PID: uint32(os.Getpid())}
	l.inhibitors[id] = held
	l.tellInhibited(held.Mode)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, there := l.inhibitors[id]; !there {
			return
		}
		delete(l.inhibitors, id)
		l.tellInhibited(held.Mode)
		if l.preparing && !l.delayed() {
			l.execute()
		}
	}
}

// Cancel is what `systemctl cancel` of the reboot job does: the announced shutdown is taken back. A reboot that
// OnReboot was told of already cannot be called back.
func (l *Login1) Cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.preparing {
		l.preparing, l.executed = false, false // and what it shows as scheduled stays
		l.announce(false)
	}
}
