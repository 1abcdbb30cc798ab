package lock

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
)

const bootA = "11111111111111111111111111111111"

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func holds(max int) Holder {
	return Holder{Version: Version, Boot: bootA, Phase: status.Draining, Since: noon, Max: max, UID: "u"}
}

func waits(minute, priority int) Waiter {
	return Waiter{Version: Version, Since: noon.Add(time.Duration(minute) * time.Minute), Priority: priority, UID: "u"}
}

func TestParse(t *testing.T) {
	good := encode(holds(1))
	for _, c := range []struct {
		name, key, value string
		damage           string // part of what is said; "": none
		blocks           bool
	}{
		{"holder", "holder.a", good, "", false},
		{"holder with dots in its name", "holder.a.example.org", good, "", false},
		{"holder with fields of later kureds", "holder.a", strings.Replace(good, `"v":1`, `"v":1,"zone":"eu-1a"`, 1), "", false},
		{"holder of version 2", "holder.a", strings.Replace(good, `"v":1`, `"v":2`, 1), "version 2", true},
		{"holder without a version", "holder.a", strings.Replace(good, `"v":1,`, ``, 1), "version 0", true},
		{"holder without boot", "holder.a", `{"v":1,"phase":"locked","max":1}`, "no boot id", true},
		{"holder in no phase", "holder.a", strings.Replace(good, "draining", "dancing", 1), "unknown phase", true},
		{"holder with max 0", "holder.a", strings.Replace(good, `"max":1`, `"max":0`, 1), "max is 0", true},
		{"holder that is no JSON", "holder.a", "mine!", "not a holder entry", true},
		{"holder of nobody", "holder.", good, "neither", true},
		{"empty value", "holder.a", "", "not a holder entry", true},
		{"waiter", "waiter.a", encode(waits(0, 0)), "", false},
		{"waiter that is no JSON", "waiter.a", "{", "not a waiter entry", false},
		{"waiter of version 7", "waiter.a", `{"v":7}`, "version 7", false},
		{"something else", "frozen", "yes", "neither", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Parse(map[string]string{c.key: c.value})
			var damage string
			if len(s.Damaged) > 0 {
				damage = s.Damaged[0].What
			}
			if (c.damage == "") != (damage == "") || !strings.Contains(damage, c.damage) {
				t.Errorf("damage %q, want %q", damage, c.damage)
			}
			if got := len(s.Blocking()) == 1; got != c.blocks {
				t.Errorf("blocks: %v, want %v", got, c.blocks)
			}
		})
	}
}

// What an edit does not name stays, whatever it is.
func TestEditLeavesTheRest(t *testing.T) {
	data := map[string]string{"holder.b": "garbage", "frozen": "yes", "waiter.a": encode(waits(0, 0))}
	before := maps.Clone(data)
	after := take("a", holds(1), []string{"gone"}).Apply(data)
	if !reflect.DeepEqual(data, before) {
		t.Error("Apply changed its argument")
	}
	want := map[string]string{"holder.b": "garbage", "frozen": "yes", "holder.a": encode(holds(1))}
	if !reflect.DeepEqual(after, want) {
		t.Errorf("after take: %v\nwant %v", after, want)
	}
	if after = leave("a").Apply(after); len(after) != 2 {
		t.Errorf("after leave: %v", after)
	}
}

func TestEntriesAreBounded(t *testing.T) {
	h := holds(1)
	h.Reason = strings.Repeat("linux-image-ü", 100)
	for _, value := range take(strings.Repeat("n", 253), h, nil).Set {
		if len(value) > 400 {
			t.Errorf("holder entry of %d bytes", len(value))
		}
		if got := Parse(map[string]string{"holder.a": value}); len(got.Damaged) > 0 {
			t.Error(got.Damaged)
		}
	}
}

func TestAsk(t *testing.T) {
	asker := Asker{Node: "me", Max: 1, Room: 3, Stagger: 10 * time.Second}
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

		{"two slots, one held", map[string]string{"holder.a": encode(holds(2))}, with(func(a *Asker) { a.Max = 2 }), Take, "", 0, 0},
		{"tightest wins: ours", map[string]string{"holder.a": encode(holds(2))}, asker, Join, status.LockFull, 0, 0},
		{"tightest wins: theirs", map[string]string{"holder.a": encode(holds(1))}, with(func(a *Asker) { a.Max = 5 }), Join, status.LockFull, 0, 0},
		{"tightest wins: one of many", map[string]string{"holder.a": encode(holds(9)), "holder.b": encode(holds(2))}, with(func(a *Asker) { a.Max = 5 }), Join, status.LockFull, 0, 0},
		{"garbage counts beside holders", map[string]string{"holder.a": encode(holds(2)), "holder.b": "x"}, with(func(a *Asker) { a.Max = 2 }), Join, status.LockUnreadable, 0, 0},

		{"the gone do not count", map[string]string{"holder.a": encode(holds(1))}, with(func(a *Asker) { a.Gone = map[string]string{"a": "u"} }), Take, "", 0, 0},
		{"nor do their limits", map[string]string{"holder.a": encode(holds(1)), "holder.b": encode(holds(2))}, with(func(a *Asker) { a.Max = 2; a.Gone = map[string]string{"a": "u"} }), Take, "", 0, 0},
		{"one of the same name that came later counts", map[string]string{"holder.a": encode(holds(1))}, with(func(a *Asker) { a.Gone = map[string]string{"a": "older"} }), Join, status.LockFull, 0, 0},
		{"garbage of the gone counts", map[string]string{"holder.a": "x"}, with(func(a *Asker) { a.Gone = map[string]string{"a": "u"} }), Join, status.LockUnreadable, 0, 0},

		{"free, we are first", map[string]string{"waiter.me": encode(waits(0, 0)), "waiter.a": w}, asker, Take, "", 0, 1},
		{"free, we are second", map[string]string{"waiter.me": encode(waits(2, 0)), "waiter.a": w}, asker, Wait, status.BehindOthers, 10 * time.Second, 2},
		{"priority goes first", map[string]string{"waiter.me": encode(waits(2, 5)), "waiter.a": w}, asker, Take, "", 0, 1},
		{"by name among equals", map[string]string{"waiter.me": w, "waiter.z": w}, asker, Take, "", 0, 1},
		{"second, two slots free", map[string]string{"waiter.me": encode(waits(2, 0)), "waiter.a": w}, with(func(a *Asker) { a.Max = 2 }), Take, "", 0, 2},
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
		turn := s.Ask(Asker{Node: "me", Max: limit, Room: int(room), FreeFor: time.Hour, Stagger: time.Second})
		if turn.Move != Take {
			return
		}
		after := Parse(take("me", Holder{Boot: bootA, Phase: status.Locked, Max: limit}, nil).Apply(data))
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
	fmt.Println(s.Ask(Asker{Node: "node-c", Max: 1, Room: 8}).Detail)
	// Output: place 2 of 2; node-a holds (draining, since 2026-11-22T12:00:00Z)
}
