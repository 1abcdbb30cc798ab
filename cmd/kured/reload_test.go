package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
)

// SIGHUP: another sentinel is watched from then on, and a configuration that
// cannot be used changes nothing.
func TestReload(t *testing.T) {
	hangups := make(chan os.Signal)
	next := make(chan func(*config.Config) error, 1)
	var given config.Config
	dir, told, ended := startReloading(t, func(_ string, cfg *config.Config) { given = *cfg }, reloading{hangups, func() (config.Config, error) {
		cfg := given
		err := (<-next)(&cfg)
		return cfg, err
	}})
	await(t, told, "READY=1")

	reload := func(change func(*config.Config) error) {
		t.Helper()
		ready, begun := told.count("READY=1"), told.count("RELOADING=1")
		next <- change
		hangups <- syscall.SIGHUP
		for told.count("READY=1") == ready {
			select {
			case err := <-ended:
				t.Fatalf("the daemon ended: %v", err)
			case <-time.After(time.Millisecond):
			}
		}
		if told.count("RELOADING=1") != begun+1 {
			t.Error("systemd was not told of the reload")
		}
	}
	wanted := func(path string) {
		t.Helper()
		for limit := time.After(time.Minute); ; {
			s, err := control.Client{Path: filepath.Join(dir, "kured.sock")}.Status(t.Context())
			if err == nil && (s.Demand == nil && path == "" || s.Demand != nil && s.Demand.Path == path) {
				return
			}
			select {
			case <-limit:
				t.Fatalf("the reboot is not wanted by %q: %+v, %v", path, s, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	first, other := given.Sentinel.Paths[0], filepath.Join(dir, "other")
	if err := os.WriteFile(first, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wanted(first)
	elsewhere := func(cfg *config.Config) error {
		cfg.Sentinel.Paths = []string{other}
		return nil
	}
	for name, change := range map[string]func(*config.Config) error{
		"unknown key": func(cfg *config.Config) error {
			return errors.Join(elsewhere(cfg), errors.New("kured.toml:3: lock.nmae: unknown"))
		},
		"what only a room can check": func(cfg *config.Config) error {
			cfg.Windows = []config.Window{{Start: "22:00", End: "22:00"}}
			return elsewhere(cfg)
		},
		"what this machine cannot do": func(cfg *config.Config) error {
			cfg.Reboot.Method = "soft-reboot"
			return elsewhere(cfg)
		},
	} {
		reload(change)
		if s, err := (control.Client{Path: filepath.Join(dir, "kured.sock")}).Status(t.Context()); err != nil || s.Demand == nil || s.Demand.Path != first {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	reload(elsewhere)
	wanted("")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wanted(other)
}
