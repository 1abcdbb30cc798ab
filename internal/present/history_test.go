package present

import (
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/history"
	"github.com/kured-host/kured/internal/status"
)

func TestHistory(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	verified := history.Cycle{
		Node: "node-a", Began: at, Tries: 2, Result: history.Verified, Packages: []string{"linux-image", "libc6"},
		Spans: []history.Span{{Phase: status.Blocked, For: time.Hour}, {Phase: status.Queued, For: 90 * time.Second}, {Phase: status.Locked, For: time.Second},
			{Phase: status.Draining, For: time.Minute}, {Phase: status.Rebooting, For: 30 * time.Second}, {Phase: status.Returning, For: 400 * time.Millisecond},
			{Phase: status.RollingBack, For: time.Second}, {Phase: status.BackingOff, For: 5 * time.Minute}},
		Setbacks: []history.Setback{{At: at.Add(time.Hour), Reason: status.DrainTimeout, Detail: "pod shop/web-7 is held"}},
	}
	running := history.Cycle{Node: "node-b", Began: at, Result: history.Running, Phase: status.Blocked}
	for _, c := range []struct {
		name   string
		cycles []history.Cycle
		want   string
	}{
		{"none", nil, "\nno cycles in the journal\n"},
		{"of one node", []history.Cycle{verified}, `
BEGAN                 TOOK    TRIES  RESULT    WAIT    QUEUE  DRAIN  REBOOT  RETURN  WHY
2026-11-22T12:00:00Z  1h8m2s  2      verified  1h5m0s  1m30s  1m2s   30s     -       linux-image, libc6
  2026-11-22T13:00:00Z drain-timeout: pod shop/web-7 is held
`},
		{"of several", []history.Cycle{running, verified}, `
NODE    BEGAN                 TOOK    TRIES  RESULT             WAIT    QUEUE  DRAIN  REBOOT  RETURN  WHY
node-b  2026-11-22T12:00:00Z  -       -      running (blocked)  -       -      -      -       -       -
node-a  2026-11-22T12:00:00Z  1h8m2s  2      verified           1h5m0s  1m30s  1m2s   30s     -       linux-image, libc6
  2026-11-22T13:00:00Z drain-timeout: pod shop/web-7 is held
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := History(&b, Text, history.Log{Cycles: c.cycles}); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + b.String(); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}
