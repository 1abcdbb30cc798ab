package present

import (
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

func TestLock(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC)
	at := now.Add(-30 * time.Minute)
	for _, c := range []struct {
		name string
		l    lock.Listing
		want string
	}{
		{"free", lock.Listing{}, `
lock kube-system/kured-lock: 0 held, limit not known here, 0 waiting
`},
		{"busy", lock.Listing{
			Limit:   2,
			Holders: []lock.HolderItem{{Node: "node-a", Holder: lock.Holder{Boot: "0123456789abcdef0123456789abcdef", Phase: status.Draining, Since: at, Zone: "eu-1a", Reason: "linux-image-6.1.0-40\x1b[2J\nnode-z\tlocked"}}},
			Waiters: []lock.WaiterItem{{Node: "node-b", Place: 1, Waiter: lock.Waiter{Since: at, Priority: 5}}, {Node: "node-with-a-long-name", Place: 2, Waiter: lock.Waiter{Since: now, Zone: "eu-1b"}}},
			Policy:  &lock.Ruling{Name: "kured-policy", Max: "10%", Closed: status.Paused, Detail: "paused for the whole cluster: upgrade"},
		}, `
lock kube-system/kured-lock: 1 held, 2 allowed, 2 waiting
policy kured-policy: 10% allowed; paused for the whole cluster: upgrade

HOLDER  PHASE     SINCE                 AGE  ZONE   BOOT                              REASON
node-a  draining  2026-11-22T12:00:00Z  30m  eu-1a  0123456789abcdef0123456789abcdef  linux-image-6.1.0-40 [2J node-z locked

PLACE  WAITER                 SINCE                 AGE  ZONE   PRIORITY
1      node-b                 2026-11-22T12:00:00Z  30m  -      5
2      node-with-a-long-name  2026-11-22T12:30:00Z  0s   eu-1b  0
`},
		{"damaged", lock.Listing{
			Limit: 1, LimitNote: "10% is not counted: forbidden",
			Unreadable: []lock.Unreadable{{Key: "holder.node-a", What: "version 2, this kured reads version 1", Holds: true, Node: "node-a"}, {Key: "other", What: "neither", Holds: true}, {Key: "waiter.node-b", What: "no JSON", Node: "node-b"}},
			Policy:     &lock.Ruling{Name: "kured-policy", Error: "forbidden"},
		}, `
lock kube-system/kured-lock: 2 held, 1 allowed (10% is not counted: forbidden), 0 waiting
policy kured-policy: forbidden

holder.node-a cannot be read, it counts as a holder: version 2, this kured reads version 1 (kured lock release node-a --reason WHY removes it)
other cannot be read, it counts as a holder: neither (remove the key from the ConfigMap by hand)
waiter.node-b cannot be read, it takes a place in the waiting room: no JSON (kured lock release node-b --reason WHY removes it)
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := Lock(&b, Text, "kube-system", "kured-lock", c.l, now); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + b.String(); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}
