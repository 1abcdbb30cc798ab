package gate

import (
	"context"
	"sync"

	"github.com/kured-host/kured/internal/status"
)

// States tells what each gate said when Check gave this verdict. Those behind
// the one that is closed were not asked, and are not in it.
func (s Set) States(last Verdict) []status.GateState {
	var all []status.GateState
	for i, g := range s.Gates {
		switch {
		case last.Open || i < last.by-1:
			all = add(all, g.Name(), Verdict{Open: true})
		case i == last.by-1:
			all = add(all, g.Name(), last)
		}
	}
	return all
}

// Ask asks every gate, those behind a closed one too: for people who want to
// know all that is in the way.
func (s Set) Ask(ctx context.Context, at Moment) []status.GateState {
	verdicts := make([]Verdict, len(s.Gates))
	var asking sync.WaitGroup
	for i, g := range s.Gates {
		asking.Go(func() { verdicts[i] = g.Check(ctx, at) })
	}
	asking.Wait()
	var all []status.GateState
	for i, g := range s.Gates {
		all = add(all, g.Name(), verdicts[i])
	}
	return all
}

// add adds a verdict. Of several gates of one name the first closed one speaks.
func add(all []status.GateState, name status.Gate, v Verdict) []status.GateState {
	s := status.GateState{Gate: name, Open: v.Open, Reason: v.Reason, Detail: v.Detail}
	if !v.Next.IsZero() {
		next := v.Next.Round(0).UTC()
		s.Next = &next
	}
	for i := range all {
		if all[i].Gate == name {
			if all[i].Open {
				all[i] = s
			}
			return all
		}
	}
	return append(all, s)
}
