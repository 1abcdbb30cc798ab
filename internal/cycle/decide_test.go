package cycle

import (
	"fmt"
	"testing"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/status"
)

var (
	open   = gate.Verdict{Open: true}
	closed = gate.Verdict{Reason: status.LogindUnavailable, Detail: "no bus"}
	apt    = gate.Verdict{Reason: status.Inhibited, Detail: "apt", Passing: true}
)

// The table of the design: entry × mark × boot, for a node that wants to
// reboot with all gates open.
func TestDecideTable(t *testing.T) {
	verbs := map[Verb]string{Acquire: "acquire", Cordon: "cordon", PreDrain: "pre-drain", Drain: "drain", Reboot: "reboot", AwaitReturn: "await return",
		Uncordon: "uncordon", HoldFast: "hold", Finish: "finish", Verify: "verify", RollBack: "roll back", ComeBack: "come back"}
	for _, c := range []struct {
		entry                   Entry
		mark                    Mark
		cordoned                bool
		run, comeBack, givingUp Verb
	}{
		{NoEntry, NoMark, false, Acquire, Finish, Finish},
		{NoEntry, NoMark, true, Acquire, Finish, Finish}, // a person's cordon
		{NoEntry, ThisBootMark, true, Uncordon, Finish, RollBack},
		{NoEntry, ThisBootMark, false, Uncordon, Finish, RollBack}, // only the mark is left
		{NoEntry, OtherBootMark, true, AwaitReturn, Verify, RollBack},
		{NoEntry, OtherBootMark, false, AwaitReturn, Verify, RollBack},

		{ThisBootEntry, NoMark, false, Cordon, Finish, RollBack},
		{ThisBootEntry, NoMark, true, Cordon, Finish, RollBack}, // cordoned by a person: what else comes with ours
		{ThisBootEntry, ThisBootMark, true, PreDrain, Finish, RollBack},
		{ThisBootEntry, ThisBootMark, false, Cordon, Finish, RollBack}, // somebody uncordoned meanwhile
		{ThisBootEntry, OtherBootMark, true, Cordon, Finish, RollBack},
		{ThisBootEntry, OtherBootMark, false, Cordon, Finish, RollBack},

		{OtherBootEntry, NoMark, false, AwaitReturn, Verify, RollBack},
		{OtherBootEntry, NoMark, true, AwaitReturn, Verify, RollBack},
		{OtherBootEntry, ThisBootMark, true, AwaitReturn, Verify, RollBack},
		{OtherBootEntry, OtherBootMark, true, AwaitReturn, Verify, RollBack},
		{OtherBootEntry, OtherBootMark, false, AwaitReturn, Verify, RollBack},

		{UnreadableEntry, NoMark, false, HoldFast, HoldFast, HoldFast},
		{UnreadableEntry, ThisBootMark, true, HoldFast, HoldFast, HoldFast},
		{UnreadableEntry, OtherBootMark, true, HoldFast, HoldFast, HoldFast},
	} {
		for mode, want := range map[Mode]Verb{Run: c.run, Return: c.comeBack, Abandon: c.givingUp} {
			o := Observation{Mode: mode, Known: true, Entry: c.entry, Mark: c.mark, Cordoned: c.cordoned, Want: WantReboot, Gates: open}
			if got := Decide(o); got.Do != want {
				t.Errorf("mode %d entry %d mark %d cordoned %v: %s, want %s", mode, c.entry, c.mark, c.cordoned, verbs[got.Do], verbs[want])
			}
		}
	}
}

func TestDecideDetails(t *testing.T) {
	holding := Observation{Known: true, Entry: ThisBootEntry, Mark: ThisBootMark, Cordoned: true, Want: WantReboot, Gates: open}
	free := Observation{Known: true, Want: WantReboot, Gates: open}
	with := func(o Observation, change func(*Observation)) Observation { change(&o); return o }
	for _, c := range []struct {
		name   string
		o      Observation
		do     Verb
		phase  status.Phase
		reason status.Reason
	}{
		{"nothing known yet", Observation{Want: WantReboot, Gates: open}, Learn, status.Starting, ""},
		{"nothing wanted", with(free, func(o *Observation) { o.Want = WantNothing }), WaitForDemand, status.Idle, ""},
		{"sentinel unreadable", with(free, func(o *Observation) { o.Want = WantUnknown }), WaitForDemand, status.Blocked, status.SentinelUnreadable},
		{"gate closed", with(free, func(o *Observation) { o.Gates = closed }), WaitForGates, status.Blocked, status.LogindUnavailable},
		{"gate closed, in the room", with(free, func(o *Observation) { o.Gates = closed; o.Waiting = true }), LeaveRoom, status.Blocked, status.LogindUnavailable},
		{"no demand, in the room", with(free, func(o *Observation) { o.Want = WantNothing; o.Waiting = true }), LeaveRoom, status.Idle, ""},
		{"budget spent", with(free, func(o *Observation) { o.Gates = gate.Verdict{Reason: status.RebootBudget} }), WaitForGates, status.Held, status.RebootBudget},
		{"after a roll back", with(free, func(o *Observation) { o.Resting = true }), WaitBackOff, status.BackingOff, ""},
		{"in the room, all well", with(free, func(o *Observation) { o.Waiting = true }), Acquire, status.Queued, ""},

		{"holding: sentinel gone", with(holding, func(o *Observation) { o.Want = WantNothing }), RollBack, status.RollingBack, status.SentinelGone},
		{"holding: sentinel unreadable", with(holding, func(o *Observation) { o.Want = WantUnknown }), RollBack, status.RollingBack, status.SentinelUnreadable},
		{"holding: gate closed", with(holding, func(o *Observation) { o.Gates = closed; o.Patient = true }), RollBack, status.RollingBack, status.LogindUnavailable},
		{"holding: apt runs, patience", with(holding, func(o *Observation) { o.Gates = apt; o.Patient = true }), WaitForGates, status.Draining, status.Inhibited},
		{"holding: apt runs, no patience left", with(holding, func(o *Observation) { o.Gates = apt }), RollBack, status.RollingBack, status.Inhibited},
		{"just taken: apt runs", with(holding, func(o *Observation) { o.Gates = apt; o.Patient = true; o.Mark = NoMark; o.Cordoned = false }), RollBack, status.RollingBack, status.Inhibited},
		{"holding: drain failed", with(holding, func(o *Observation) { o.Failure = &Failure{Reason: status.DrainTimeout} }), RollBack, status.RollingBack, status.DrainTimeout},
		{"holding: drain failed, a person is to come", with(holding, func(o *Observation) { o.Failure = &Failure{Reason: status.DrainTimeout, Hold: true} }), HoldFast, status.Held, status.DrainTimeout},
		{"the same, and the sentinel goes", with(holding, func(o *Observation) {
			o.Failure = &Failure{Reason: status.DrainTimeout, Hold: true}
			o.Want = WantNothing
		}), RollBack, status.RollingBack, status.SentinelGone},
		{"cordoned by a person", with(holding, func(o *Observation) { o.Mark = NoMark; o.Next = PreDrain }), Cordon, status.Locked, ""},
		{"cordoned by a person, seen to", with(holding, func(o *Observation) { o.Mark = NoMark; o.Begun = true; o.Next = Drain }), Drain, status.Draining, ""},
		{"hooks before the drain are done", with(holding, func(o *Observation) { o.Next = Drain }), Drain, status.Draining, ""},
		{"drained, volumes are attached", with(holding, func(o *Observation) { o.Next = Detach }), Detach, status.Draining, ""},
		{"all done", with(holding, func(o *Observation) { o.Next = Reboot }), Reboot, status.Rebooting, ""},
		{"all done, then uncordoned by a person", with(holding, func(o *Observation) { o.Next = Reboot; o.Cordoned = false }), Cordon, status.Locked, ""},

		{"to be rehearsed", with(free, func(o *Observation) { o.Preflight = PreflightDue }), Rehearse, status.Queued, ""},
		{"the drain would not end", with(free, func(o *Observation) { o.Preflight = PreflightBlocked }), WaitPreflight, status.Blocked, status.DrainBlocked},
		{"the same, in the room", with(free, func(o *Observation) { o.Preflight = PreflightBlocked; o.Waiting = true }), LeaveRoom, status.Blocked, status.DrainBlocked},
		{"dry run: asks like others", with(free, func(o *Observation) { o.DryRun = true }), Acquire, status.Queued, ""},
		{"dry run: our turn", with(holding, func(o *Observation) { o.DryRun = true; o.Mark = NoMark; o.Cordoned = false }), ShowPlan, status.Locked, ""},
		{"dry run: cordoned before it was asked for", with(holding, func(o *Observation) { o.DryRun = true }), RollBack, status.RollingBack, status.DryRun},
		{"going down", with(holding, func(o *Observation) { o.ShuttingDown = true; o.Want = WantNothing }), AwaitShutdown, status.Rebooting, ""},
		{"holding, back-off of the try before still runs", with(holding, func(o *Observation) { o.Resting = true }), PreDrain, status.Draining, ""},

		{"released by an admin", with(free, func(o *Observation) { o.Mark = ThisBootMark; o.Released = "by alice" }), Uncordon, status.RollingBack, status.LockLost},
		{"released by an admin before the cordon", with(free, func(o *Observation) { o.Released = "by alice"; o.Want = WantNothing }), Acknowledge, status.RollingBack, status.LockLost},
		{"released by an admin, then rebooted", with(free, func(o *Observation) { o.Mark = OtherBootMark; o.Released = "by alice" }), AwaitReturn, status.Returning, status.AwaitingReturn},

		{"return: verified", Observation{Mode: Return, Known: true, Entry: OtherBootEntry, Verified: true}, ComeBack, status.Returning, ""},
		{"return: takes too long", Observation{Mode: Return, Known: true, Entry: OtherBootEntry, Mark: OtherBootMark, GiveUp: true}, GiveUp, status.Returning, status.GaveUp},
		{"return: takes too long, uncordoned already", Observation{Mode: Return, Known: true, Entry: OtherBootEntry, GiveUp: true}, GiveUp, status.Returning, status.GaveUp},
		{"return: took too long, the lock is given back", Observation{Mode: Return, Known: true, Mark: OtherBootMark, GiveUp: true}, Verify, status.Returning, status.GaveUp},
		{"return: takes too long, but an admin was quicker", Observation{Mode: Return, Known: true, Mark: OtherBootMark, GiveUp: true, Released: "by alice"}, Verify, status.Returning, status.NotReady},
		{"return: well at last", Observation{Mode: Return, Known: true, Mark: OtherBootMark, GiveUp: true, Verified: true}, ComeBack, status.Returning, ""},
		{"return: mark only, verified", Observation{Mode: Return, Known: true, Mark: OtherBootMark, Verified: true}, ComeBack, status.Returning, ""},
		{"abandon: in the room", Observation{Mode: Abandon, Known: true, Waiting: true}, RollBack, status.RollingBack, status.Abandoned},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Decide(c.o)
			if got.Do != c.do || got.Phase != c.phase || got.Reason != c.reason {
				t.Errorf("got do %d phase %s reason %q, want do %d phase %s reason %q", got.Do, got.Phase, got.Reason, c.do, c.phase, c.reason)
			}
		})
	}
}

// Every observation there can be: the LAWs hold whatever is seen.
func TestDecideKeepsTheLaws(t *testing.T) {
	count := 0
	every(func(o Observation) {
		count++
		act := Decide(o)
		fail := func(law string) { t.Errorf("%s: %+v -> %+v", law, o, act) }
		cordoned := o.Cordoned
		if act.Do == Reboot && (o.Mode != Run || o.Entry != ThisBootEntry || o.Want != WantReboot || !o.Gates.Open ||
			!cordoned || o.Next != Reboot || o.Failure != nil || o.ShuttingDown || o.DryRun) {
			fail("no reboot without lock, demand, open gates, cordon and drain (1, 5)")
		}
		touches := act.Do >= Cordon && act.Do <= Reboot
		if touches && o.Entry != ThisBootEntry {
			fail("no cordon, no drain without the lock (1)")
		}
		if touches && act.Do != Cordon && !cordoned {
			fail("nothing is done to a node that takes new pods")
		}
		if touches && o.DryRun {
			fail("a dry run touches nothing")
		}
		if act.Do == Acquire && (o.Preflight != PreflightDone || !o.Gates.Open) {
			fail("nobody queues who could not go on (5)")
		}
		if act.Do == GiveUp && (o.Entry != OtherBootEntry || o.Verified || !o.GiveUp) {
			fail("only the lock of a reboot that is not proved well is given up")
		}
		if (act.Do == Verify || act.Do == ComeBack) && o.Entry != OtherBootEntry && o.Mark != OtherBootMark {
			fail("without a new boot id there was no reboot (2)")
		}
		if act.Do == ComeBack && !o.Verified {
			fail("no way back without proof of health")
		}
		if act.Do == Uncordon && o.Mark == NoMark {
			fail("only our own cordon is undone (3)")
		}
		if act.Do == Acknowledge && (o.Entry != NoEntry || o.Released == "") {
			fail("nobody released the lock")
		}
		if o.Mode == Run && o.Known && o.Entry == NoEntry && o.Released != "" && act.Do != Uncordon && act.Do != Acknowledge && act.Do != AwaitReturn {
			fail("a release by somebody else comes before all else (4)")
		}
		if o.Known && o.Entry == UnreadableEntry && act.Do != HoldFast {
			fail("what cannot be read holds (5)")
		}
		if act.Do == HoldFast && o.Entry != UnreadableEntry && (o.Entry != ThisBootEntry || o.Failure == nil || !o.Failure.Hold) {
			fail("held without having been asked to (4)")
		}
		if o.Mode == Run && o.Known && (o.Entry == OtherBootEntry) && act.Do != AwaitReturn {
			fail("the way back belongs to kured-uncordon.service")
		}
		if act.Do == WaitForDemand && (o.Waiting || o.Entry != NoEntry || o.Mark != NoMark) {
			fail("idle with something of ours in the cluster (4, 7)")
		}
		if (act.Phase == status.Held || act.Phase == status.Blocked || act.Phase == status.RollingBack) && act.Reason == "" {
			fail("never stopped without a reason (4)")
		}
		if !o.Known && act.Do != Learn {
			fail("nothing is done unseen")
		}
	})
	if count < 10000 {
		t.Errorf("only %d observations", count)
	}
}

func every(visit func(Observation)) {
	bools := []bool{false, true}
	ways := []struct {
		next      Verb
		preflight Preflight
	}{{PreDrain, PreflightDone}, {Drain, PreflightDue}, {Reboot, PreflightBlocked}, {Reboot, PreflightDone}}
	for mode := Run; mode <= Abandon; mode++ {
		for _, known := range bools {
			for entry := NoEntry; entry <= UnreadableEntry; entry++ {
				for mark := NoMark; mark <= OtherBootMark; mark++ {
					for want := WantNothing; want <= WantUnknown; want++ {
						for _, g := range []gate.Verdict{open, closed, apt} {
							for _, failure := range []*Failure{nil, {Reason: status.DrainTimeout, Detail: "x"}, {Reason: status.DrainTimeout, Hold: true}} {
								for bits := range 512 {
									released := ""
									if bits&128 != 0 {
										released = "lock released by alice: x"
									}
									for _, way := range ways {
										visit(Observation{
											Released: released,
											Mode:     mode, Known: known, Entry: entry, Mark: mark, Want: want, Gates: g, Failure: failure,
											Waiting: bits&1 != 0, Cordoned: bits&2 != 0, Patient: bits&4 != 0, Resting: bits&8 != 0,
											ShuttingDown: bits&16 != 0, Verified: bits&32 != 0, GiveUp: bits&64 != 0, DryRun: bits&256 != 0,
											Next: way.next, Preflight: way.preflight,
										})
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func ExampleDecide() {
	fmt.Println(Decide(Observation{Known: true, Entry: ThisBootEntry, Mark: ThisBootMark, Cordoned: true}).Detail)
	// Output: the reboot is not required any more
}
