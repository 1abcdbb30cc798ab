package gate

import (
	"context"
	"fmt"

	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// Sentinel is open while a sentinel file asks for the reboot. It reads the
// file system itself and trusts no event that came before.
type Sentinel struct {
	Paths []string // absolute
}

// Name implements Gate.
func (Sentinel) Name() status.Gate { return status.GateSentinel }

// Check looks for the sentinel files now.
func (g Sentinel) Check(context.Context, Moment) Verdict {
	switch s := sentinel.Read(g.Paths); {
	case s.Wanted:
		return Verdict{Open: true}
	case s.Err != nil:
		return Verdict{Reason: status.SentinelUnreadable, Detail: s.Err.Error(), Unsure: true}
	}
	return Verdict{Reason: status.SentinelGone, Detail: fmt.Sprintf("no sentinel file any more (%s)", status.Few(g.Paths, most))}
}

// Watch never signals: the cycle itself notices every change of the sentinel.
func (g Sentinel) Watch(ctx context.Context) (<-chan struct{}, error) {
	never := make(chan struct{})
	context.AfterFunc(ctx, func() { close(never) })
	return never, nil
}
