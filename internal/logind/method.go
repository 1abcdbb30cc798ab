package logind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/status"
)

// Method is a way to reboot.
type Method string

// The ways to reboot.
const (
	// Normal is a full reboot through the firmware.
	Normal Method = "reboot"
	// Kexec starts the kernel that was loaded with kexec(8), without the firmware. logind takes it as a wish: when no
	// kernel is loaded it does a full reboot, and so does [Manager.RebootBy]. Both end in a new boot id, and a drained
	// node that goes through its firmware is better than one that does not reboot. [Manager.KexecLoaded] tells which it
	// will be. Nothing here loads a kernel: that is for a hook before the reboot, or for kexec-tools, which does it
	// while the system goes down.
	Kexec Method = "kexec"
	// SoftReboot starts user space anew on the running kernel (systemd-soft-reboot.service(8)). It is refused by
	// [Manager.Supports] on every system, because it cannot be proved and does not do what was asked:
	//
	//   - The boot id is the kernel's, and stays. It is the one thing by which kured, the lock entry and the kubelet's
	//     nodeInfo.bootID tell a reboot from a restart of a daemon. systemd counts soft reboots (SoftRebootsCount of
	//     org.freedesktop.systemd1(5), since 256), but no kubelet reports that, so that the API server could not show
	//     whether a Ready is of before or after.
	//   - /run stays as it is, and with it the sentinel: the node would want its next reboot at once.
	//   - The kernel stays, which is what most reboots are for.
	SoftReboot Method = "soft-reboot"
)

// viaKexec is SD_LOGIND_KEXEC_REBOOT of org.freedesktop.login1(5), and kexecSince the version of systemd in whose
// logind it first appears (login-util.h).
const (
	viaKexec   uint64 = 1 << 1
	kexecSince        = 249
)

// UnsupportedError says why this system does not reboot in a certain way, however often it is asked.
type UnsupportedError struct {
	Method Method
	Reason string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("reboot method %q cannot be used: %s", e.Method, e.Reason)
}

// Supports tells whether this system can reboot in a certain way: an [*UnsupportedError] is for good, any other error
// means that it could not be found out now. It does not tell whether this caller may reboot: see [Manager.CanReboot].
func (m Manager) Supports(ctx context.Context, method Method) error {
	switch method {
	case Normal:
		return nil
	case Kexec:
		return m.supportsKexec(ctx)
	case SoftReboot:
		return &UnsupportedError{method, "a soft reboot keeps the kernel, its boot id and the sentinel in /run: " +
			"nobody could prove that the node has rebooted, and it would ask for the next reboot at once"}
	default:
		return &UnsupportedError{method, "there is no such method"}
	}
}

func (m Manager) supportsKexec(ctx context.Context) error {
	switch _, err := m.KexecLoaded(); {
	case errors.Is(err, fs.ErrNotExist):
		return &UnsupportedError{Kexec, "this kernel is built without kexec, " + m.KexecFile + " does not exist"}
	case err != nil:
		return err
	}
	text, number, err := m.systemdVersion(ctx)
	if err != nil {
		return err
	}
	if number < kexecSince {
		return &UnsupportedError{Kexec, fmt.Sprintf("logind can be asked for it since systemd %d, this is systemd %s",
			kexecSince, text)}
	}
	return nil
}

// KexecLoaded tells whether a kernel is loaded that kexec would start. The error wraps [fs.ErrNotExist] where the
// kernel cannot do that.
func (m Manager) KexecLoaded() (bool, error) {
	text, err := os.ReadFile(m.KexecFile)
	if err != nil {
		return false, fmt.Errorf("see whether a kernel is loaded for kexec: %w", err)
	}
	return string(bytes.TrimSpace(text)) == "1", nil
}

// RebootBy is [Manager.Reboot] by a certain method, with the same outcomes. A method that is not supported is a
// [*RefusedError].
func (m Manager) RebootBy(ctx context.Context, method Method, confirmWithin time.Duration) error {
	switch method {
	case Normal:
		return m.reboot(ctx, confirmWithin, "Reboot", false)
	case Kexec:
		return m.reboot(ctx, confirmWithin, "RebootWithFlags", viaKexec)
	default:
		return &RefusedError{Method: status.Clean(string(method), maxText), Name: nameInvalidArgs, Message: "kured does not reboot in this way"}
	}
}

// systemdVersion asks systemd for its version, such as "252.39-1~deb12u2", and takes the number out of it.
func (m Manager) systemdVersion(ctx context.Context) (text string, number int, err error) {
	const property = "Version"
	conn, err := m.dial(ctx)
	if err != nil {
		return "", 0, err
	}
	defer conn.Close()
	object := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	body, err := callObject(ctx, object, properties+".Get", 0, "org.freedesktop.systemd1.Manager", property)
	if err != nil {
		return "", 0, fmt.Errorf("ask systemd for its version: %w", err)
	}
	variant, err := value[dbus.Variant](property, body)
	if err != nil {
		return "", 0, err
	}
	if text, err = value[string](property, []any{variant.Value()}); err != nil {
		return "", 0, err
	}
	text = status.Clean(text, maxText)
	if number, err = versionNumber(text); err != nil {
		return "", 0, fmt.Errorf("ask systemd for its version: %w", err)
	}
	return text, number, nil
}

// versionNumber is what a version of systemd begins with, or what follows "v".
func versionNumber(text string) (int, error) {
	digits := strings.TrimPrefix(text, "v")
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	number, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("%q does not begin with a number", text)
	}
	return number, nil
}
