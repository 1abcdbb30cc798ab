// Package logind asks systemd-logind to reboot, and what it thinks of that (org.freedesktop.login1(5)).
//
// The address of the bus is always given: there is no default anywhere in this package, so that nothing reaches
// the logind of the machine by accident. Each call uses a connection of its own and closes it.
package logind

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/status"
)

// Manager is the org.freedesktop.login1.Manager on the bus at Address.
type Manager struct {
	// Address is the D-Bus address of a unix socket, such as unix:path=/run/dbus/system_bus_socket.
	Address string
	// ScheduleFile is where logind writes down what it has scheduled, /run/systemd/shutdown/scheduled. Only
	// announcements need it, and they need to be allowed to remove it.
	ScheduleFile string
	// KexecFile is where the kernel tells whether one is loaded for kexec, /sys/kernel/kexec_loaded. Only the method
	// [Kexec] needs it.
	KexecFile string

	now func() time.Time // what the clock on the wall shows; nil: time.Now
}

// Inhibitor is a lock that somebody took with systemd-inhibit(1) or its D-Bus call.
type Inhibitor struct {
	What string // what is held off, separated by colons: "shutdown:sleep"
	Who  string // the program, as it calls itself
	Why  string // its reason, for people
	Mode string // "block", "block-weak" or "delay"
	UID  uint32
	PID  uint32
}

// String describes the inhibitor in a line: apt (pid 4711, uid 0) blocks shutdown: "why".
func (i Inhibitor) String() string {
	verb := "blocks"
	if i.Mode == "delay" {
		verb = "delays"
	}
	return fmt.Sprintf("%s (pid %d, uid %d) %s shutdown: %q", status.Clean(i.Who, maxText), i.PID, i.UID, verb, status.Clean(i.Why, maxText))
}

// maxText bounds text of others, in characters: any user may take an inhibitor and choose its text.
const maxText = 200

// CanReboot asks whether this caller may reboot: "yes", "no", "na" (not possible here), "challenge" (a person has
// to confirm), or since systemd 257 a word that mentions inhibitors. "yes" is not the whole truth: root hears it
// while a block inhibitor would make the call fail.
func (m Manager) CanReboot(ctx context.Context) (string, error) {
	const method = "CanReboot"
	body, err := m.query(ctx, method)
	if err != nil {
		return "", err
	}
	answer, err := value[string](method, body)
	return status.Clean(answer, maxText), err
}

// BlockInhibitors lists who blocks a shutdown, in a stable order. It has to be asked for: before systemd 257 logind
// lets root reboot in spite of them.
func (m Manager) BlockInhibitors(ctx context.Context) ([]Inhibitor, error) {
	const method = "ListInhibitors"
	body, err := m.query(ctx, method)
	if err != nil {
		return nil, err
	}
	rows, err := value[[][]any](method, body)
	if err != nil {
		return nil, err
	}
	var blocking []Inhibitor
	for _, row := range rows {
		inhibitor, err := parseInhibitor(row)
		if err != nil {
			return nil, fmt.Errorf("ask logind for %s: %w", method, err)
		}
		// Not only "block": "block-weak" of systemd 257 is what "block" was before, and a mode that this code does
		// not know is not for it to ignore.
		if inhibitor.Mode != "delay" && slices.Contains(strings.Split(inhibitor.What, ":"), "shutdown") {
			blocking = append(blocking, inhibitor)
		}
	}
	slices.SortFunc(blocking, func(a, b Inhibitor) int { return strings.Compare(a.String(), b.String()) })
	return blocking, nil
}

func parseInhibitor(row []any) (Inhibitor, error) {
	var i Inhibitor
	texts := []*string{&i.What, &i.Who, &i.Why, &i.Mode}
	numbers := []*uint32{&i.UID, &i.PID}
	if len(row) != len(texts)+len(numbers) {
		return i, fmt.Errorf("an inhibitor has %d fields, want %d", len(row), len(texts)+len(numbers))
	}
	for n, field := range row {
		var ok bool
		if n < len(texts) {
			*texts[n], ok = field.(string)
		} else {
			*numbers[n-len(texts)], ok = field.(uint32)
		}
		if !ok {
			return i, fmt.Errorf("field %d of an inhibitor is of type %T", n+1, field)
		}
	}
	return i, nil
}

// PreparingForShutdown tells whether a shutdown or reboot, whoever asked for it, is under way.
func (m Manager) PreparingForShutdown(ctx context.Context) (bool, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	return preparing(ctx, conn, service, 0)
}

// query calls a method without arguments.
func (m Manager) query(ctx context.Context, method string) ([]any, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	body, err := call(ctx, conn, service, manager+"."+method, 0)
	if err != nil {
		return nil, queryError(method, err)
	}
	return body, nil
}

// WatchInhibitors sends a value when block inhibitors may have changed: one came or went, or logind left the bus; and
// since systemd 257 when what is scheduled has changed. Several changes may come as one. The channel is closed when ctx
// ends, or the bus or logind is lost. Watch first and call BlockInhibitors then, or a change in between goes unnoticed.
func (m Manager) WatchInhibitors(ctx context.Context) (<-chan struct{}, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := m.open(ctx, true)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch inhibitors: %w", err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer cancel()
		defer close(changed)
		for signal := range s.signals { // closed with the connection, which closes with ctx
			if s.inhibitorsChanged(signal) || s.propertyChanged(signal, "ScheduledShutdown") || s.ownerGone(signal) {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
			if s.ownerGone(signal) {
				s.close() // Signals of the next logind are not subscribed to.
			}
		}
	}()
	return changed, nil
}

// inhibitorsChanged recognises the signal that logind sends each time a block inhibitor comes or goes
// (bus_manager_send_inhibited_change in logind-inhibit.c), weak ones included.
func (s *session) inhibitorsChanged(signal *dbus.Signal) bool {
	return s.propertyChanged(signal, "BlockInhibited")
}

// propertyChanged tells whether a signal says that a property of the manager has changed.
func (s *session) propertyChanged(signal *dbus.Signal, name string) bool {
	if signal.Name != changedSignal || signal.Sender != s.owner || len(signal.Body) != 3 {
		return false
	}
	values, _ := signal.Body[1].(map[string]dbus.Variant)
	invalidated, _ := signal.Body[2].([]string)
	_, there := values[name]
	return there || slices.Contains(invalidated, name)
}
