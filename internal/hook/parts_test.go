package hook

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	dir := t.TempDir()
	d := filepath.Join(dir, "pre-drain.d")
	for _, name := range []string{"20-b.sh", "10-a", "B", ".hidden", "a~", "a.bak", "a.dpkg-old", "a.ucf-dist", "a.rpmsave", "a.rpmnew"} {
		put(t, filepath.Join(d, name), "", 0o755)
	}
	put(t, d+"/30-not-executable", "", 0o644)
	put(t, d+"/40-directory/inner", "", 0o755)
	if err := os.Symlink("10-a", d+"/05-link"); err != nil {
		t.Fatal(err)
	}
	got, err := List(dir, PreDrain)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{d + "/05-link", d + "/10-a", d + "/20-b.sh", d + "/B"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, err := List(dir, PostBoot); got != nil || err != nil {
		t.Errorf("a directory that is not there: %q, %v", got, err)
	}
	if err := os.Symlink("nowhere", d+"/50-dangling"); err != nil {
		t.Fatal(err)
	}
	if _, err := List(dir, PreDrain); err == nil || !strings.Contains(err.Error(), "50-dangling") {
		t.Errorf("a link that leads nowhere: %v", err)
	}
}

func TestPartsRun(t *testing.T) {
	for _, test := range []struct {
		name  string
		hooks map[string]string
		want  string // output of the hooks
		code  int
		err   string
	}{
		{name: "none"},
		{name: "in order", hooks: map[string]string{"2": "echo two", "10": "echo ten", "1": "echo one"}, want: "one\nten\ntwo\n"},
		{name: "not now ends it", hooks: map[string]string{"1": "exit 75", "2": "echo two"}, code: 75, err: "1: exit code 75, not now"},
		{name: "failure ends it", hooks: map[string]string{"1": "echo one", "2": "exit 3", "3": "echo three"},
			want: "one\n", code: 1, err: "2: exit code 3"},
		{name: "signal", hooks: map[string]string{"1": "kill -9 $$"}, code: 1, err: "1: killed by signal 9 (killed)"},
		{name: "both streams", hooks: map[string]string{"1": "echo out; echo err >&2"}, want: "out\nerr\n"},
		{name: "in the root directory", hooks: map[string]string{"1": "pwd"}, want: "/\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.hooks {
				put(t, filepath.Join(dir, "post-boot.d", name), "#!/bin/sh\n"+text+"\n", 0o755)
			}
			check(t, dir, test.want, test.code, test.err)
		})
	}
	t.Run("cannot be executed", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir+"/post-boot.d/1", "#!/no/such/interpreter\n", 0o755)
		check(t, dir, "", 1, "1: cannot be run: ")
	})
	t.Run("stopped", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir+"/post-boot.d/1", "#!/bin/sh\ntrap 'exit 0' TERM\necho ready\nwhile :; do sleep 0.01; done\n", 0o755)
		put(t, dir+"/post-boot.d/2", "#!/bin/sh\necho two\n", 0o755)
		ctx, cancel := context.WithCancel(t.Context())
		out := writer(func(p []byte) { cancel() })
		err := Parts{Directory: dir, Output: out, Log: func(string) {}}.Run(ctx, PostBoot)
		var part *PartError
		if !errors.As(err, &part) || part.Code != ExitFailed || !strings.HasPrefix(part.Detail, "1: ") {
			t.Errorf("got %v", err)
		}
	})
}

func check(t *testing.T, dir, want string, code int, text string) {
	t.Helper()
	var out bytes.Buffer
	var log []string
	err := Parts{Directory: dir, Output: &out, Log: func(line string) { log = append(log, line) }}.Run(t.Context(), PostBoot)
	if out.String() != want {
		t.Errorf("output %q, want %q", out.String(), want)
	}
	var part *PartError
	if code == 0 {
		if err != nil {
			t.Error(err)
		}
	} else if !errors.As(err, &part) || part.Code != code || !strings.HasPrefix(part.Detail, text) {
		t.Errorf("got %v, want %d, %q", err, code, text)
	}
	if want != "" && (len(log) == 0 || !strings.HasSuffix(log[0], " begins")) {
		t.Errorf("log %q", log)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
