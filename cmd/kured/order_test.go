package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/status"
)

// What root tells the whole daemon by its socket takes effect, and all gates can be asked.
func TestOrdersToTheDaemon(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may tell the daemon something; internal/control shows that others may not")
	}
	dir, told, _ := start(t, func(dir string, cfg *config.Config) {
		sentinels := filepath.Join(filepath.Dir(dir), "kured-sentinel") // beside the runtime directory
		if err := os.Mkdir(sentinels, 0o755); err != nil {
			t.Fatal(err)
		}
		cfg.Sentinel.Paths = append(cfg.Sentinel.Paths, filepath.Join(sentinels, "request"))
	})
	await(t, told, "READY=1")
	client := control.Client{Path: filepath.Join(dir, "kured.sock")}
	order := func(verb control.Verb, o control.Order) {
		t.Helper()
		if done, err := client.Do(t.Context(), verb, o); err != nil || !done.Changed {
			t.Fatalf("%s: %+v, %v", verb, done, err)
		}
	}
	says := func(what string, ok func(status.Status) bool) {
		t.Helper()
		var now status.Status
		var err error
		for limit := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if now, err = client.Status(t.Context()); err == nil && ok(now) {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("never: %s, but %+v, %v", what, now, err)
			}
		}
	}
	order(control.Request, control.Order{Reason: "try it", By: "alice"})
	says("wanted", func(s status.Status) bool {
		return s.Demand != nil && len(s.Demand.Reasons) == 1 && strings.HasPrefix(s.Demand.Reasons[0], "try it (requested by alice, uid 0, ")
	})
	paused := func() bool {
		t.Helper()
		gates, err := client.Gates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(gates, func(g status.GateState) bool { return g.Gate == status.GatePause })
		return i >= 0 && gates[i].Reason == status.Paused
	}
	if paused() {
		t.Error("paused before anybody said so")
	}
	order(control.Pause, control.Order{Reason: "disk repair"})
	if !paused() {
		t.Error("not paused")
	}
	order(control.Resume, control.Order{})
	if paused() {
		t.Error("still paused")
	}
	order(control.Cancel, control.Order{})
	says("not wanted any more", func(s status.Status) bool { return s.Demand == nil })
}
