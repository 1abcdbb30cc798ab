package logind

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of the service (org.freedesktop.login1(5)).
const (
	service    = "org.freedesktop.login1"
	objectPath = dbus.ObjectPath("/org/freedesktop/login1")
	manager    = "org.freedesktop.login1.Manager"
	properties = "org.freedesktop.DBus.Properties"
	busService = "org.freedesktop.DBus"

	prepareSignal = manager + ".PrepareForShutdown"
	changedSignal = properties + ".PropertiesChanged"
	ownerSignal   = busService + ".NameOwnerChanged"
)

// answerWithin bounds every call that changes nothing. It is the default of sd_bus_call(3).
const answerWithin = 25 * time.Second

// signalBuffer is ample for the few signals that are subscribed to, so that they keep their order (godbus delivers
// from extra goroutines when the channel is full).
const signalBuffer = 128

// These mark the errors of a connection: it could not be made, or it broke.
var (
	errConnect = errors.New("connect to D-Bus")
	errBroken  = errors.New("the connection to D-Bus broke")
)

// dial connects to the bus. The connection closes when ctx ends.
func (m Manager) dial(ctx context.Context) (*dbus.Conn, error) {
	switch {
	case m.Address == "":
		return nil, fmt.Errorf("%w: no address given", errConnect)
	case !strings.HasPrefix(m.Address, "unix:"):
		return nil, fmt.Errorf("%w: address %q is not that of a unix socket", errConnect, m.Address)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConnect, err)
	}
	// This does not block: to a unix socket whose backlog is full connect(2) fails at once (EAGAIN).
	conn, err := dbus.Dial(m.Address, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", errConnect, m.Address, err)
	}
	// Neither call takes a context; both end when the connection is closed.
	bound := time.AfterFunc(answerWithin, func() { _ = conn.Close() })
	defer bound.Stop()
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w at %s: %w", errConnect, m.Address, orContext(ctx, err))
	}
	return conn, nil
}

// orContext prefers the error of an ended ctx to what it led to.
func orContext(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return err
}

// call calls a method of the manager and returns the values of its reply.
func call(ctx context.Context, conn *dbus.Conn, dest, method string, flags dbus.Flags, args ...any) ([]any, error) {
	return callObject(ctx, conn.Object(dest, objectPath), method, flags, args...)
}

func callObject(ctx context.Context, object dbus.BusObject, method string, flags dbus.Flags, args ...any) ([]any, error) {
	bound, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	done := object.CallWithContext(bound, method, flags, args...)
	switch {
	case done.Err == nil:
		return done.Body, nil
	case dbusName(done.Err) != "":
		return nil, done.Err
	case ctx.Err() != nil: // It closes the connection, and may reach that before bound.
		return nil, ctx.Err()
	case bound.Err() != nil:
		return nil, bound.Err()
	default:
		return nil, fmt.Errorf("%w: %w", errBroken, done.Err)
	}
}

// value takes the one value of the expected type out of a reply. godbus's own Store converts between types, a
// number to a string for example.
func value[T any](method string, body []any) (T, error) {
	var zero T
	if len(body) != 1 {
		return zero, fmt.Errorf("ask logind for %s: %d values in the answer, want 1", method, len(body))
	}
	v, ok := body[0].(T)
	if !ok {
		return zero, fmt.Errorf("ask logind for %s: the answer is of type %T, want %T", method, body[0], zero)
	}
	return v, nil
}

// preparing reads the property PreparingForShutdown.
func preparing(ctx context.Context, conn *dbus.Conn, dest string, flags dbus.Flags) (bool, error) {
	const method = "PreparingForShutdown"
	body, err := call(ctx, conn, dest, properties+".Get", flags, manager, method)
	if err != nil {
		return false, queryError(method, err)
	}
	variant, err := value[dbus.Variant](method, body)
	if err != nil {
		return false, err
	}
	return value[bool](method, []any{variant.Value()})
}

// session is a connection on which signals of one particular logind process arrive.
type session struct {
	conn    *dbus.Conn
	owner   string // the unique name of logind on this bus
	bus     string // the identity of the bus
	signals chan *dbus.Signal

	reopened bool // it replaces one that was lost
}

// open connects, finds the logind that runs now and subscribes to its signals. With start, a logind that is not
// running is started by the bus, if it can.
func (m Manager) open(ctx context.Context, start bool) (*session, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, signals: make(chan *dbus.Signal, signalBuffer)}
	if err := s.subscribe(ctx, start); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() { _ = s.conn.Close() }

func (s *session) subscribe(ctx context.Context, start bool) error {
	if start {
		if _, err := preparing(ctx, s.conn, service, 0); err != nil {
			return err
		}
	}
	// Before the owner is asked for, so that no change of owner is missed.
	if err := s.match(ctx, dbus.WithMatchSender(busService), dbus.WithMatchInterface(busService),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, service)); err != nil {
		return err
	}
	s.conn.Signal(s.signals)
	var err error
	if s.owner, err = s.askBus(ctx, "GetNameOwner", service); err != nil {
		return err
	}
	if s.bus, err = s.askBus(ctx, "GetId"); err != nil {
		return err
	}
	if err := s.match(ctx, dbus.WithMatchSender(s.owner), dbus.WithMatchObjectPath(objectPath),
		dbus.WithMatchInterface(manager), dbus.WithMatchMember("PrepareForShutdown")); err != nil {
		return err
	}
	return s.match(ctx, dbus.WithMatchSender(s.owner), dbus.WithMatchObjectPath(objectPath),
		dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchArg(0, manager))
}

func (s *session) match(ctx context.Context, options ...dbus.MatchOption) error {
	bound, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := s.conn.AddMatchSignalContext(bound, options...); err != nil {
		return fmt.Errorf("subscribe to signals of logind: %w", orContext(ctx, err))
	}
	return nil
}

func (s *session) askBus(ctx context.Context, method string, args ...any) (string, error) {
	body, err := callObject(ctx, s.conn.BusObject(), busService+"."+method, 0, args...)
	if err != nil {
		return "", queryError(method, err)
	}
	return value[string](method, body)
}

// prepareFor tells whether a signal is logind's PrepareForShutdown, and its value. Anybody can send a signal of that
// name, but not in the name of logind.
func (s *session) prepareFor(signal *dbus.Signal) (active, ok bool) {
	if signal.Name != prepareSignal || signal.Sender != s.owner || signal.Path != objectPath || len(signal.Body) != 1 {
		return false, false
	}
	active, ok = signal.Body[0].(bool)
	return active, ok
}

// ownerGone tells whether a signal says that this logind is no longer on the bus.
func (s *session) ownerGone(signal *dbus.Signal) bool {
	if signal.Name != ownerSignal || signal.Sender != busService || len(signal.Body) != 3 {
		return false
	}
	name, _ := signal.Body[0].(string)
	owner, _ := signal.Body[2].(string)
	return name == service && owner != s.owner
}
