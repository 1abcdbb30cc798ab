package gate

import (
	"context"
	"fmt"

	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
)

// Login is what the inhibitor gate asks of logind.
type Login interface {
	CanReboot(ctx context.Context) (string, error)
	BlockInhibitors(ctx context.Context) ([]logind.Inhibitor, error)
	WatchInhibitors(ctx context.Context) (<-chan struct{}, error)
}

// Inhibitors is open while nobody holds a block inhibitor against shutdown and
// logind would reboot. It looks itself because logind before systemd 257 lets
// root pass block inhibitors (systemd-inhibit(1), org.freedesktop.login1(5)).
type Inhibitors struct {
	Login Login
}

// Name implements Gate.
func (Inhibitors) Name() status.Gate { return status.GateInhibitors }

// Check asks logind for the inhibitors, then whether it can reboot at all.
func (g Inhibitors) Check(ctx context.Context, _ Moment) Verdict {
	held, err := g.Login.BlockInhibitors(ctx)
	if err != nil {
		return Verdict{Reason: status.LogindUnavailable, Detail: err.Error(), Unsure: true}
	}
	if len(held) > 0 {
		names := make([]string, len(held))
		for i, h := range held {
			names[i] = h.String()
		}
		return Verdict{Reason: status.Inhibited, Detail: status.Few(names, most), Passing: true}
	}
	switch answer, err := g.Login.CanReboot(ctx); {
	case err != nil:
		return Verdict{Reason: status.LogindUnavailable, Detail: err.Error(), Unsure: true}
	case answer != "yes":
		return Verdict{Reason: status.LogindUnavailable, Detail: fmt.Sprintf("logind answers %q when asked whether this machine can reboot", answer), Unsure: true}
	}
	return Verdict{Open: true}
}

// Watch signals when an inhibitor came or went.
func (g Inhibitors) Watch(ctx context.Context) (<-chan struct{}, error) {
	return g.Login.WatchInhibitors(ctx)
}
