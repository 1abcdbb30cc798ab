package logind

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/godbus/dbus/v5"
)

// InhibitDelayMax is how long logind lets delay inhibitors, such as the kubelet's, hold back a shutdown: the property
// InhibitDelayMaxUSec of org.freedesktop.login1(5), which InhibitDelayMaxSec= of logind.conf(5) sets.
func (m Manager) InhibitDelayMax(ctx context.Context) (time.Duration, error) {
	const property = "InhibitDelayMaxUSec"
	conn, err := m.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	body, err := call(ctx, conn, service, properties+".Get", 0, manager, property)
	if err != nil {
		return 0, queryError(property, err)
	}
	variant, err := value[dbus.Variant](property, body)
	if err != nil {
		return 0, err
	}
	found, err := value[uint64](property, []any{variant.Value()})
	if err != nil {
		return 0, err
	}
	if found > math.MaxInt64/1000 { // "infinity" is the largest number
		return math.MaxInt64, nil
	}
	return time.Duration(found) * time.Microsecond, nil
}

// SystemdVersion is the version that systemd says, such as "252.39-1~deb12u2".
func (m Manager) SystemdVersion(ctx context.Context) (string, error) {
	text, _, err := m.systemdVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("systemd: %w", err)
	}
	return text, nil
}
