package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// What an acquisition looks at beside the lock object: the policy, the Nodes of
// the pool, who is gone, and whether the API server keeps the rules.

// fresh is for how long what was read beside the lock object serves for the
// next write: the policy and the pool are looked at once for each attempt.
const fresh = time.Second

// learnRules reads the policy at the begin, before each attempt to take, and
// once in a while; not where the full room is in the way already.
func (a *acquisition) learnRules(ctx context.Context, turn Turn) error {
	if a.Rules == nil || turn.Move == Outside {
		return nil
	}
	keep := a.Pace.Evidence / 2
	if turn.Move == Take {
		keep = fresh
	}
	if !a.ruledAt.IsZero() && time.Since(a.ruledAt) < keep {
		return nil
	}
	p, err := a.policy(ctx)
	if err != nil {
		return err
	}
	a.ruling, a.ruledAt = p, time.Now()
	return nil
}

// learnPool lists the Nodes, once for each attempt.
func (a *acquisition) learnPool(ctx context.Context, turn Turn) error {
	keep := fresh
	if turn.Move == Outside {
		keep = slowly
	}
	if a.Fleet == nil || a.refused || !a.pooledAt.IsZero() && time.Since(a.pooledAt) < keep {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.Pace.Call)
	defer cancel()
	peers, err := a.Fleet.Nodes(ctx)
	switch {
	case errors.Is(err, ErrListRefused):
		if a.MinReady != (intstr.IntOrString{}) {
			return status.Because(status.NodesUnreadable, fmt.Errorf("lock.min_ready cannot be kept: %w", err))
		}
		a.refused, a.uncounted = true, err.Error()
		return nil
	case err != nil:
		return status.Because(status.NodesUnreadable, err)
	}
	a.pool, a.pooledAt = Pool{Known: true, Peers: peers}, time.Now()
	return nil
}

// learnEnforced finds out, once, whether the API server keeps the rules itself.
// It only matters for what is told, so an error is no answer.
func (a *acquisition) learnEnforced(ctx context.Context) {
	if a.Rules == nil || a.enforced != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.Pace.Call)
	defer cancel()
	if yes, err := a.Rules.Enforced(ctx, a.Node); err == nil {
		a.enforced = &yes
	}
}

// slowly is how seldom each of perhaps thousands of nodes outside the room
// looks at what those in it look at.
const slowly = time.Hour

// evidenceEvery is how often we look for evidence. The first in the room does
// most of it; those behind it, and outside, because it may be dead.
func (a *acquisition) evidenceEvery(turn Turn) time.Duration {
	switch {
	case turn.Move == Outside:
		return slowly
	case turn.Move == Take || turn.First:
		return a.Pace.Evidence
	}
	return a.Pace.Evidence * time.Duration(max(1, turn.Queue.Place))
}

// lookForGone returns the burial of the entries in our way whose Node does not
// exist, or is another object than the one that wrote the entry: those that
// hold, those that sleep, and those that we are about to overtake.
func (a *acquisition) lookForGone(ctx context.Context, turn Turn) Edit {
	suspects, checked := slices.Clone(turn.Passed), &a.passedAt
	if turn.Move != Take {
		suspects, checked = append(suspects, turn.Queue.Holders...), &a.checked
		if a.checked.IsZero() && (turn.Move == Outside || !turn.First) {
			a.checked = time.Now() // not all at once, when many begin to ask
		}
	}
	if a.Evidence == nil || len(suspects) == 0 || time.Since(*checked) < a.evidenceEvery(turn) {
		return Edit{}
	}
	*checked = time.Now()
	alive := map[string]string{}
	for _, name := range suspects {
		call, cancel := context.WithTimeout(ctx, a.Pace.Call)
		uid, found, err := a.Evidence.NodeUID(call, name)
		cancel()
		switch {
		case err != nil: // no answer is no evidence
		case found:
			alive[name] = uid
		default:
			alive[name] = ""
		}
	}
	return bury(a.snap.State, alive)
}
