package gate

import (
	"context"

	"github.com/kured-host/kured/internal/alert"
)

// Alertmanager is open while no alert counts that is active in an Alertmanager,
// neither silenced nor inhibited. One replica that answers well is believed;
// without such a one it is closed.
type Alertmanager struct {
	Server     alert.Server
	Filter     alert.Filter
	UntilDrain bool // it does not matter any more when the node holds the lock
}

// Check asks for the active alerts.
func (g Alertmanager) Check(ctx context.Context, at Moment) Verdict {
	if at == Within && g.UntilDrain {
		return Verdict{Open: true}
	}
	alerts, err := g.Server.Alertmanager().Alerts(ctx, g.Filter)
	return ofAlerts("Alertmanager", alerts, err)
}
