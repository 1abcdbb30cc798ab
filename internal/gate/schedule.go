package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/kured-host/kured/internal/schedule"
	"github.com/kured-host/kured/internal/status"
)

// Schedule is open in the windows and outside the freezes. What remains of a
// window has to suffice only for a node that has begun nothing: who holds the
// lock goes on until the window closes.
type Schedule struct {
	Schedule schedule.Schedule
	Now      func() time.Time
}

// Name implements Gate.
func (Schedule) Name() status.Gate { return status.GateSchedule }

// Check looks at the clock.
func (g Schedule) Check(_ context.Context, at Moment) Verdict {
	s := g.Schedule.At(g.Now())
	next := "no time is in sight in which it may reboot"
	if !s.Next.IsZero() {
		next = "it may from " + s.Next.Format(time.RFC3339) + " on"
	}
	closed := func(reason status.Reason, why string) Verdict {
		return Verdict{Reason: reason, Detail: why + "; " + next, Next: s.Next}
	}
	switch {
	case s.Kind == schedule.Open, s.Kind == schedule.Ending && at == Within:
		return Verdict{Open: true}
	case s.Kind == schedule.Ending && !s.Freeze.From.IsZero():
		return closed(status.WindowEnding, fmt.Sprintf("a freeze begins at %s%s, sooner than a reboot takes", s.Until.Format(time.RFC3339), because(s.Freeze.Reason)))
	case s.Kind == schedule.Ending:
		return closed(status.WindowEnding, fmt.Sprintf("the window ends at %s, sooner than a reboot takes", s.Until.Format(time.RFC3339)))
	case s.Kind == schedule.Frozen:
		return closed(status.Frozen, fmt.Sprintf("frozen until %s%s", s.Until.Format(time.RFC3339), because(s.Freeze.Reason)))
	}
	return closed(status.OutsideWindow, "outside the windows")
}

// Watch signals when a window or a freeze begins or ends, or too little remains.
func (g Schedule) Watch(ctx context.Context) (<-chan struct{}, error) {
	return alarm(ctx, g.Now, func(now time.Time) time.Time { return g.Schedule.At(now).Change }), nil
}

// because is a reason that somebody gave, in brackets; nothing if there is none.
func because(reason string) string {
	if reason = status.Clean(reason, longest); reason == "" {
		return ""
	}
	return " (" + reason + ")"
}
