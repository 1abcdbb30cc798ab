package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

func TestTable(t *testing.T) {
	rows := []row{
		{name: "node-a", system: "Debian 11", phase: "draining", detail: "2 of 14 pods gone", lock: "holds", cordoned: true,
			pods: 12, boot: "0123456789abcdef0123456789abcdef", ready: true},
		{name: "node-b", system: "Debian 12", phase: "off"},
	}
	want := []string{
		"NODE    SYSTEM     PHASE     LOCK   CORDONED  PODS  BOOT ID   READY",
		"node-a  Debian 11  draining  holds  yes       12    01234567  yes    2 of 14 pods gone",
		"node-b  Debian 12  off       -      no        0     -         no",
	}
	if got := table(rows, 0, false); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i, line := range table(rows, 75, false) {
		if n := len([]rune(line)); n > 75 {
			t.Errorf("line %d has %d characters: %q", i, n, line)
		}
	}
	// Colours come after the cut: they take no room.
	for i, line := range table(rows, 75, true) {
		if plain := table(rows, 75, false)[i]; !strings.HasPrefix(line, "\x1b[") || !strings.Contains(line, plain) {
			t.Errorf("line %d is %q, want %q in a colour", i, line, plain)
		}
	}
}

func TestChanges(t *testing.T) {
	queued := row{phase: "queued", detail: "place 1 of 2", lock: "1 of 2", boot: "aa", ready: true}
	for name, c := range map[string]struct {
		change func(*row)
		want   string
	}{
		"nothing":                {func(*row) {}, ""},
		"others move":            {func(r *row) { r.detail = "place 1 of 2; node-b holds" }, ""},
		"place":                  {func(r *row) { r.detail, r.lock = "place 1 of 1", "1 of 1" }, "queued: place 1 of 1"},
		"turn":                   {func(r *row) { r.phase, r.detail, r.lock, r.cordoned = "locked", "", "holds", true }, "took the lock, cordoned, locked"},
		"pods are no event":      {func(r *row) { r.pods++ }, ""},
		"down":                   {func(r *row) { *r = row{phase: "off", lock: r.lock} }, "off, not Ready"},
		"up with a new boot id":  {func(r *row) { r.boot = "bbbbbbbbbb" }, "new boot id bbbbbbbb"},
		"detail of another kind": {func(r *row) { r.phase, r.detail = "draining", "1 of 2 pods gone" }, "draining: 1 of 2 pods gone"},
	} {
		now := queued
		c.change(&now)
		if got := changes(queued, now); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	holds := row{phase: "returning", lock: "holds", cordoned: true}
	if got, want := changes(holds, row{phase: "idle", ready: true}), "idle, Ready, uncordoned, released the lock"; got != want {
		t.Errorf("return: %q, want %q", got, want)
	}
}

func TestReport(t *testing.T) {
	old := []row{{name: "a", lock: "1 of 1"}, {name: "b"}, {name: "c", lock: holds}}
	now := []row{{name: "a", lock: holds}, {name: "b"}, {name: "c"}}
	if got, want := report(old, now), []string{"c  released the lock", "a  took the lock"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLook(t *testing.T) {
	draining := status.Status{Boot: "aa", Phase: status.Draining, Reason: status.DrainTimeout}
	queued := status.Status{Boot: "aa", Phase: status.Queued, Detail: "behind others", Queue: &status.Queue{Place: 2, Waiting: 3}}
	for name, c := range map[string]struct {
		boot   nodes.Boot
		answer answer
		want   row
	}{
		"off":                          {nodes.Boot{ID: "aa", End: time.Now()}, answer{draining, false}, row{phase: "off"}},
		"no boot id yet":               {nodes.Boot{}, answer{draining, false}, row{phase: "booting"}},
		"answers of the boot before":   {nodes.Boot{ID: "bb"}, answer{draining, false}, row{phase: "booting", boot: "bb"}},
		"has answered in this boot":    {nodes.Boot{ID: "aa"}, answer{draining, false}, row{phase: "shutting down", boot: "aa"}},
		"a reason where is no detail":  {nodes.Boot{ID: "aa"}, answer{draining, true}, row{phase: "draining", detail: "drain-timeout", boot: "aa"}},
		"its place in the queue":       {nodes.Boot{ID: "aa"}, answer{queued, true}, row{phase: "queued", detail: "behind others", lock: "2 of 3", boot: "aa"}},
		"never asked, before any boot": {nodes.Boot{}, answer{}, row{phase: "booting"}},
	} {
		var got row
		if got.look(c.boot, c.answer); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
