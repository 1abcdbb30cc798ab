package gate

import (
	"context"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/status"
)

// Prometheus is open while no alert of a Prometheus counts, and none of the
// queries gives anything. What has to be asked is asked of one replica that
// answers well; without such a one it is closed.
type Prometheus struct {
	Server     alert.Server
	States     alert.States // of alerts that count
	Filter     alert.Filter
	Queries    []string // PromQL: see alert.Prometheus.Query for what is empty
	UntilDrain bool     // it does not matter any more when the node holds the lock
}

// Name implements Gate.
func (Prometheus) Name() status.Gate { return status.GatePrometheus }

// Check asks for the alerts, then evaluates the queries.
func (g Prometheus) Check(ctx context.Context, at Moment) Verdict {
	if at == Within && g.UntilDrain {
		return Verdict{Open: true}
	}
	prometheus := g.Server.Prometheus()
	alerts, err := prometheus.Alerts(ctx, g.States, g.Filter)
	if v := ofAlerts("Prometheus", alerts, err); !v.Open {
		return v
	}
	for _, query := range g.Queries {
		result, err := prometheus.Query(ctx, query)
		switch {
		case err != nil:
			return Verdict{Reason: status.QueryUnreadable, Detail: "the query " + alert.QueryText(query) + " cannot be answered: " + err.Error()}
		case result != "":
			return Verdict{Reason: status.QueryBlocks, Detail: "the query " + alert.QueryText(query) + " gives " + result}
		}
	}
	return Verdict{Open: true}
}

// ofAlerts is the verdict on the alerts that count.
func ofAlerts(program string, alerts []alert.Alert, err error) Verdict {
	switch {
	case err != nil:
		return Verdict{Reason: status.AlertsUnreadable, Detail: program + " cannot be asked for alerts: " + err.Error()}
	case len(alerts) > 0:
		return Verdict{Reason: status.AlertsFiring, Detail: alert.Summary(alerts)}
	}
	return Verdict{Open: true}
}
