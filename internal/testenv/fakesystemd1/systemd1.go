// Package fakesystemd1 is a fake systemd on a real, private D-Bus daemon, for tests of what starts units.
//
// It behaves like the real one in what the starter of a oneshot service can see (org.freedesktop.systemd1(5), and
// systemd 247 to 257): a job is made at once and removed, with a signal, when the service has ended; a start of a
// service that is starting joins the job that runs; how a service ended is forgotten at once if it ended well and
// nobody refers to it; a stop cancels the start. It starts nothing: a function plays the service.
package fakesystemd1

import (
	"context"
	"fmt"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

// Names of the real service.
const (
	busName     = "org.freedesktop.systemd1"
	objectPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	unitsPath   = objectPath + "/unit"
	managerName = "org.freedesktop.systemd1.Manager"
	propsName   = "org.freedesktop.DBus.Properties"
)

// Ending is how a service ended, in systemd's properties.
type Ending struct {
	Result string // Result; "": success
	Code   int32  // ExecMainCode: 1 exited, 2 killed
	Status int32  // ExecMainStatus
	Text   string // StatusText
}

// Exited is the ending of a service whose process exited with a code. As in kured-hook@.service 0 and 75 are success.
func Exited(code int32, text string) Ending {
	e := Ending{Result: "success", Code: 1, Status: code, Text: text}
	if code != 0 && code != 75 {
		e.Result = "exit-code"
	}
	return e
}

// Service plays a service: it runs until it returns, or ctx ends because the unit is stopped.
type Service func(ctx context.Context, unit string) Ending

// Fault is what happens to a call of StartUnit beside what it does.
type Fault int

const (
	// None: it is answered.
	None Fault = iota
	// CutBefore closes the connections of all clients before anything is done.
	CutBefore
	// CutAfter closes them when the service is started, before the answer.
	CutAfter
)

// Systemd is the fake. Its methods may be called at any time from any goroutine.
type Systemd struct {
	bus      *fakelogin1.Bus
	conn     *dbus.Conn
	services sync.WaitGroup

	mu      sync.Mutex
	service Service
	fault   Fault  // of the next StartUnit
	refusal string // D-Bus error name of every StartUnit; "": none
	silent  bool   // no signal tells of removed jobs
	closed  bool
	units   map[string]*unit // by object path
	serial  uint32           // of jobs and invocations
	starts  int
	stops   int

	references int
	looks      int
}

type unit struct {
	name       string
	active     string
	invocation []byte
	ending     Ending
	job        uint32 // of the start; 0: none
	stopJob    uint32
	cancel     context.CancelFunc
	refs       map[string]struct{} // by the unique name of the client
}

// TB is the part of testing.TB that Start needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start starts a bus and a fake systemd on it, and ends both with the test.
func Start(t TB, service Service) *Systemd {
	t.Helper()
	bus, err := fakelogin1.StartBus()
	if err != nil {
		t.Fatalf("fake systemd: %v", err)
		return nil
	}
	s := &Systemd{bus: bus, service: service, units: map[string]*unit{}}
	t.Cleanup(s.close)
	if err := s.arrive(); err != nil {
		t.Fatalf("fake systemd: %v", err)
	}
	return s
}

func (s *Systemd) arrive() (err error) {
	if s.conn, err = dbus.Connect(s.bus.Direct()); err != nil {
		return err
	}
	if err := s.export(); err != nil {
		return err
	}
	reply, err := s.conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("name %s is taken", busName)
	}
	return err
}

func (s *Systemd) close() {
	s.set(func() {
		s.closed = true
		for _, u := range s.units {
			if u.cancel != nil {
				u.cancel()
			}
		}
	})
	s.services.Wait()
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.bus.Close()
}

// Address is the D-Bus address for clients.
func (s *Systemd) Address() string { return s.bus.Address() }

// Bus is the daemon underneath.
func (s *Systemd) Bus() *fakelogin1.Bus { return s.bus }

// Play sets what the services do that are started from now on.
func (s *Systemd) Play(service Service) { s.set(func() { s.service = service }) }

// Fail sets what happens to the next call of StartUnit.
func (s *Systemd) Fail(fault Fault) { s.set(func() { s.fault = fault }) }

// Refuse makes StartUnit answer with this D-Bus error from now on.
func (s *Systemd) Refuse(name string) { s.set(func() { s.refusal = name }) }

// Silence keeps the signals of removed jobs back from now on.
func (s *Systemd) Silence() { s.set(func() { s.silent = true }) }

// Calls counts the services that were started and the calls to stop one.
func (s *Systemd) Calls() (starts, stops int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts, s.stops
}

// Begin starts a service as somebody else, who does not wait for it.
func (s *Systemd) Begin(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(s.unit(name))
}

// Active is the unit's ActiveState.
func (s *Systemd) Active(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unit(name).active
}

// References counts the calls to refer to a unit.
func (s *Systemd) References() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.references
}

// Looks counts the reads of a unit's properties.
func (s *Systemd) Looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *Systemd) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// unit finds or loads a unit. It needs s.mu held.
func (s *Systemd) unit(name string) *unit {
	path := string(unitsPath) + "/" + systemd.PathBusEscape(name)
	u := s.units[path]
	if u == nil {
		u = &unit{name: name, active: "inactive", refs: map[string]struct{}{}, ending: Ending{Result: "success"}}
		s.units[path] = u
	}
	return u
}
