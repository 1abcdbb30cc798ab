package hook

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// errLost marks the errors after which another connection may do better.
var errLost = errors.New("no connection to systemd")

// answerWithin bounds every call. It is the default of sd_bus_call(3).
const answerWithin = 25 * time.Second

// exited is CLD_EXITED of waitid(2): the process ended by itself, with an exit code.
const exited = 1

// session is a connection to systemd.
type session struct {
	systemd *systemd.Conn
	conns   []*dbus.Conn // go-systemd's two: the first is for calls, the second for signals
	cancel  context.CancelFunc
}

// open connects. The session outlives ctx, so that what was begun on it can be ended.
func open(ctx context.Context, address string) (*session, error) {
	if !strings.HasPrefix(address, "unix:") {
		return nil, fmt.Errorf("connect to systemd: address %q is not that of a unix socket", address)
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &session{cancel: cancel}
	ready := make(chan error, 1)
	go func() {
		// connect(2) and the handshake take no context. Both end with the connection, which ends with its own.
		var err error
		s.systemd, err = systemd.NewConnection(func() (*dbus.Conn, error) {
			conn, err := dbus.Dial(address, dbus.WithContext(own))
			if err != nil {
				return nil, err
			}
			if err := errors.Join(conn.Auth(nil), conn.Hello()); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			s.conns = append(s.conns, conn)
			return conn, nil
		})
		ready <- err
	}()
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	var err error
	select {
	case err = <-ready:
		if err == nil {
			return s, nil
		}
	case <-timer.C:
		err = context.DeadlineExceeded
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	return nil, fmt.Errorf("%w at %s: %w", errLost, address, err)
}

func (s *session) close() { s.cancel() }

// call bounds a call and sorts its error: an answer of systemd's, or errLost.
func (s *session) call(ctx context.Context, doing string, do func(context.Context) error) error {
	bound, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := do(bound)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case answered(err):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%w: %s: %w", errLost, doing, err)
}

// answered tells an answer of systemd's from one that the bus gives because systemd is not there or does not answer.
func answered(err error) bool {
	var answer dbus.Error
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Name {
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.ServiceUnknown",
		"org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.Disconnected",
		"org.freedesktop.DBus.Error.Timeout", "org.freedesktop.DBus.Error.TimedOut":
		return false
	}
	return true
}

// ref keeps systemd from forgetting the unit as long as the session lives.
func (s *session) ref(ctx context.Context, unit string) error {
	return s.call(ctx, "refer to "+unit, func(ctx context.Context) error {
		return s.conns[0].Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
			CallWithContext(ctx, "org.freedesktop.systemd1.Manager.RefUnit", 0, unit).Err
	})
}

// look is what systemd says of a unit at one moment (org.freedesktop.systemd1(5)).
type look struct {
	load       string // LoadState
	active     string // ActiveState
	queued     bool   // a job waits or runs
	invocation string // hex; "": it was not started since systemd loaded it
	result     string // Result
	code       int32  // ExecMainCode
	status     int32  // ExecMainStatus
	text       string // StatusText
}

// busy tells whether the unit does not rest.
func (l look) busy() bool {
	return l.queued || l.active != "inactive" && l.active != "failed" && l.active != "active"
}

func (s *session) look(ctx context.Context, unit string) (look, error) {
	var properties map[string]any
	err := s.call(ctx, "look at "+unit, func(ctx context.Context) (err error) {
		properties, err = s.systemd.GetAllPropertiesContext(ctx, unit)
		return err
	})
	if err != nil {
		return look{}, err
	}
	return parse(properties)
}

// parse takes what is needed out of the unit's properties. A unit that cannot be loaded has none of a service.
func parse(properties map[string]any) (look, error) {
	var l look
	var errs []error
	take := func(name string, into any) {
		value, ok := properties[name]
		switch into := into.(type) {
		case *string:
			*into, ok = value.(string)
		case *int32:
			*into, ok = value.(int32)
		case *[]byte:
			*into, ok = value.([]byte)
		case *[]any:
			*into, ok = value.([]any)
		}
		if !ok {
			errs = append(errs, fmt.Errorf("property %s of the unit is of type %T", name, value))
		}
	}
	var id []byte
	var job []any
	take("LoadState", &l.load)
	take("ActiveState", &l.active)
	take("InvocationID", &id)
	take("Job", &job)
	if l.load == "loaded" {
		take("Result", &l.result)
		take("ExecMainCode", &l.code)
		take("ExecMainStatus", &l.status)
		take("StatusText", &l.text)
	}
	if len(job) > 0 {
		number, ok := job[0].(uint32)
		if !ok {
			errs = append(errs, fmt.Errorf("the number of the unit's job is of type %T", job[0]))
		}
		l.queued = number != 0
	}
	l.invocation = hex.EncodeToString(id)
	return l, errors.Join(errs...)
}

// await waits until the unit rests. done tells when its job is removed; anybody can send such a signal, so it only
// makes us look.
func (s *session) await(ctx context.Context, unit string, done <-chan string) (look, error) {
	for {
		seen, err := s.look(ctx, unit)
		if err != nil || !seen.busy() {
			return seen, err
		}
		pause := lookAgain
		if done != nil {
			pause = lookAnyway
		}
		timer := time.NewTimer(pause)
		select {
		case <-done:
			done = nil
		case <-timer.C:
		case <-s.conns[0].Context().Done():
			err = fmt.Errorf("%w: the connection broke", errLost)
		case <-s.conns[1].Context().Done():
			err = fmt.Errorf("%w: the connection for signals broke", errLost)
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return look{}, err
		}
	}
}
