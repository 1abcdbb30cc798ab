package gate

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/status"
)

// Alertmanager is open while no alert counts that is active in an Alertmanager,
// neither silenced nor inhibited. One replica that answers well is believed;
// without such a one it is closed.
type Alertmanager struct {
	Server     alert.Server
	Filter     alert.Filter
	Settled    time.Duration // it has to run for this long, or it may not know all alerts yet; 0: not looked at
	UntilDrain bool          // it does not matter any more when the node holds the lock
}

// Name implements Gate.
func (Alertmanager) Name() status.Gate { return status.GateAlertmanager }

// Check asks for the active alerts.
func (g Alertmanager) Check(ctx context.Context, at Moment) Verdict {
	if at == Within && g.UntilDrain {
		return Verdict{Open: true}
	}
	alerts, err := g.Server.Alertmanager().Alerts(ctx, g.Filter, g.Settled)
	return ofAlerts("Alertmanager", alerts, err)
}
