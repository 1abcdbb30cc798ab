package metrics

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/status"
)

// At most every five seconds, the newest state in the end, and then nothing. When
// the credential expires is not told: it would be renewed meanwhile.
func TestTextfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kured.prom")
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{Log: silent, Credential: func() (kube.Validity, error) {
			return kube.Validity{Kind: kube.BearerToken, Begins: time.Now(), Ends: time.Now().Add(time.Hour)}, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.keepTextfile(ctx, path) }()
		writes := 0
		var last os.FileInfo
		look := func() (changed bool) {
			t.Helper()
			synctest.Wait()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			changed = last == nil || !os.SameFile(info, last)
			if last = info; changed {
				writes++
			}
			return changed
		}
		shows := func(p status.Phase) {
			t.Helper()
			text, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(text), `kured_phase{phase="`+string(p)+`"} 1`) {
				t.Errorf("%s is not shown: %v", p, err)
			}
			if strings.Contains(string(text), "kured_credential") {
				t.Errorf("a file has what gets old:\n%s", text)
			}
		}
		look()
		shows(status.Starting)
		for second := range 60 { // something changes each second
			m.Publish(status.Status{Phase: status.Draining, Drain: &status.Drain{Gone: second}})
			time.Sleep(time.Second)
			look()
		}
		if writes < 10 || writes > 13 {
			t.Errorf("%d writes in a minute", writes)
		}
		m.Publish(status.Status{Phase: status.Rebooting})
		time.Sleep(2 * textfileEvery)
		look()
		shows(status.Rebooting)
		time.Sleep(2 * textfileEvery)
		look()
		time.Sleep(24 * time.Hour)
		if look() {
			t.Error("written though nothing changed")
		}
		m.Publish(status.Status{Phase: status.Idle})
		if look(); true {
			shows(status.Idle) // at once
		}
		m.Publish(status.Status{Phase: status.Blocked})
		cancel()
		<-done
		shows(status.Blocked)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Error("not for node_exporter to read:", info, err)
		}
		m.removeTextfile(path)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

// What cannot be written is told once.
func TestTextfileCannotBeWritten(t *testing.T) {
	taken := filepath.Join(t.TempDir(), "kured.prom") // by a directory
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		filepath.Join(t.TempDir(), "none", "kured.prom"): "no such file or directory",
		taken: "file exists",
	} {
		synctest.Test(t, func(t *testing.T) {
			var log lines
			m := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); m.keepTextfile(ctx, path) }()
			for range 10 {
				time.Sleep(time.Minute)
				m.Publish(status.Status{Phase: status.Idle})
			}
			cancel()
			<-done
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), why) {
				t.Errorf("%d lines\n%s", n, log.String())
			}
		})
	}
}
