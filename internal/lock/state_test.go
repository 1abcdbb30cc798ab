package lock

import (
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
		{"holder in a phase without end", "holder.a", strings.Replace(good, "draining", strings.Repeat("dancing", 1000), 1), "unknown phase", true},
		{"holder in a zone without end", "holder.a", strings.Replace(good, `"uid"`, `"zone":"`+strings.Repeat("z", 1000)+`","uid"`, 1), "zone has 1000 bytes", true},
		{"waiter in a zone without end", "waiter.a", `{"v":1,"zone":"` + strings.Repeat("z", 1000) + `"}`, "zone has 1000 bytes", false},
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
			if len(damage) > 250 {
				t.Errorf("%d bytes are said of it", len(damage))
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
	after := take("a", holds(1)).Apply(data)
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
	for _, value := range take(strings.Repeat("n", 253), h).Set {
		if len(value) > 400 {
			t.Errorf("holder entry of %d bytes", len(value))
		}
		if got := Parse(map[string]string{"holder.a": value}); len(got.Damaged) > 0 {
			t.Error(got.Damaged)
		}
	}
}
