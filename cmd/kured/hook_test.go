package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/kured-host/kured/internal/hook"
)

// What `kured hook` tells systemd: its exit code, and in a line which hook it was.
func TestHookCommand(t *testing.T) {
	for _, test := range []struct {
		name, phase, script string
		code                int
		told                string
	}{
		{name: "none", phase: hook.PostBoot},
		{name: "well", phase: hook.PostBoot, script: "exit 0"},
		{name: "not now", phase: hook.PostBoot, script: "exit 75", code: exitTempFail, told: "STATUS=10-hook: exit code 75, not now"},
		{name: "failed", phase: hook.PostBoot, script: "exit 64", code: 1, told: "STATUS=10-hook: exit code 64"},
		{name: "no phase", phase: "later", code: exitUsage},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.script != "" {
				file := filepath.Join(dir, test.phase+".d", "10-hook")
				if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			address := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
			socket, err := net.ListenUnixgram("unixgram", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("NOTIFY_SOCKET", address.Name)
			if code := execute(t.Context(), []string{"hook", test.phase, "--directory", dir}); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if test.told != "" {
				got := make([]byte, 1000)
				n, err := socket.Read(got)
				if err != nil || string(got[:n]) != test.told {
					t.Errorf("systemd is told %q, %v, want %q", got[:n], err, test.told)
				}
			}
			_ = socket.Close()
		})
	}
}
