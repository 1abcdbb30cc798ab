//go:build e2e

package e2e

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
)

// allReturn is the end of every ordeal: each node that wanted to reboot has
// done so exactly once, came back and was uncordoned only then; there was
// never more than one holder; no other node did anything; and the journals tell
// of no reboot that was none.
func (o *ordeal) allReturn(wanted ...*nodes.Node) {
	o.t.Helper()
	for _, n := range wanted {
		ctx, cancel := cluster.Within(o.ctx, 90*time.Second, "the reboot of "+n.Name)
		_, err := n.WaitBooted(ctx, o.before[n.Name])
		cancel()
		o.must(err)
	}
	ctx, cancel := cluster.Within(o.ctx, 90*time.Second, "rest after the reboots")
	defer cancel()
	o.must(o.AtRest(ctx))
	h, after := o.history(), o.bootIDs()
	if h.Relisted() {
		o.t.Log("the API server has forgotten some versions; the journals have to tell who held the lock")
	}
	if h.MaxHolders() > 1 || h.MaxCordoned() > 1 {
		o.t.Errorf("%d holders and %d cordoned nodes at once", h.MaxHolders(), h.MaxCordoned())
	}
	o.checkTurns()
	for _, n := range o.Room.Nodes() {
		if slices.Contains(wanted, n) {
			o.checkReturn(h, n, after[n.Name])
			continue
		}
		if after[n.Name] != o.before[n.Name] || len(o.told(n, "lock taken")) > 0 {
			o.t.Errorf("%s did not want a reboot: boots %+v", n.Name, n.Boots())
		}
	}
	if left := o.Recorder.State().Cordoned(); len(left) > 0 {
		o.t.Errorf("cordoned at the end: %v", left)
	}
}

// checkReturn judges one node that wanted to reboot.
func (o *ordeal) checkReturn(h cluster.History, n *nodes.Node, after string) {
	o.t.Helper()
	before := o.before[n.Name]
	if got := n.BootCount() - o.boots[n.Name]; got != 1 || after == before {
		o.t.Errorf("%s booted %d times: %+v", n.Name, got, n.Boots())
	}
	if ids := h.BootIDs(n.Name); !slices.Equal(ids, []string{before, after}) {
		o.t.Errorf("%s: recorded boot ids %v, want %s and then %s", n.Name, ids, before, after)
	}
	held := slices.DeleteFunc(h.HolderSpans(), func(s cluster.Span) bool { return s.Node != n.Name })
	if len(held) != 1 {
		o.t.Errorf("%s held the lock %d times", n.Name, len(held))
	}
	cordoned := false
	h.States(func(_ time.Time, s cluster.State) bool {
		if cordoned && !s.IsCordoned(n.Name) && (s.BootID(n.Name) != after || !s.IsReady(n.Name)) {
			o.t.Errorf("%s was uncordoned too early: %s", n.Name, s)
		}
		cordoned = s.IsCordoned(n.Name)
		return true
	})

	// The journal: only the new boot speaks of a reboot, once, and rightly.
	o.tells(n, "back in service")
	if took := o.told(n, "lock taken"); len(took) != 1 || took[0].Boot != before {
		o.t.Errorf("%s tells that it took the lock: %v", n.Name, took)
	}
	rebooted := o.told(n, "rebooted: the boot id changed")
	if len(rebooted) == 0 {
		o.t.Errorf("%s does not tell of its reboot", n.Name)
	}
	for _, e := range append(rebooted, o.told(n, "back in service")...) {
		if e.Boot != after || e.Unit != "kured-uncordon.service" {
			o.t.Errorf("%s: %s of boot %s tells: %s", n.Name, e.Unit, e.Boot, e.Message)
		}
	}
	for _, e := range rebooted {
		if e.Fields["KURED_BOOT_BEFORE"] != before || e.Fields["KURED_BOOT"] != after {
			o.t.Errorf("%s tells of a reboot from %s to %s, want %s to %s", n.Name,
				e.Fields["KURED_BOOT_BEFORE"], e.Fields["KURED_BOOT"], before, after)
		}
	}
	if back := o.told(n, "back in service"); len(back) != 1 || back[0].Fields["KURED_UNCORDONED"] != "true" {
		o.t.Errorf("%s tells of its return: %v", n.Name, back)
	}
}

// checkTurns reads from the journals of all nodes, which share one clock, that
// nobody took the lock while another one had it.
func (o *ordeal) checkTurns() {
	o.t.Helper()
	type event struct {
		at   time.Time
		node string
		took bool
	}
	var events []event
	for _, n := range o.Room.Nodes() {
		for _, e := range o.told(n, "") {
			took := e.Message == "lock taken" || strings.HasPrefix(e.Message, "lock taken ")
			// Both come before the lock is given back, or with it.
			gave := strings.HasPrefix(e.Message, "node is well in this boot") || strings.HasPrefix(e.Message, "rolled back")
			if took || gave {
				events = append(events, event{sent(e), n.Name, took})
			}
		}
	}
	slices.SortFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	holds := map[string]bool{}
	for _, e := range events {
		if delete(holds, e.node); !e.took {
			continue
		}
		if len(holds) > 0 {
			o.t.Errorf("%s took the lock while %v held it", e.node, slices.Collect(maps.Keys(holds)))
		}
		holds[e.node] = true
	}
}

// sent is when a message was sent; a busy journald may have received it later.
func sent(e nodes.Entry) time.Time {
	if micros, err := strconv.ParseInt(e.Fields["_SOURCE_REALTIME_TIMESTAMP"], 10, 64); err == nil {
		return time.UnixMicro(micros)
	}
	return e.Time
}

// stayedUp checks that a node is still in the boot in which the story began.
func (o *ordeal) stayedUp(n *nodes.Node) (bool, error) {
	id, err := n.BootID()
	return id == o.before[n.Name], err
}
