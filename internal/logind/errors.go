package logind

import (
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/status"
)

// ErrUnconfirmed means that the reboot was accepted, or the answer was lost, but logind prepares no shutdown: none
// is under way, and whatever was done for it may be undone.
var ErrUnconfirmed = errors.New("logind is not preparing a shutdown")

// ErrUnknown means that logind cannot be asked any more: the machine is probably going down, and nothing may be
// undone.
var ErrUnknown = errors.New("unknown whether the machine is going down")

// RefusedError says that logind, or the bus on its behalf, said no: nothing will happen because of this call.
type RefusedError struct {
	Method  string // what was asked for, such as "Reboot"
	Name    string // D-Bus error name
	Message string // what logind said
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("logind said no to %s: %s (%s)", e.Method, e.Message, e.Name)
	if advice := e.Advice(); advice != "" {
		text += ": " + advice
	}
	return text
}

// Advice tells a person what to do about it; it is empty for an unknown error.
func (e *RefusedError) Advice() string {
	switch {
	case e.Name == nameBlocked, e.Name == nameAccessDenied && strings.Contains(e.Message, "inhibitor"):
		return "something blocks the shutdown, see systemd-inhibit --list"
	case e.Name == nameAccessDenied:
		return "run kured as root, and see whether systemctl cat reboot.target shows a masked unit"
	case e.Name == nameInteractive:
		return "polkit wants a person to confirm: run kured as root, or allow it org.freedesktop.login1.reboot and org.freedesktop.login1.reboot-multiple-sessions"
	case e.Name == nameNotSupported:
		return "this system cannot reboot through logind"
	case e.Name == nameNoReply:
		return "systemd-logind does not answer, see systemctl status systemd-logind.service"
	case e.Name == nameNoServer:
		return "see systemctl status dbus.socket"
	case strings.HasPrefix(e.Name, prefixSystemd) && !strings.Contains(e.Message, "login"):
		// logind passes on why systemd did not start reboot.target; of dbus-org.freedesktop.login1.service the bus speaks.
		return "systemd does not start what a reboot needs, see systemctl status reboot.target systemd-reboot.service"
	case e.Name == nameServiceUnknown, e.Name == nameNoOwner, strings.HasPrefix(e.Name, prefixSpawn),
		strings.HasPrefix(e.Name, prefixSystemd):
		return "systemd-logind does not run, see systemctl status systemd-logind.service"
	}
	return ""
}

// Names of D-Bus errors: the specification's, logind's and systemd's (bus-common-errors.h).
const (
	nameAccessDenied   = "org.freedesktop.DBus.Error.AccessDenied"
	nameInteractive    = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
	nameInvalidArgs    = "org.freedesktop.DBus.Error.InvalidArgs"
	nameNotSupported   = "org.freedesktop.DBus.Error.NotSupported"
	nameNoServer       = "org.freedesktop.DBus.Error.NoServer"
	nameServiceUnknown = "org.freedesktop.DBus.Error.ServiceUnknown"
	nameNoOwner        = "org.freedesktop.DBus.Error.NameHasNoOwner"
	nameNoReply        = "org.freedesktop.DBus.Error.NoReply"
	nameTimeout        = "org.freedesktop.DBus.Error.Timeout"
	nameTimedOut       = "org.freedesktop.DBus.Error.TimedOut"
	nameDisconnected   = "org.freedesktop.DBus.Error.Disconnected"
	nameInProgress     = "org.freedesktop.login1.OperationInProgress"
	nameBlocked        = "org.freedesktop.login1.BlockedByInhibitorLock"
	nameDestructive    = "org.freedesktop.systemd1.TransactionIsDestructive"
	nameShuttingDown   = "org.freedesktop.systemd1.ShuttingDown"
	prefixSpawn        = "org.freedesktop.DBus.Error.Spawn."
	prefixSystemd      = "org.freedesktop.systemd1."
)

// dbusName is the name of a D-Bus error that came as a reply, or empty for an error of the connection.
func dbusName(err error) string {
	var reply dbus.Error
	if errors.As(err, &reply) {
		return reply.Name
	}
	var pointer *dbus.Error
	if errors.As(err, &pointer) {
		return pointer.Name
	}
	return ""
}

// queryError turns the error of a call that changes nothing into one for people.
func queryError(method string, err error) error {
	switch name := dbusName(err); name {
	case "", nameNoReply, nameTimeout, nameTimedOut, nameDisconnected:
		return fmt.Errorf("ask logind for %s: %w", method, err)
	default:
		return &RefusedError{Method: method, Name: name, Message: status.Clean(err.Error(), maxText)}
	}
}

// verdict is what the reply to Reboot means.
type verdict int

const (
	accepted  verdict = iota // or an equal operation was already under way
	refused                  // nothing will happen
	lost                     // logind may or may not have heard it
	goingDown                // systemd itself is shutting down already
)

func judge(err error) verdict {
	if err == nil {
		return accepted
	}
	switch dbusName(err) {
	case nameInProgress:
		return accepted
	case "", nameNoReply, nameTimeout, nameTimedOut, nameDisconnected:
		return lost
	case nameDestructive, nameShuttingDown:
		return goingDown
	default:
		return refused
	}
}
