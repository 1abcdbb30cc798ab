package lock

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

func amount(n int) intstr.IntOrString { return intstr.FromInt32(int32(n)) }

func TestAsk(t *testing.T) {
	asker := Asker{Node: "me", Max: amount(1), Room: 3, Stagger: 10 * time.Second}
	with := func(change func(*Asker)) Asker { a := asker; change(&a); return a }
	w := encode(waits(1, 0))
	for _, c := range []struct {
		name   string
		data   map[string]string
		asker  Asker
		move   Move
		reason status.Reason
		after  time.Duration
		place  int
	}{
		{"free and empty", nil, asker, Take, "", 0, 0},
		{"held by another", map[string]string{"holder.a": encode(holds(1))}, asker, Join, status.LockFull, 0, 0},
		{"held by us", map[string]string{"holder.me": encode(holds(1))}, asker, Hold, "", 0, 0},
		{"our entry is garbage", map[string]string{"holder.me": "x"}, asker, Stuck, status.EntryForeign, 0, 0},
		{"another's entry is garbage", map[string]string{"holder.a": "x"}, asker, Join, status.LockUnreadable, 0, 0},
		{"an unknown key", map[string]string{"frozen": "x"}, asker, Join, status.LockUnreadable, 0, 0},
		{"garbage of a waiter does not hold", map[string]string{"waiter.a": "x"}, asker, Take, "", 0, 0},

		{"two slots, one held", map[string]string{"holder.a": encode(holds(2))}, with(func(a *Asker) { a.Max = amount(2) }), Take, "", 0, 0},
		{"tightest wins: ours", map[string]string{"holder.a": encode(holds(2))}, asker, Join, status.LockFull, 0, 0},
		{"tightest wins: theirs", map[string]string{"holder.a": encode(holds(1))}, with(func(a *Asker) { a.Max = amount(5) }), Join, status.LockFull, 0, 0},
		{"tightest wins: one of many", map[string]string{"holder.a": encode(holds(9)), "holder.b": encode(holds(2))}, with(func(a *Asker) { a.Max = amount(5) }), Join, status.LockFull, 0, 0},
		{"garbage counts beside holders", map[string]string{"holder.a": encode(holds(2)), "holder.b": "x"}, with(func(a *Asker) { a.Max = amount(2) }), Join, status.LockUnreadable, 0, 0},

		{"free, we are first", map[string]string{"waiter.me": encode(waits(0, 0)), "waiter.a": w}, asker, Take, "", 0, 1},
		{"free, we are second", map[string]string{"waiter.me": encode(waits(2, 0)), "waiter.a": w}, asker, Wait, status.BehindOthers, 10 * time.Second, 2},
		{"priority goes first", map[string]string{"waiter.me": encode(waits(2, 5)), "waiter.a": w}, asker, Take, "", 0, 1},
		{"by name among equals", map[string]string{"waiter.me": w, "waiter.z": w}, asker, Take, "", 0, 1},
		{"second, two slots free", map[string]string{"waiter.me": encode(waits(2, 0)), "waiter.a": w}, with(func(a *Asker) { a.Max = amount(2) }), Take, "", 0, 2},
		{"free, newcomer is behind all", map[string]string{"waiter.a": w}, asker, Join, status.BehindOthers, 0, 0},
		{"full, in the room", map[string]string{"holder.b": encode(holds(1)), "waiter.me": encode(waits(0, 0))}, asker, Wait, status.LockFull, 0, 1},
		{"full, room full", map[string]string{"holder.x": encode(holds(1)), "waiter.a": w, "waiter.b": w, "waiter.c": w}, asker, Outside, status.RoomFull, 0, 0},
		{"full, room full of garbage", map[string]string{"holder.x": encode(holds(1)), "waiter.a": "x", "waiter.b": "x", "waiter.c": "x"}, asker, Outside, status.RoomFull, 0, 0},
		{"free, room full", map[string]string{"waiter.a": w, "waiter.b": w, "waiter.c": w}, asker, Outside, status.RoomFull, 0, 0},

		{"overtaking: not yet", map[string]string{"waiter.me": encode(waits(2, 0)), "waiter.a": w}, with(func(a *Asker) { a.FreeFor = 9 * time.Second }), Wait, status.BehindOthers, time.Second, 2},
		{"overtaking: now", map[string]string{"waiter.me": encode(waits(2, 0)), "waiter.a": w}, with(func(a *Asker) { a.FreeFor = 10 * time.Second }), Take, "", 0, 2},
		{"overtaking: a full lock never", map[string]string{"holder.x": encode(holds(1)), "waiter.me": encode(waits(2, 0)), "waiter.a": w}, with(func(a *Asker) { a.FreeFor = time.Hour }), Wait, status.LockFull, 0, 2},
		{"overtaking from outside a dead room", map[string]string{"waiter.a": w, "waiter.b": w, "waiter.c": w}, with(func(a *Asker) { a.FreeFor = 30 * time.Second }), Take, "", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Parse(c.data).Ask(c.asker)
			if got.Move != c.move || got.Reason != c.reason || got.After != c.after || got.Queue.Place != c.place {
				t.Errorf("got %s reason %q after %s place %d (%s)\nwant %s reason %q after %s place %d",
					got.Move, got.Reason, got.After, got.Queue.Place, got.Detail, c.move, c.reason, c.after, c.place)
			}
			if (got.Reason != "") != (got.Detail != "") {
				t.Errorf("reason %q and detail %q do not belong together", got.Reason, got.Detail)
			}
		})
	}
}

// Whatever garbage is in the object: Ask never says Take when that would make
// more holders (damaged keys counted) than the tightest limit.
func FuzzParseAsk(f *testing.F) {
	f.Add("holder.a", encode(holds(2)), "waiter.me", encode(waits(0, 1)), 2, uint8(3))
	f.Add("holder.me", "{}", "frozen", "\xff", 1, uint8(1))
	f.Add("waiter.a", `{"v":1,"since":"9999-12-31T23:59:59Z","priority":-9223372036854775808}`, "waiter.b", `{"v":1,"priority":9223372036854775807}`, 1, uint8(0))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, limit int, room uint8) {
		if limit < 1 || room < 1 {
			return
		}
		data := map[string]string{k1: v1, k2: v2}
		s := Parse(data)
		turn := s.Ask(Asker{Node: "me", Max: amount(limit), Room: int(room), FreeFor: time.Hour, Stagger: time.Second})
		if turn.Move != Take {
			return
		}
		after := Parse(take("me", Holder{Boot: bootA, Phase: status.Locked, Max: limit}).Apply(data))
		count, tightest := len(after.Blocking()), limit
		for _, h := range after.Holders {
			count++
			tightest = min(tightest, h.Max)
		}
		if count > tightest {
			t.Errorf("%d holders, limit %d", count, tightest)
		}
	})
}

func ExampleTurn() {
	s := Parse(map[string]string{
		"holder.node-a": encode(holds(1)),
		"waiter.node-b": encode(waits(1, 0)),
		"waiter.node-c": encode(waits(2, 0)),
	})
	fmt.Println(s.Ask(Asker{Node: "node-c", Max: amount(1), Room: 8}).Detail)
	// Output: place 2 of 2; node-a holds (draining, since 2026-11-22T12:00:00Z)
}

// Who has to be done before us is told with what it does and since when, and
// however many hold, the status stays small.
func TestAskTellsWhoIsAhead(t *testing.T) {
	data := map[string]string{
		"holder.node-z": encode(holds(2)), "holder.node-b": encode(holds(2)),
		"waiter.node-a": encode(waits(2, 0)), "waiter.node-c": encode(waits(1, 0)), "waiter.me": encode(waits(3, 0)), "waiter.node-d": encode(waits(4, 0)),
	}
	asker := Asker{Node: "me", Max: amount(2), Room: 8}
	var got []string
	for _, h := range Parse(data).Ask(asker).Queue.Ahead {
		got = append(got, fmt.Sprintf("%s %s %d", h.Node, h.Phase, h.Since.Minute()))
	}
	want := []string{"node-b draining 0", "node-z draining 0", "node-c queued 1", "node-a queued 2"}
	if !slices.Equal(got, want) {
		t.Errorf("ahead: %q, want %q", got, want)
	}
	for i := range 100 {
		data[fmt.Sprintf("holder.more-%d", i)] = encode(holds(200))
	}
	if n := len(Parse(data).Ask(asker).Queue.Ahead); n != 16 {
		t.Errorf("%d are named", n)
	}
	data["holder.me"] = encode(holds(2))
	if ahead := Parse(data).Ask(asker).Queue.Ahead; ahead != nil {
		t.Errorf("who holds has %v ahead", ahead)
	}
}

func zoned(zone string, turn time.Time) string {
	h := holds(2)
	h.Zone, h.Turn = zone, turn
	return encode(h)
}

func waitsIn(zone string, minute, priority int) string {
	w := waits(minute, priority)
	w.Zone = zone
	return encode(w)
}

// Holders are of one zone at a time, and each zone has its turn.
func TestAskZones(t *testing.T) {
	// Ours is zone b, and we asked ten minutes after noon.
	us := Asker{Node: "me", Max: amount(2), Room: 8, Zone: "b", Since: noon.Add(10 * time.Minute), Stagger: 10 * time.Second}
	with := func(change func(*Asker)) Asker { a := us; change(&a); return a }
	before, after := noon, noon.Add(time.Hour) // of our own asking
	for _, c := range []struct {
		name   string
		data   map[string]string
		asker  Asker
		move   Move
		reason status.Reason
		after  time.Duration
	}{
		{"nobody holds", nil, us, Take, "", 0},
		{"our zone has its turn", map[string]string{"holder.a": zoned("b", after)}, us, Take, "", 0},
		{"another zone has its turn", map[string]string{"holder.a": zoned("a", before)}, us, Join, status.ZoneBusy, 0},
		{"however long nobody takes the second slot", map[string]string{"holder.a": zoned("a", before), "waiter.me": waitsIn("b", 10, 0)},
			with(func(a *Asker) { a.FreeFor = time.Hour }), Wait, status.ZoneBusy, 0},
		{"a holder without a zone is of another", map[string]string{"holder.a": encode(holds(2))}, us, Join, status.ZoneBusy, 0},
		{"we without a zone are of another", map[string]string{"holder.a": zoned("a", before)}, with(func(a *Asker) { a.Zone = "" }), Join, status.ZoneBusy, 0},
		{"the limit still counts", map[string]string{"holder.a": zoned("b", before), "holder.c": zoned("b", before)}, us, Join, status.LockFull, 0},

		{"nobody holds, the first is of our zone", map[string]string{"waiter.x": waitsIn("b", 0, 0), "waiter.me": waitsIn("b", 10, 0)}, us, Take, "", 0},
		{"nobody holds, the first is of another", map[string]string{"waiter.x": waitsIn("a", 0, 0), "waiter.me": waitsIn("b", 10, 0)}, us, Wait, status.BehindOthers, 10 * time.Second},
		{"and does not come", map[string]string{"waiter.x": waitsIn("a", 0, 0), "waiter.me": waitsIn("b", 10, 0)}, with(func(a *Asker) { a.FreeFor = 10 * time.Second }), Take, "", 0},
		{"in our zone's turn the others are not ahead", map[string]string{"holder.a": zoned("b", after), "waiter.x": waitsIn("a", 0, 0), "waiter.me": waitsIn("b", 10, 0)}, us, Take, "", 0},
		{"but those who came to late for this turn queue behind", map[string]string{"holder.a": zoned("b", before), "waiter.x": waitsIn("a", 5, 0), "waiter.me": waitsIn("b", 10, 0)}, us, Wait, status.ZoneBusy, 0},
		{"unless they were there before the others", map[string]string{"holder.a": zoned("b", before), "waiter.x": waitsIn("a", 15, 0), "waiter.me": waitsIn("b", 10, 0)}, us, Take, "", 0},
		{"a waiter of another zone who sleeps keeps nobody", map[string]string{"holder.a": zoned("b", before), "waiter.x": waitsIn("a", 5, 0), "waiter.me": waitsIn("b", 10, 0)},
			with(func(a *Asker) { w := waits(5, 0); w.Zone = "a"; a.Asleep = map[string]Waiter{"x": w} }), Take, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Parse(c.data).Ask(c.asker)
			if got.Move != c.move || got.Reason != c.reason || got.After != c.after {
				t.Errorf("got %s reason %q after %s (%s)\nwant %s reason %q after %s", got.Move, got.Reason, got.After, got.Detail, c.move, c.reason, c.after)
			}
		})
	}
}

// Who was seen to let others pass is waited for no more, until it moves.
func TestOvertaken(t *testing.T) {
	room := map[string]string{"waiter.a": encode(waits(0, 0)), "waiter.b": encode(waits(1, 0)), "waiter.c": encode(waits(2, 0))}
	took := func(node string) State { return Parse(take(node, holds(2)).Apply(room)) }
	for _, c := range []struct {
		name  string
		after State
		free  int
		want  string
	}{
		{"the first took it", took("a"), 1, "[]"},
		{"the second took it", took("b"), 1, "[a]"},
		{"the third took it", took("c"), 1, "[a b]"},
		{"one from outside took it", took("x"), 1, "[a b c]"},
		{"two slots are free, the second was quicker", took("b"), 2, "[]"},
		{"two slots are free, the third was quicker", took("c"), 2, "[a]"},
		{"the one ahead left", Parse(leave("a").Apply(take("b", holds(2)).Apply(room))), 1, "[]"},
	} {
		if got := fmt.Sprint(overtaken(Parse(room), c.after, c.free)); got != c.want {
			t.Errorf("%s: %s sleep, want %s", c.name, got, c.want)
		}
	}
	asleep := map[string]Waiter{"a": waits(0, 0)}
	us := Asker{Node: "b", Max: amount(1), Room: 8, Stagger: time.Second, Asleep: asleep}
	if turn := Parse(room).Ask(us); turn.Move != Take || !turn.First || fmt.Sprint(turn.Passed) != "[a]" {
		t.Errorf("behind a sleeper: %+v", turn)
	}
	room["waiter.a"] = encode(waits(-1, 0)) // it asks anew
	if turn := Parse(room).Ask(us); turn.Move != Wait || turn.First {
		t.Errorf("behind one who woke up: %+v", turn)
	}
}
