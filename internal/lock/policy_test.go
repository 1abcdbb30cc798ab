package lock

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

func TestParsePolicy(t *testing.T) {
	for _, c := range []struct {
		name    string
		data    map[string]string
		want    string // max, room, reason now
		problem string // part of it
	}{
		{"none", nil, "- 0 ", ""},
		{"all", map[string]string{"max": "3", "waiting_room": "4"}, "3 4 ", ""},
		{"percent", map[string]string{"max": " 10%\n"}, "10% 0 ", ""},
		{"this pool's replaces the general one", map[string]string{"max": "1", "max.gpu.example": "5", "max.other": "x"}, "5 0 ", ""},
		{"and makes a wrong general one harmless", map[string]string{"max": "x", "max.gpu.example": "5"}, "5 0 ", ""},
		{"paused", map[string]string{"paused": "release day"}, "- 0 paused", ""},
		{"paused for this pool", map[string]string{"paused.gpu.example": "training"}, "- 0 paused", ""},
		{"paused for another pool", map[string]string{"paused.cpu": "training"}, "- 0 ", ""},
		{"an empty pause is none", map[string]string{"paused": " "}, "- 0 ", ""},
		{"frozen", map[string]string{"freeze": "2026-11-20/2026-11-22 peak week\n"}, "- 0 frozen", ""},
		{"the last day counts, the next does not", map[string]string{"freeze": "2026-11-20/2026-11-21"}, "- 0 ", ""},
		{"times", map[string]string{"freeze": "2026-11-22T10:00:00Z/2026-11-22T14:00:00+02:00"}, "- 0 ", ""},
		{"times, still", map[string]string{"freeze": "2026-11-22T10:00:00Z/2026-11-22T14:00:00+01:00"}, "- 0 frozen", ""},

		{"no number", map[string]string{"max": "many"}, "- 0 policy-unreadable", `max: "many" is not a number`},
		{"a sign", map[string]string{"max": "+3"}, "- 0 policy-unreadable", `max: "+3"`},
		{"a nought in front", map[string]string{"max": "03"}, "- 0 policy-unreadable", `max: "03"`},
		{"nothing", map[string]string{"max": ""}, "- 0 policy-unreadable", `max: ""`},
		{"zero", map[string]string{"max": "0"}, "- 0 policy-unreadable", `max: "0"`},
		{"too many percent", map[string]string{"max": "101%"}, "- 0 policy-unreadable", `max: "101%"`},
		{"half a percent", map[string]string{"max": "0.5%"}, "- 0 policy-unreadable", `max: "0.5%"`},
		{"too large a room", map[string]string{"waiting_room": "17"}, "- 0 policy-unreadable", "waiting_room: \"17\" is not a number from 1 to 16"},
		{"a misspelt key may have been meant to stop us", map[string]string{"pause": "now"}, "- 0 policy-unreadable", "pause: unknown"},
		{"freeze without end", map[string]string{"freeze": "2026-11-20"}, "- 0 policy-unreadable", "is not FROM/UNTIL"},
		{"freeze that ends first", map[string]string{"freeze": "2026-11-20/2026-11-19"}, "- 0 policy-unreadable", "ends before it begins"},
		{"freeze on no day", map[string]string{"freeze": "2026-11-31/2026-12-01"}, "- 0 policy-unreadable", "neither a date"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := ParsePolicy(c.data, "gpu.example")
			limit := "-"
			if p.Max != nil {
				limit = p.Max.String()
			}
			reason, detail, _ := p.Closed(noon)
			if got := fmt.Sprintf("%s %d %s", limit, p.Room, reason); got != c.want {
				t.Errorf("got %q, want %q (%s)", got, c.want, detail)
			}
			if (reason == "") != (detail == "") || !strings.Contains(detail, c.problem) {
				t.Errorf("detail %q, want %q", detail, c.problem)
			}
		})
	}
}

// The end that is told is the one after which nothing is in the way.
func TestFreezeEnd(t *testing.T) {
	p := ParsePolicy(map[string]string{"freeze": "2026-11-22/2026-11-22 short\n2026-11-21/2026-11-30 long\n2027-01-01/2027-01-02"}, "l")
	reason, detail, until := p.Closed(noon)
	if want := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC); reason != status.Frozen || !until.Equal(want) || !strings.Contains(detail, "long") {
		t.Errorf("got %s until %s (%s)", reason, until, detail)
	}
}

// The policy's limit is one more that the tightest of counts.
func TestAskPolicy(t *testing.T) {
	three, tenPercent := intstr.FromInt32(3), intstr.FromString("10%")
	held := map[string]string{"holder.a": encode(holds(9)), "holder.b": encode(holds(9)), "holder.c": encode(holds(9))}
	for _, c := range []struct {
		name   string
		policy Policy
		pool   Pool
		move   Move
	}{
		{"says nothing", Policy{}, Pool{}, Take},
		{"three", Policy{Max: &three}, Pool{}, Join},
		{"a tenth of what is not known", Policy{Max: &tenPercent}, Pool{}, Take},
		{"a tenth of 26", Policy{Max: &tenPercent}, pool(strings.Repeat("r", 26)), Join},
		{"a room of none but one", Policy{Max: &three, Room: 1}, Pool{}, Join},
	} {
		us := Asker{Node: "z", Max: amount(5), Room: 8, Policy: c.policy, Pool: c.pool}
		if got := Parse(held).Ask(us); got.Move != c.move {
			t.Errorf("%s: %s (%s), want %s", c.name, got.Move, got.Detail, c.move)
		}
	}
	held["waiter.d"] = encode(waits(0, 0))
	if got := Parse(held).Ask(Asker{Node: "z", Max: amount(3), Room: 8, Policy: Policy{Room: 1}}); got.Move != Outside {
		t.Errorf("the room of the policy is full: %s", got.Move)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("max", "10%", "freeze", "2026-11-20/2026-11-22 peak\n\nx")
	f.Add("paused.l", "\xff\"\\", "waiting_room", "99999999999999999999")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		p := ParsePolicy(map[string]string{k1: v1, k2: v2}, "l")
		reason, detail, until := p.Closed(noon)
		if (reason == "") != (detail == "") || !until.IsZero() && !until.After(noon) {
			t.Errorf("%q %q %s", reason, detail, until)
		}
		if p.Max != nil && (Pool{Known: true}).amount(*p.Max) < 1 {
			t.Errorf("max %v", p.Max)
		}
	})
}
