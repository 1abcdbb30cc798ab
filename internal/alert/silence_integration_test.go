package alert

import (
	"context"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/testenv/prometheus"
)

// A real Alertmanager takes our silence, lets us renew it in place, and ends it by itself.
func TestRealSilence(t *testing.T) {
	t.Parallel()
	manager := prometheus.NewAlertmanager(t, "", false)
	ofNode := func(node string, lasts time.Duration) Silence {
		t.Helper()
		s, err := NewSilence(newServer(t, "", patience, manager.URL), node, []string{`instance=~"{node}(:[0-9]+)?"`, `severity!="page"`}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		s.lasts = lasts
		return s
	}
	s := ofNode("node-a.example", time.Hour)
	all := func() []silence {
		t.Helper()
		var list []silence
		look := s.server.Alertmanager()
		err := look.ask(t.Context(), func(ctx context.Context, r *replica) error {
			_, body, err := look.call(ctx, r, "GET", "silences", nil, nil)
			if err == nil {
				list, err = decodeSilences(body)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	// await looks until there are this many silences and the one that lasts longest is so.
	await := func(what string, n int, so func(silence) bool) silence {
		t.Helper()
		var list []silence
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			list = all()
			var last silence
			for _, found := range list {
				if found.EndsAt.After(last.EndsAt) {
					last = found
				}
			}
			if len(list) == n && last.ID != "" && so(last) {
				return last
			}
		}
		t.Fatalf("%s: %+v", what, list)
		return silence{}
	}
	active := func(s silence) bool { return s.Status.State == "active" }

	if list := all(); len(list) > 0 {
		t.Fatalf("%+v", list)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Keep(ctx, "linux-image-6.1.0-40", func(err error) { t.Error(err) })
	}()
	first := await("appears", 1, active)
	cancel()
	<-done
	if first.CreatedBy != "kured" || first.Comment != "node node-a.example reboots: linux-image-6.1.0-40" || !s.isOurs(first) {
		t.Errorf("%+v", first)
	}
	// Renewed by us, and by the process after the reboot.
	for _, who := range []Silence{s, ofNode("node-a.example", time.Hour)} {
		first = await("renewed", 1, func(found silence) bool {
			if err := who.renew(t.Context(), "linux-image-6.1.0-40"); err != nil {
				t.Fatal(err)
			}
			return active(found) && found.ID == first.ID && found.EndsAt.After(first.EndsAt)
		})
	}
	if err := ofNode("node-a.example", time.Hour).Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	expired := func(id string) func(silence) bool {
		return func(s silence) bool { return s.ID == id && s.Status.State == "expired" }
	}
	await("expired", 1, expired(first.ID))
	if err := s.Expire(t.Context()); err != nil {
		t.Errorf("nothing is left to expire: %v", err)
	}
	// One that nobody renews ends by itself.
	if err := ofNode("node-b", 2*time.Second).renew(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	var other silence
	for _, found := range all() {
		if found.ID != first.ID {
			other = found
		}
	}
	await("lapses", 2, expired(other.ID))
}
