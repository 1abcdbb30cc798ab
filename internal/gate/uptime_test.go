package gate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/status"
)

func TestUptime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		g := Uptime{
			Min: time.Hour,
			Up:  func() (time.Duration, error) { return 20*time.Minute + time.Since(begun), nil },
			Now: func() time.Time { return time.Now().Add(-24 * time.Hour) }, // a wrong wall clock
		}
		v := g.Check(ctx, Before)
		if v.Open || v.Reason != status.UptimeShort || !v.Next.Equal(begun.Add(-24*time.Hour+40*time.Minute)) {
			t.Errorf("up for 20 minutes: %+v", v)
		}
		time.Sleep(time.Minute)
		if again := g.Check(ctx, Before); again.Detail != v.Detail || !again.Next.Equal(v.Next) {
			t.Errorf("the same answer changes: %+v, then %+v", v, again)
		}
		events, err := g.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		<-events
		if v := g.Check(ctx, Before); !v.Open || time.Since(begun) != 40*time.Minute {
			t.Errorf("after %s: %+v", time.Since(begun), v)
		}
		if n := count(events, 24*time.Hour); n != 0 {
			t.Errorf("%d more signals", n)
		}
		cancel()
		synctest.Wait()
	})
	broken := Uptime{Min: time.Hour, Up: func() (time.Duration, error) { return 0, errors.New("no clock") }, Now: time.Now}
	if v := broken.Check(t.Context(), Before); v.Open || !strings.Contains(v.Detail, "no clock") {
		t.Errorf("%+v", v)
	}
	first, err := SinceBoot()
	if second, _ := SinceBoot(); err != nil || first <= 0 || second < first {
		t.Errorf("since boot: %s, then %s, %v", first, second, err)
	}
}
