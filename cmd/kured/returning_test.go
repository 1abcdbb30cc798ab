package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/status"
)

// The daemon shows what the way back waits for, as long as that is of this boot.
func TestReturningIsTold(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	path := returning(filepath.Join(t.TempDir(), "returning.json"))
	waits := status.Status{Phase: status.Returning, Reason: status.AwaitingReturn, Detail: "the daemon's words", Boot: "b", Node: "a"}
	if s := path.complete(waits); s.Detail != waits.Detail {
		t.Errorf("no file: %+v", s)
	}
	told := status.Status{Phase: status.Returning, Reason: status.NotReady, Detail: "the kubelet is not Ready", Boot: "b", Since: at}
	if err := path.write(told); err != nil {
		t.Fatal(err)
	}
	if s := path.complete(waits); s.Reason != status.NotReady || s.Detail != told.Detail || !s.Since.Equal(at) || s.Node != "a" {
		t.Errorf("told: %+v", s)
	}
	for name, other := range map[string]status.Status{
		"another phase":        {Phase: status.Idle, Boot: "b"},
		"another reason":       {Phase: status.Returning, Reason: status.APIUnreachable, Boot: "b"},
		"told in another boot": {Phase: status.Returning, Reason: status.AwaitingReturn, Boot: "c"},
	} {
		if s := path.complete(other); s.Detail != "" || s.Reason != other.Reason {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if err := os.WriteFile(string(path), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := path.complete(waits); s.Detail != waits.Detail {
		t.Errorf("damaged: %+v", s)
	}
	path.remove()
	if s := path.complete(waits); s.Detail != waits.Detail {
		t.Errorf("removed: %+v", s)
	}
}

// The daemon gives the way back the time that it takes on purpose.
func TestWayBackMayTakeItsTime(t *testing.T) {
	cfg := config.Default()
	cfg.Return.Settle, cfg.Return.ReleaseDelay = config.Duration(20*time.Minute), config.Duration(time.Minute)
	cfg.Hooks.Timeout = config.Duration(time.Minute)
	p := testPlan(t, t.TempDir(), "unix:path=/nonexistent", "0123456789abcdef0123456789abcdef", cfg)
	if got := p.settings().WayBack; got != 23*time.Minute { // with hooks before and after the uncordon
		t.Errorf("%s", got)
	}
}
