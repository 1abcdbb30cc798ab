package nodes

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	systemdName  = "org.freedesktop.systemd1"
	systemdPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerIface = "org.freedesktop.systemd1.Manager"
	unitIface    = "org.freedesktop.systemd1.Unit"
	serviceIface = "org.freedesktop.systemd1.Service"
	loginName    = "org.freedesktop.login1"
	loginPath    = dbus.ObjectPath("/org/freedesktop/login1")
)

// busTimeout bounds single calls: a frozen or dying node may never answer.
const busTimeout = 5 * time.Second

// BusAddress is the D-Bus address, as seen from outside of the node, of its system bus in this boot.
func (n *Node) BusAddress() (string, error) {
	leader, err := n.Leader()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", leader), nil
}

// SystemBus connects to the node's system bus as its root. The connection ends with ctx or with the boot.
func (n *Node) SystemBus(ctx context.Context) (*dbus.Conn, error) {
	address, err := n.BusAddress()
	if err != nil {
		return nil, err
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%s: connect to its system bus: %w", n.Name, err)
	}
	return conn, nil
}

// withBus runs f with a connection of its own and a bounded time.
func (n *Node) withBus(ctx context.Context, f func(context.Context, *dbus.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	conn, err := n.SystemBus(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := f(ctx, conn); err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	return nil
}

// property reads one property into value, a pointer.
func property(ctx context.Context, object dbus.BusObject, iface, name string, value any) error {
	var v dbus.Variant
	call := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name)
	if err := call.Store(&v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return v.Store(value)
}

// SystemState is the system manager's state: "starting", "running", "degraded", "stopping" …
func (n *Node) SystemState(ctx context.Context) (string, error) {
	var state string
	err := n.withBus(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		return property(ctx, conn.Object(systemdName, systemdPath), managerIface, "SystemState", &state)
	})
	return state, err
}

// failedUnits names them, as far as they can be learned; the caller's time may be over.
func (n *Node) failedUnits() []string {
	var units [][]any // name, description, load state, …
	_ = n.withBus(context.Background(), func(ctx context.Context, conn *dbus.Conn) error {
		return conn.Object(systemdName, systemdPath).
			CallWithContext(ctx, managerIface+".ListUnitsFiltered", 0, []string{"failed"}).Store(&units)
	})
	var names []string
	for _, u := range units {
		names = append(names, fmt.Sprint(u[0]))
	}
	return names
}

// reachedBasic tells whether units can be started and logind can be asked.
func (n *Node) reachedBasic(ctx context.Context) bool {
	err := n.withBus(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		if state, err := unitState(ctx, conn, "basic.target"); err != nil || state != "active" {
			return fmt.Errorf("basic.target is %s: %w", state, err)
		}
		var preparing bool
		return property(ctx, conn.Object(loginName, loginPath), loginName+".Manager", "PreparingForShutdown", &preparing)
	})
	return err == nil
}

// UnitState is a unit's ActiveState; "inactive" for one that does not exist.
func (n *Node) UnitState(ctx context.Context, unit string) (string, error) {
	var state string
	err := n.withBus(ctx, func(ctx context.Context, conn *dbus.Conn) (err error) {
		state, err = unitState(ctx, conn, unit)
		return err
	})
	return state, err
}

func unitState(ctx context.Context, conn *dbus.Conn, unit string) (state string, err error) {
	object, err := loadUnit(ctx, conn, unit)
	if err != nil {
		return "", err
	}
	return state, property(ctx, object, unitIface, "ActiveState", &state)
}

func loadUnit(ctx context.Context, conn *dbus.Conn, unit string) (dbus.BusObject, error) {
	var path dbus.ObjectPath
	call := conn.Object(systemdName, systemdPath).CallWithContext(ctx, managerIface+".LoadUnit", 0, unit)
	if err := call.Store(&path); err != nil {
		return nil, fmt.Errorf("load unit %s: %w", unit, err)
	}
	return conn.Object(systemdName, path), nil
}

// WaitUnit waits until a unit's ActiveState is as wanted.
func (n *Node) WaitUnit(ctx context.Context, unit, want string) error {
	var state string
	err := n.poll(ctx, fmt.Sprintf("wait for %s to be %s", unit, want), func() (bool, error) {
		state, _ = n.UnitState(ctx, unit)
		return state == want, nil
	})
	if err != nil && state != "" {
		err = fmt.Errorf("%w (it is %s)", err, state)
	}
	return err
}

// UnitProperty reads a property of a service into value, a pointer; interfaces Service and Unit are tried.
func (n *Node) UnitProperty(ctx context.Context, unit, name string, value any) error {
	return n.withBus(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		object, err := loadUnit(ctx, conn, unit)
		if err != nil {
			return err
		}
		if err := property(ctx, object, serviceIface, name, value); err == nil {
			return nil
		}
		return property(ctx, object, unitIface, name, value)
	})
}

// Kill sends a signal to the main process of a service.
func (n *Node) Kill(ctx context.Context, unit string, signal syscall.Signal) error {
	return n.withBus(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		call := conn.Object(systemdName, systemdPath).
			CallWithContext(ctx, managerIface+".KillUnit", 0, unit, "main", int32(signal))
		return call.Err
	})
}

// Reboot asks the node's logind for a reboot, as root and not interactively. An error does not mean that it
// will not happen: the bus may end before the reply.
func (n *Node) Reboot(ctx context.Context) error {
	return n.withBus(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		return conn.Object(loginName, loginPath).CallWithContext(ctx, loginName+".Manager.Reboot", 0, false).Err
	})
}
