package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSourceCommand(t *testing.T) {
	dir := t.TempDir()
	line := func(more ...string) []string {
		return append([]string{"source", "run", "--directory", dir, "--name", "command"}, more...)
	}
	for _, test := range []struct {
		name         string
		line         []string
		code         int
		wanted, fail bool
	}{
		{"no", line("--", "false"), 0, false, false},
		{"cannot find out", line("--", "sh", "-c", "exit 5"), 1, false, true},
		{"yes", line("--wanted", "5", "--reasons", "none", "--watch", dir+"/x", "--", "sh", "-c", "exit 5"), 0, true, false},
		{"still yes, as far as is known", line("--", "/no/such/program"), 1, true, true},
		{"bullets are missing", line("--reasons", "bullets", "--", "true"), 1, true, true},
		{"takes too long", line("--timeout", "10ms", "--", "sleep", "60"), 1, true, true},
		{"no again", line("--", "false"), 0, false, false},
		{"no command", line(), exitUsage, false, false},
		{"no name", []string{"source", "run", "--directory", dir, "--", "true"}, exitUsage, false, false},
		{"unknown form", line("--reasons", "x", "--", "true"), exitUsage, false, false},
	} {
		if code := execute(t.Context(), test.line); code != test.code {
			t.Errorf("%s: exit code %d, want %d", test.name, code, test.code)
		}
		for file, want := range map[string]bool{"command": test.wanted, "command.failed": test.fail} {
			if _, err := os.Stat(filepath.Join(dir, file)); (err == nil) != want || err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s: %v", test.name, file, err)
			}
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if code := execute(stopped, line("--", "true")); code != 0 {
		t.Errorf("stopped: exit code %d", code)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("stopped, and written: %v", left)
	}
	if code := execute(t.Context(), []string{"source", "kernel", "--directory", dir, "--settle", "1ms"}); code != 0 {
		t.Errorf("kernel: exit code %d", code)
	}
}
