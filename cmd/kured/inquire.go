package main

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// inquiryLimit bounds a question to all gates.
const inquiryLimit = 20 * time.Second

// inquire asks every gate for a person, those behind a closed one too, whether
// or not a reboot is wanted. It has a connection of its own, because the cycle's
// may not exist.
func (p *program) inquire(ctx context.Context, phase status.Phase) []status.GateState {
	ctx, cancel := context.WithTimeout(ctx, inquiryLimit)
	defer cancel()
	at := gate.Before
	if phase.Outbound() {
		at = gate.Within
	}
	states := p.nearGates().Ask(ctx, at)
	c, err := kube.Connect(ctx, p.identity())
	if err != nil {
		// The others cannot be asked, and the first of them says why.
		return append(states, status.GateState{Gate: status.GateNodePause, Reason: cycle.ReasonOf(err), Detail: err.Error()})
	}
	defer c.CloseIdle()
	return append(states, p.farGates(c, node.New(c.Client, c.NodeName, p.boot)).Ask(ctx, at)...)
}
