package explain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
)

var cet = time.FixedZone("CET", 3600)

// now is a Monday, 20:48 in Berlin.
var now = time.Date(2026, 11, 23, 19, 48, 0, 0, time.UTC)

func in(d time.Duration) *time.Time { t := now.Add(d); return &t }

func shown(points []Point) string {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintf(&b, "%s: %s\n", p.Kind, p.Text)
		if p.Do != "" && p.Kind != Then {
			fmt.Fprintf(&b, "  do: %s\n", p.Do)
		}
		if p.Until != nil {
			fmt.Fprintf(&b, "  until: %s\n", p.Until.Format(time.RFC3339))
		}
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	wanted := &status.Demand{Since: now.Add(-28 * time.Hour), Path: "/run/reboot-required", Reasons: []string{"linux-image-6.1.0-40"}}
	outside := status.GateState{Gate: status.GateSchedule, Reason: status.OutsideWindow, Next: in(5*time.Hour + 12*time.Minute),
		Detail: "outside the windows; it may from 2026-11-24T02:00:00+01:00 on"}
	inhibited := status.GateState{Gate: status.GateInhibitors, Reason: status.Inhibited, Detail: `apt (pid 4711, uid 0) blocks shutdown: "upgrading libc6"`}
	open := status.GateState{Gate: status.GateBudget, Open: true}
	for _, c := range []struct {
		name  string
		s     status.Status
		gates []status.GateState
		want  string
	}{
		{"idle", status.Status{Node: "node-b", Phase: status.Idle, Since: now.Add(-time.Hour)},
			[]status.GateState{{Gate: status.GateSentinel, Reason: status.SentinelGone, Detail: "no sentinel file any more"}, open, outside}, `
now: node-b is idle, for 1 h, since Mon 19:48 CET. No reboot is wanted. kured waits for a sentinel file and asks the API server nothing meanwhile.
also: outside the windows; the window opens Tue 02:00 CET in 5 h 12 m
  do: Nothing to do: the line above tells when the next window opens, "kured config show" prints the windows.
  until: 2026-11-24T01:00:00Z
then: when a reboot is wanted it begins by itself
`},
		{"blocked by the clock and by apt", status.Status{Node: "node-b", Phase: status.Blocked, Reason: status.OutsideWindow, Detail: "as it was a minute ago",
			Since: now.Add(-192 * time.Minute), Next: outside.Next, Demand: wanted},
			[]status.GateState{open, outside, inhibited}, `
now: node-b is blocked, for 3 h 12 m, since Mon 17:36 CET. A reboot is wanted, and something says: not now. The node is in service and has not begun.
  until: 2026-11-24T01:00:00Z
now: a reboot is wanted, for 28 h, since Sun 16:48 CET, by /run/reboot-required, for linux-image-6.1.0-40
blocks: outside the windows; the window opens Tue 02:00 CET in 5 h 12 m
  do: Nothing to do: the line above tells when the next window opens, "kured config show" prints the windows.
  until: 2026-11-24T01:00:00Z
also: a block inhibitor is held: apt (pid 4711, uid 0) blocks shutdown: "upgrading libc6"
  do: Nothing to do while that program works. "systemd-inhibit --list" shows who it is and why.
then: it goes on by itself as soon as nothing is in the way, and takes its turn in the cluster
`},
		{"blocked by the clock alone, the gates of the status", status.Status{Node: "node-b", Phase: status.Blocked, Reason: status.OutsideWindow, Since: now, Gates: []status.GateState{outside}}, nil, `
now: node-b is blocked, for 0 s, since Mon 20:48 CET. A reboot is wanted, and something says: not now. The node is in service and has not begun.
blocks: outside the windows; the window opens Tue 02:00 CET in 5 h 12 m
  do: Nothing to do: the line above tells when the next window opens, "kured config show" prints the windows.
  until: 2026-11-24T01:00:00Z
then: it goes on by itself Tue 02:00 CET in 5 h 12 m, and takes its turn in the cluster
  until: 2026-11-24T01:00:00Z
`},
		{"queued", status.Status{Node: "node-e", Phase: status.Queued, Reason: status.LockFull, Detail: "place 4 of 9; node-a holds", Since: now.Add(-10 * time.Minute),
			Queue: &status.Queue{Holders: []string{"node-a"}, Limit: 1, Place: 4, Waiting: 9, Ahead: []status.Holder{
				{Node: "node-a", Phase: status.Draining, Since: now.Add(-3 * time.Minute)},
				{Node: "node-b", Phase: status.Queued}, {Node: "node-c", Phase: status.Queued}, {Node: "node-d", Phase: status.Queued}}}},
			[]status.GateState{open}, `
now: node-e is queued, for 10 m, since Mon 20:38 CET. A reboot is wanted, and nothing on this node is in the way: it waits for its turn in the cluster. It is in service.
blocks: place 4 of 9 behind node-a (draining, holds the lock for 3 m), node-b, node-c and node-d; 1 allowed at a time
  do: Nothing to do while they go on: "kured lock" shows them and since when. To go on without one that never comes back: "kubectl delete node node-a".
then: it goes on by itself when its turn comes
`},
		{"draining", status.Status{Node: "node-b", Phase: status.Draining, Detail: "12 of 14 pods gone; pod shop/web-7 held by …", Since: now.Add(-4 * time.Minute),
			Drain: &status.Drain{Pods: 14, Gone: 12, Held: []string{"pod shop/web-7 held by PodDisruptionBudget shop/web: needs 2 healthy, has 2", "pod shop/db-0 still terminating: its grace period of 30s is over"}}}, nil, `
now: node-b is draining, for 4 m, since Mon 20:44 CET. The node holds the lock and is cordoned; its pods are moved away, and what is configured between the cordon and the reboot is done.
now: 12 of 14 pods are gone
blocks: pod shop/web-7 held by PodDisruptionBudget shop/web: needs 2 healthy, has 2
  do: "kubectl -n shop describe pdb web" shows what it asks for: more healthy pods, or a budget that allows one to leave, let it go.
blocks: pod shop/db-0 still terminating: its grace period of 30s is over
  do: "kubectl -n shop describe pod db-0" shows more.
then: when all pods are gone everything is looked at once more, and the machine reboots
`},
		{"backing off", status.Status{Node: "node-b", Phase: status.BackingOff, Reason: status.DrainTimeout, Since: now.Add(-time.Minute), Next: in(4 * time.Minute),
			Detail: "not drained after 30m0s: time is up; 1 pod left; pod shop/web-7 held by PodDisruptionBudget shop/web; next try at 2026-11-23T19:52:00Z"}, nil, `
now: node-b is backing-off, for 1 m, since Mon 20:47 CET. The last try was rolled back. The node is in service, holds no lock, and tries again at a time that is known.
  until: 2026-11-23T19:52:00Z
blocks: the last try came to nothing: not drained after 30m0s: time is up; 1 pod left; pod shop/web-7 held by PodDisruptionBudget shop/web
  do: "kured plan" names the pods and what holds them: help those. While it is held, "systemctl restart kured" drains anew.
then: it tries again by itself Mon 20:52 CET in 4 m
  until: 2026-11-23T19:52:00Z
`},
		{"the API is away", status.Status{Node: "node-b", Phase: status.Queued, Reason: status.APIUnreachable, Detail: "Get \"https://api\": connection refused", Since: now.Add(-10 * time.Second), Next: in(20 * time.Second)}, nil, `
now: node-b is queued, for 10 s, since Mon 20:47 CET. A reboot is wanted, and nothing on this node is in the way: it waits for its turn in the cluster. It is in service.
  until: 2026-11-23T19:48:20Z
blocks: the API server does not answer: Get "https://api": connection refused
  do: Nothing to do if it comes back: kured tries again by itself. "kured doctor" checks the way to it, "systemctl status kubelet" whether the kubelet reaches it.
then: by itself it looks again Mon 20:48 CET in 20 s; it goes on by itself when its turn comes
  until: 2026-11-23T19:48:20Z
`},
		{"held", status.Status{Node: "node-b", Phase: status.Held, Reason: status.EntryForeign, Detail: "this node's entry in the lock cannot be read", Since: now.Add(-50 * time.Hour)}, nil, `
now: node-b is held, for 2 d 2 h, since Sat 18:48 CET. kured has stopped on purpose, and keeps the lock and the cordon if it has them. A person is needed.
blocks: this node's entry in the lock cannot be read
  do: "kured lock" tells what is wrong with it. If it is damaged, "kured lock release node-b --reason WHY" removes it; else install the kured that wrote it.
then: nothing happens by itself: a person is needed
`},
		{"the budget", status.Status{Node: "node-b", Phase: status.Held, Reason: status.RebootBudget, Detail: "4 reboots in 24 hours and the sentinel stands again: find out why; the next one is allowed at 2026-11-23T23:48:00Z", Since: now, Next: in(4 * time.Hour)}, nil, `
now: node-b is held, for 0 s, since Mon 20:48 CET. kured has stopped on purpose, and keeps the lock and the cordon if it has them. A person is needed.
  until: 2026-11-23T23:48:00Z
blocks: 4 reboots in 24 hours and the sentinel stands again: find out why; the next one is allowed at Tue 00:48 CET in 4 h
  do: Find out who makes the sentinel: the line above names it and the packages. Then raise reboot.max_per_day and "systemctl reload kured", or wait until the time it tells.
  until: 2026-11-23T23:48:00Z
then: it goes on by itself Tue 00:48 CET in 4 h
  until: 2026-11-23T23:48:00Z
`},
		{"paused twice", status.Status{Node: "node-b", Phase: status.Blocked, Reason: status.Paused, Since: now}, []status.GateState{
			{Gate: status.GatePause, Reason: status.Paused, Detail: "/var/lib/kured/pause: paused"},
			{Gate: status.GateNodePause, Reason: status.Paused, Detail: "annotation kured.dev/pause: paused (disk)"}}, `
now: node-b is blocked, for 0 s, since Mon 20:48 CET. A reboot is wanted, and something says: not now. The node is in service and has not begun.
blocks: /var/lib/kured/pause: paused
  do: "kured resume" ends it.
also: annotation kured.dev/pause: paused (disk)
  do: "kubectl annotate node node-b kured.dev/pause-" ends it.
then: it goes on by itself as soon as nothing is in the way, and takes its turn in the cluster
`},
		{"paused by the policy", status.Status{Node: "node-b", Phase: status.Blocked, Reason: status.Paused, Detail: "paused for the whole cluster: upgrade", Since: now, Next: in(time.Minute), Queue: &status.Queue{}}, []status.GateState{
			{Gate: status.GatePause, Reason: status.Paused, Detail: "/var/lib/kured/pause: paused"}}, `
now: node-b is blocked, for 0 s, since Mon 20:48 CET. A reboot is wanted, and something says: not now. The node is in service and has not begun.
  until: 2026-11-23T19:49:00Z
blocks: paused for the whole cluster: upgrade
  do: "kured resume --all" ends it.
also: /var/lib/kured/pause: paused
  do: "kured resume" ends it.
then: by itself it looks again Mon 20:49 CET in 1 m; it goes on by itself as soon as nothing is in the way, and takes its turn in the cluster
  until: 2026-11-23T19:49:00Z
`},
		{"frozen by the policy", status.Status{Node: "node-b", Phase: status.Blocked, Reason: status.Frozen, Detail: "frozen until 2026-11-24T01:00:00Z: pause: disk work; by alice", Since: now, Next: in(5*time.Hour + 12*time.Minute), Queue: &status.Queue{}}, nil, `
now: node-b is blocked, for 0 s, since Mon 20:48 CET. A reboot is wanted, and something says: not now. The node is in service and has not begun.
  until: 2026-11-24T01:00:00Z
blocks: frozen until Tue 02:00 CET in 5 h 12 m: pause: disk work; by alice
  do: Nothing to do: the line above tells until when. "kured config show" prints the freezes of this node; "kured resume --all" ends one that a person began with "kured pause --all".
then: by itself it looks again Tue 02:00 CET in 5 h 12 m; it goes on by itself as soon as nothing is in the way, and takes its turn in the cluster
  until: 2026-11-24T01:00:00Z
`},
		{"not well, and holds the lock", status.Status{Node: "node-b", Phase: status.Returning, Reason: status.NotReady, Since: now, Held: in(-time.Hour)}, nil, `
now: node-b is returning, for 0 s, since Mon 20:48 CET. The node has booted anew. kured-uncordon.service waits until it has proved that it is well, then uncordons it and releases the lock.
blocks: The node is not Ready in this boot yet. It stays cordoned, and keeps the lock if it has it, so that no other node goes down as well.
  do: "kubectl describe node node-b" and "systemctl status kubelet" tell why. When it is repaired the rest goes by itself.
then: when the node is well it is uncordoned and the lock is released; until then the lock is kept
`},
		{"not well, and has given up the lock", status.Status{Node: "node-b", Phase: status.Returning, Reason: status.GaveUp, Detail: "the kubelet reports NotReady", Since: now}, nil, `
now: node-b is returning, for 0 s, since Mon 20:48 CET. The node has booted anew. kured-uncordon.service waits until it has proved that it is well, then uncordons it and releases the lock.
blocks: the node was not well in time: the kubelet reports NotReady
  do: Repair it: "kubectl describe node node-b" and "journalctl -u kured-uncordon" tell what is missing. The rest goes by itself.
then: when the node is well it is uncordoned; it holds no lock any more
`},
		{"well, and keeps the lock a while", status.Status{Node: "node-b", Phase: status.Returning, Reason: status.ReleaseDelayed, Detail: "the lock is released at 2026-11-23T19:52:00Z", Since: now, Next: in(4 * time.Minute), Held: in(-time.Hour)}, nil, `
now: node-b is returning, for 0 s, since Mon 20:48 CET. The node has booted anew. kured-uncordon.service waits until it has proved that it is well, then uncordons it and releases the lock.
  until: 2026-11-23T19:52:00Z
blocks: the lock is released at Mon 20:52 CET in 4 m
  do: Nothing to do.
  until: 2026-11-23T19:52:00Z
then: then the lock is released, and the next node goes
`},
		{"not wanted any more in mid-cycle", status.Status{Node: "node-b", Phase: status.RollingBack, Reason: status.SentinelGone, Detail: "the reboot is not required any more", Since: now, Held: in(-time.Hour)}, nil, `
now: node-b is rolling-back, for 0 s, since Mon 20:48 CET. This try came to nothing: kured takes off its own cordon and releases the lock, so that other nodes can go.
blocks: the reboot is not required any more
  do: Nothing to do: the node stays in service. "kured request" asks for a reboot all the same.
then: the node is put back into service
`},
		{"paused until", status.Status{Node: "node-b", Phase: status.Blocked, Reason: status.Paused, Since: now, Next: in(40 * 24 * time.Hour),
			Detail: "/var/lib/kured/pause: paused until 2027-01-02T19:48:00Z (Christmas)"}, nil, `
now: node-b is blocked, for 0 s, since Mon 20:48 CET. A reboot is wanted, and something says: not now. The node is in service and has not begun.
  until: 2027-01-02T19:48:00Z
blocks: /var/lib/kured/pause: paused until Sat 2 Jan 2027 20:48 CET in 40 d (Christmas)
  do: "kured resume" ends the pause of this machine, "kured resume --all" that of the cluster, "kubectl annotate node node-b kured.dev/pause-" the one on the Node.
  until: 2027-01-02T19:48:00Z
then: it goes on by itself Sat 2 Jan 2027 20:48 CET in 40 d, and takes its turn in the cluster
  until: 2027-01-02T19:48:00Z
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := "\n" + shown(Explain(c.s, c.gates, now, cet)); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}

// Each reason gives a sentence, with a detail and without, and something to do;
// each phase says what comes next.
func TestEveryWordGivesASentence(t *testing.T) {
	for _, phase := range []status.Phase{status.Blocked, status.Queued, status.Draining, status.BackingOff, status.Held, status.Returning} {
		for _, reason := range status.Reasons() {
			for _, detail := range []string{"", "because"} {
				s := status.Status{Node: "node-b", Phase: phase, Reason: reason, Detail: detail, Since: now}
				var found *Point
				for _, p := range Explain(s, nil, now, cet) {
					if p.Kind == Blocks {
						found = &p
					}
				}
				switch {
				case found == nil:
					t.Errorf("%s, %s: nothing is in the way", phase, reason)
				case found.Reason != reason, found.Do == "", strings.Contains(found.Do, "kured why"):
					t.Errorf("%s, %s: %+v", phase, reason, *found)
				case detail != "" && !strings.Contains(found.Text, detail), detail == "" && !strings.HasSuffix(found.Text, reason.Help().Means):
					t.Errorf("%s, %s: %q", phase, reason, found.Text)
				}
			}
			gates := []status.GateState{{Gate: status.GateBudget, Reason: reason, Detail: "because"}}
			points := Explain(status.Status{Phase: phase, Since: now}, gates, now, cet)
			if p := points[len(points)-2]; p.Kind != Also || p.Gate != status.GateBudget || !strings.Contains(p.Text, "because") {
				t.Errorf("%s, gate with %s: %+v", phase, reason, p)
			}
		}
	}
	for _, phase := range status.Phases() {
		points := Explain(status.Status{Phase: phase, Since: now}, nil, now, cet)
		if p := points[len(points)-1]; p.Kind != Then || p.Text == "" {
			t.Errorf("%s: %+v", phase, points)
		}
	}
}

// What others wrote moves no cursor, is not long, and gets into no command.
func TestTextsOfOthers(t *testing.T) {
	evil := "pod shop/web\x1b[2J;reboot held by PodDisruptionBudget shop/$(reboot)\n" + strings.Repeat("x", 5000)
	s := status.Status{Node: "$(reboot)", Phase: status.Draining, Reason: status.LockLost, Detail: evil, Since: now, Drain: &status.Drain{Held: []string{evil, evil}},
		Demand: &status.Demand{Path: evil, Reasons: []string{evil}}, Queue: &status.Queue{Holders: []string{evil}}}
	for range 20 {
		s.Drain.Held = append(s.Drain.Held, evil)
	}
	points := Explain(s, []status.GateState{{Gate: status.Gate(evil), Reason: status.Reason(evil), Detail: evil}}, now, cet)
	for _, p := range points {
		if strings.ContainsAny(p.Text+p.Do, "\x1b\n") || len([]rune(p.Text)) > maxText || strings.Contains(p.Do, "reboot)") {
			t.Errorf("%+v", p)
		}
	}
	if len(points) > maxHeld+8 {
		t.Errorf("%d points", len(points))
	}
}

func TestClockAndSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59400 * time.Millisecond: "59 s", 59600 * time.Millisecond: "1 m", 61 * time.Second: "1 m", 3 * time.Minute: "3 m",
		59*time.Minute + 40*time.Second: "1 h", 90 * time.Minute: "1 h 30 m", 47*time.Hour + 59*time.Minute: "47 h 59 m", 48 * time.Hour: "2 d", 76 * time.Hour: "3 d 4 h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "Mon 20:48 CET", 5 * 24 * time.Hour: "Sat 20:48 CET", 6 * 24 * time.Hour: "Sun 29 Nov 2026 20:48 CET", -240 * time.Hour: "Fri 13 Nov 2026 20:48 CET"} {
		if got := Clock(now.Add(d), now, cet); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
