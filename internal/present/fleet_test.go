package present

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

func sampleFleet() fleet.View {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const boot = "0123456789abcdef0123456789abcdef"
	return fleet.View{
		At: now, Lock: "kube-system/kured-lock", Limit: 1, Policy: &lock.Ruling{Name: "kured-policy", Max: "10%"},
		Nodes: []fleet.Row{
			{Node: "node-c", Phase: status.Draining, Detail: "12 of 14 pods gone", Since: ago(3 * time.Minute), Lock: fleet.Holds, Boot: boot,
				Wanted: ago(26 * time.Hour), Packages: []string{"linux-image-6.1.0-40", "libc6"}, Version: "1.0.0", Ready: true, Cordoned: true},
			{Node: "node-a", Phase: status.Queued, Reason: status.LockFull, Since: ago(12 * time.Second), Lock: fleet.Waits, Place: 1, Boot: boot, Wanted: ago(5*time.Hour + 12*time.Minute), Version: "1.0.0", Ready: true},
			{Node: "node-with-a-long-name", Phase: status.Blocked, Reason: status.OutsideWindow, Detail: "opens Tue 02:00\x1b[2J", Since: ago(48 * time.Hour), Boot: boot, Wanted: ago(48 * time.Hour), Version: "1.0.0"},
			{Node: "node-b", Phase: status.Idle, Since: ago(72 * time.Hour), Boot: boot, Version: "1.0.0", Ready: true, Rebooted: ago(72*time.Hour + 5*time.Minute)},
			{Node: "node-x", Phase: fleet.Unknown, Ready: true, Problem: "its announcement cannot be read: version 2, this kured reads version 1"},
		},
	}
}

func TestFleetText(t *testing.T) {
	plain := terminal.Of(&bytes.Buffer{})
	want := `
5 nodes: 1 draining (of 1 allowed), 1 queued, 1 blocked (outside-window), 1 idle, 1 unknown

NODE                   PHASE     REASON          SINCE  PLACE  BOOT      WANTED  STATE
node-c                 draining  -               3m     -      01234567  1d2h    Ready,cordoned
node-a                 queued    lock-full       12s    1      01234567  5h12m   Ready
node-with-a-long-name  blocked   outside-window  2d     -      01234567  2d      NotReady
node-b                 idle      -               3d     -      01234567  -       Ready
node-x                 unknown   -               -      -      -         -       Ready

node-x: its announcement cannot be read: version 2, this kured reads version 1
`
	if got := "\n" + fleetText(sampleFleet(), plain, false); got != want {
		t.Errorf("got:%s\nwant:%s", got, want)
	}
	wide := `
5 nodes: 1 draining (of 1 allowed), 1 queued, 1 blocked (outside-window), 1 idle, 1 unknown
as it was at 2026-11-22T12:00:00Z: connection refused
policy kured-policy: 10% allowed; paused for the whole cluster: release day

NODE                   PHASE     REASON          SINCE  PLACE  BOOT      WANTED  STATE           REBOOTED  VERSION  PACKAGES                    DETAIL
node-c                 draining  -               3m     -      01234567  1d2h    Ready,cordoned  -         1.0.0    linux-image-6.1.0-40 libc6  12 of 14 pods gone
node-a                 queued    lock-full       12s    1      01234567  5h12m   Ready           -         1.0.0    -                           -
node-with-a-long-name  blocked   outside-window  2d     -      01234567  2d      NotReady        -         1.0.0    -                           opens Tue 02:00 [2J
node-b                 idle      -               3d     -      01234567  -       Ready           3d        1.0.0    -                           -
node-x                 unknown   -               -      -      -         -       Ready           -         -        -                           -

node-x: its announcement cannot be read: version 2, this kured reads version 1
lock kube-system/kured-lock: x cannot be read and counts as a holder: neither
`
	v := sampleFleet()
	v.Policy.Closed, v.Policy.Detail, v.Stale = status.Paused, "paused for the whole cluster: release day", "connection refused"
	v.Limit, v.Strange = 0, []lock.Unreadable{{Key: "x", What: "neither"}}
	got := "\n" + fleetText(v, plain, true)
	if wide = strings.Replace(wide, " (of 1 allowed)", "", 1); got != wide {
		t.Errorf("got:%s\nwant:%s", got, wide)
	}
	if got := fleetText(fleet.View{Lock: "a/b"}, plain, true); got != "0 nodes\n" {
		t.Errorf("an empty pool: %q", got)
	}
}

func TestFleetChanges(t *testing.T) {
	told := map[string]string{}
	v := sampleFleet()
	v.Nodes = v.Nodes[:3]
	for i, want := range []string{
		"2026-11-22T12:00:00Z node-c draining, Ready,cordoned: 12 of 14 pods gone\n2026-11-22T12:00:00Z node-a queued (lock-full), place 1, Ready\n" +
			"2026-11-22T12:00:00Z node-with-a-long-name blocked (outside-window), NotReady: opens Tue 02:00 [2J\n",
		"",
		"2026-11-22T12:00:00Z node-a locked, Ready\n2026-11-22T12:00:00Z node-c is gone\n2026-11-22T12:00:00Z node-with-a-long-name is gone\n",
	} {
		if i == 2 {
			v.Nodes = []fleet.Row{{Node: "node-a", Phase: status.Locked, Ready: true}}
		}
		if got := fleetChanges(v, told, v.At.Add(time.Minute)); got != want {
			t.Errorf("%d:\n%s\nwant\n%s", i, got, want)
		}
	}
	v.Stale = "connection refused"
	if got := fleetChanges(v, told, v.At.Add(time.Minute)); got != "2026-11-22T12:01:00Z not up to date: connection refused\n" || fleetChanges(v, told, v.At.Add(time.Minute)) != "" {
		t.Errorf("stale: %s", got)
	}
	v.Stale = ""
	if got := fleetChanges(v, told, v.At.Add(time.Minute)); got != "2026-11-22T12:00:00Z up to date again\n" || fleetChanges(v, told, v.At.Add(time.Minute)) != "" {
		t.Errorf("up to date again: %s", got)
	}
}

func TestAge(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 90 * time.Second: "1m30s", 10*time.Minute + time.Second: "10m",
		time.Hour: "1h", 5*time.Hour + 12*time.Minute: "5h12m", 24 * time.Hour: "1d", 50 * time.Hour: "2d2h",
	} {
		if got := age(now, now.Add(-d)); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	if got := age(now, time.Time{}); got != "" {
		t.Errorf("not known: %s", got)
	}
}
