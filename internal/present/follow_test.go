package present

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/status"
)

// Where nothing can be drawn anew each change is told once, with its time, and a
// daemon that came back is told to programs whatever it says.
func TestFollow(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	idle := Heard{Status: status.Status{Node: "node-a", Phase: status.Idle, Since: begin}}
	draining := Heard{Status: status.Status{Node: "node-a", Phase: status.Draining, Reason: status.DrainBlocked, Detail: "shop/web\x1b[2J is held", Since: begin, Drain: &status.Drain{Pods: 3, Gone: 1}}}
	down := Heard{Down: errors.New("kured is not running here")}
	heard := []Heard{idle, idle, draining, down, down, idle, {Status: status.Status{Phase: status.Starting, Since: begin}}}
	var b strings.Builder
	now := begin
	show := Follow(&b, Text, func() time.Time { return now })
	for _, h := range heard {
		now = now.Add(time.Second)
		if err := show(h); err != nil {
			t.Fatal(err)
		}
	}
	if want := `2026-11-22T12:00:01Z node-a idle
2026-11-22T12:00:03Z node-a draining: shop/web [2J is held (drain-blocked); 1 of 3 pods gone
2026-11-22T12:00:04Z kured is not running here
2026-11-22T12:00:06Z node-a idle
2026-11-22T12:00:07Z (not known yet) starting
`; b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	for f, begins := range map[Format]string{JSON: "{", YAML: "---\n"} {
		var b strings.Builder
		show := Follow(&b, f, time.Now)
		var told []int // how many are told after each
		for _, h := range heard {
			if err := show(h); err != nil {
				t.Fatal(err)
			}
			told = append(told, strings.Count("\n"+b.String(), "\n"+begins))
		}
		if want := []int{1, 1, 2, 2, 2, 3, 4}; !slices.Equal(told, want) {
			t.Errorf("%s: told %v, want %v:\n%s", f, told, want, b.String())
		}
	}
}

// A view that differs in its time only is none for a program; one that was shown already tells nothing new.
func TestFollowFleet(t *testing.T) {
	first := sampleFleet()
	later := sampleFleet()
	later.At = later.At.Add(time.Minute)
	other := later
	other.Nodes = []fleet.Row{{Node: "node-a", Phase: status.Idle}}
	for f, want := range map[Format][]int{Text: {5, 5, 5, 10}, JSON: {1, 1, 1, 2}} {
		var b strings.Builder
		show := FollowFleet(&b, f, time.Now)
		var lines []int
		for i, v := range []fleet.View{first, first, later, other} {
			if err := show(v, i == 1); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, strings.Count(b.String(), "\n"))
		}
		if !slices.Equal(lines, want) {
			t.Errorf("%s: lines %v, want %v:\n%s", f, lines, want, b.String())
		}
	}
}

func TestRow(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		r    fleet.Row
		want string
	}{
		{fleet.Row{Node: "node-a", Phase: fleet.Unknown, Problem: "that is what it said before its last boot"}, `
node:     node-a, as the API server knows it
phase:    unknown
state:    NotReady
problem:  that is what it said before its last boot
`},
		{fleet.Row{Node: "node-a", Phase: status.Draining, Reason: status.DrainBlocked, Detail: "web\x1b[2J", Since: now.Add(-90 * time.Second), Lock: fleet.Holds, Ready: true, Cordoned: true, Rebooted: now.Add(-49 * time.Hour)}, `
node:     node-a, as the API server knows it
phase:    draining, said 1m30s ago
reason:   drain-blocked
detail:   web [2J
lock:     held by this node
state:    Ready,cordoned
rebooted: 2d1h ago
`},
		{fleet.Row{Node: "node-a", Phase: status.Queued, Lock: fleet.Waits, Place: 3, Ready: true}, `
node:     node-a, as the API server knows it
phase:    queued
lock:     place 3 in the queue
state:    Ready
`},
	} {
		var b strings.Builder
		if err := Row(&b, c.r, now); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + b.String(); got != c.want {
			t.Errorf("got:%s\nwant:%s", got, c.want)
		}
	}
}
