package present

import (
	"io"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	next := now.Add(5 * time.Minute)
	for _, c := range []struct {
		name string
		s    status.Status
		want string
	}{
		{"idle", status.Status{Node: "node-a", Phase: status.Idle, Since: now.Add(-13*24*time.Hour - 4*time.Minute)}, `
node:     node-a
phase:    idle, for 13d
`},
		{"starting", status.Status{Phase: status.Starting, Reason: status.NoCredential, Detail: "kubeconfig not found", Since: now, Next: &next}, `
node:     (not known yet)
phase:    starting, for 0s
reason:   no-credential
detail:   kubeconfig not found
next:     2026-11-22T12:05:00Z (in 5m)
more:     kured why
`},
		{"queued", status.Status{Node: "node-b", Phase: status.Queued, Reason: status.LockFull, Detail: "place 1 of 2; node-a holds", Since: now.Add(-90 * time.Second),
			Demand: &status.Demand{Since: now.Add(-2 * time.Hour), Path: "/run/reboot-required", Reasons: []string{"libc6", "linux-image"}},
			Queue:  &status.Queue{Holders: []string{"node-a"}, Limit: 1, Place: 1, Waiting: 2}}, `
node:     node-b
phase:    queued, for 1m30s
reason:   lock-full
detail:   place 1 of 2; node-a holds
wanted:   for 2h, by /run/reboot-required
because:  libc6, linux-image
lock:     held by node-a; 1 allowed; place 1 of 2 in the queue
more:     kured why
`},
		{"queued, with all that the lock looks at", status.Status{Node: "node-b", Phase: status.Queued, Reason: status.PeersUnavailable, Since: now,
			Queue: &status.Queue{Holders: []string{"node-a"}, Limit: 2, Place: 1, Waiting: 1, Zone: "eu-1a", Unavailable: []string{"node-x"}, Enforced: new(bool)}}, `
node:     node-b
phase:    queued, for 0s
reason:   peers-unavailable
lock:     held by node-a of zone eu-1a; 2 allowed; place 1 of 1 in the queue
down:     node-x (they use up the same limit)
rules:    kept by the nodes alone; apply wall.yaml
more:     kured why
`},
		{"draining", status.Status{Node: "node-b", Phase: status.Draining, Since: now,
			Drain: &status.Drain{Pods: 14, Gone: 12, Held: []string{"pod shop/web-7 held by PodDisruptionBudget shop/web"}}}, `
node:     node-b
phase:    draining, for 0s
drain:    12 of 14 pods gone
          pod shop/web-7 held by PodDisruptionBudget shop/web
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := "\n" + statusText(c.s, now, terminal.Of(io.Discard), false); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}

// How much is done is drawn only where it can be drawn anew.
func TestBar(t *testing.T) {
	for _, c := range []struct {
		live        bool
		done, whole int
		want        string
	}{
		{true, 0, 14, "[--------------------] "},
		{true, 7, 14, "[##########----------] "},
		{true, 15, 14, "[####################] "},
		{true, -1, 14, "[--------------------] "},
		{true, 0, 0, ""},
		{false, 7, 14, ""},
	} {
		if got := bar(terminal.Terminal{Live: c.live}, c.done, c.whole); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
