package gate

import (
	"context"
	"errors"

	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
)

// Login is what the inhibitor gate asks of logind.
type Login interface {
	BlockInhibitors(ctx context.Context) ([]logind.Inhibitor, error)
	MayReboot(ctx context.Context) error // *logind.ScheduledError: but somebody has scheduled a shutdown
	WatchInhibitors(ctx context.Context) (<-chan struct{}, error)
}

// Inhibitors is open while nobody holds a block inhibitor against shutdown,
// nobody has scheduled a shutdown that the reboot would foil, and logind would
// reboot. It looks itself because logind before systemd 257 lets root pass block
// inhibitors (systemd-inhibit(1), org.freedesktop.login1(5)), and every logind
// forgets what is scheduled when it is told to reboot.
type Inhibitors struct {
	Login Login
	// Announced says that the reboot will be announced, for which logind's schedule
	// has but one place. Otherwise a reboot that somebody has scheduled is in
	// nobody's way: this one does the same, when it is the node's turn, and drained.
	Announced bool
}

// Name implements Gate.
func (Inhibitors) Name() status.Gate { return status.GateInhibitors }

// Check asks logind for the inhibitors, then whether it may reboot at all.
func (g Inhibitors) Check(ctx context.Context, at Moment) Verdict {
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
	var other *logind.ScheduledError
	switch err := g.Login.MayReboot(ctx); {
	case err == nil, errors.As(err, &other) && other.Reboots() && !g.Announced:
		return Verdict{Open: true}
	case other != nil && other.Begun && at == Within: // the lock stays where it is while the machine goes down
		return Verdict{Open: true}
	case other != nil: // before systemd 257 nobody tells that it is cancelled
		return Verdict{Reason: status.ShutdownScheduled, Detail: err.Error(), Unsure: true}
	default:
		return Verdict{Reason: status.LogindUnavailable, Detail: err.Error(), Unsure: true}
	}
}

// Watch signals when an inhibitor came or went, or what is scheduled changed.
func (g Inhibitors) Watch(ctx context.Context) (<-chan struct{}, error) {
	return g.Login.WatchInhibitors(ctx)
}
