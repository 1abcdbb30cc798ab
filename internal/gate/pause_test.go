package gate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/kured-host/kured/internal/status"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// The texts of a pause, as they are in a file and in the annotation.
var pauses = []struct {
	name, text string
	reason     status.Reason
	next       time.Time
	detail     string
}{
	{"empty", "", status.Paused, time.Time{}, ": paused"},
	{"a newline", "\n", status.Paused, time.Time{}, ": paused"},
	{"a reason", "disk is being replaced\n", status.Paused, time.Time{}, ": paused (disk is being replaced)"},
	{"until", "until=2026-11-22T13:00:00Z", status.Paused, noon.Add(time.Hour), ": paused until 2026-11-22T13:00:00Z"},
	{"until and why", "  until=2026-11-22T15:00:00+02:00 disk\tis\nbeing replaced", status.Paused, noon.Add(time.Hour), ": paused until 2026-11-22T13:00:00Z (disk is being replaced)"},
	{"until behind what nobody sees", "\ufeff\x00until=2026-11-22T13:00:00Z", status.Paused, noon.Add(time.Hour), ": paused until 2026-11-22T13:00:00Z"},
	{"no time behind what is no text", "\xafuntil=", status.PauseUnreadable, time.Time{}, `: paused, but nobody knows until when: "until=" does not give a time such as until=2026-12-20T22:00:00Z`},
	{"until now", "until=2026-11-22T12:00:00Z over", "", time.Time{}, ""},
	{"until the past", "until=2020-01-01T00:00:00Z", "", time.Time{}, ""},
	{"until is not the first word", "not until=2020-01-01T00:00:00Z", status.Paused, time.Time{}, "(not until=2020-01-01T00:00:00Z)"},
	{"until a date", "until=2026-11-23 disk", status.PauseUnreadable, time.Time{}, `"until=2026-11-23"`},
	{"until nothing", "until= 2026-11-23T12:00:00Z", status.PauseUnreadable, time.Time{}, `"until="`},
	{"until garbage", "until=\x1b[31m" + strings.Repeat("x", 5000), status.PauseUnreadable, time.Time{}, "until=[31mxxx"},
	{"long and ugly", "\x00\xff\u202e" + strings.Repeat("ä", 5000), status.Paused, time.Time{}, "ä…)"},
}

func TestPause(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pause")
	g := Pause{Path: path, Now: func() time.Time { return noon }}
	for _, c := range pauses {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			v := g.Check(t.Context(), Before)
			if v.Open != (c.reason == "") || v.Reason != c.reason || !v.Next.Equal(c.next) || !strings.Contains(v.Detail, c.detail) {
				t.Errorf("%+v", v)
			}
			if !v.Open && (!strings.Contains(v.Detail, path) || len(v.Detail) > 1000 || strings.ContainsFunc(v.Detail, unicode.IsControl)) {
				t.Errorf("detail %q", v.Detail)
			}
		})
	}
}

// What is no plain file is a pause that nobody can read; what is not there is none.
func TestPauseWithoutFile(t *testing.T) {
	dir := t.TempDir()
	pipe, loop, dangling := filepath.Join(dir, "pipe"), filepath.Join(dir, "loop"), filepath.Join(dir, "dangling")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(loop, loop), os.Symlink("not mounted", dangling)); err != nil {
		t.Fatal(err)
	}
	for path, open := range map[string]bool{
		filepath.Join(dir, "pause"):            true,
		filepath.Join(dir, "missing", "pause"): true,
		dir:                                    false,
		pipe:                                   false,
		loop:                                   false,
		dangling:                               false,
		filepath.Join(pipe, "pause"):           false,
	} {
		v := Pause{Path: path, Now: time.Now}.Check(t.Context(), Before)
		if v.Open != open || !open && (v.Reason != status.PauseUnreadable || !strings.Contains(v.Detail, path)) {
			t.Errorf("%s: %+v", path, v)
		}
	}
}

type node struct {
	text *string
	err  error
}

func (n node) PauseText(context.Context) (*string, error) { return n.text, n.err }

func TestNodePause(t *testing.T) {
	check := func(n node) Verdict {
		return NodePause{Node: n, Now: func() time.Time { return noon }}.Check(t.Context(), Within)
	}
	for _, c := range pauses {
		v := check(node{text: &c.text})
		if v.Open != (c.reason == "") || v.Reason != c.reason || !v.Next.Equal(c.next) || !strings.Contains(v.Detail, c.detail) {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
	if v := check(node{}); !v.Open {
		t.Errorf("no annotation: %+v", v)
	}
	if v := check(node{err: errors.New("connection\nrefused")}); v.Open || v.Reason != status.PauseUnreadable || !strings.HasSuffix(v.Detail, "connection refused") {
		t.Errorf("no answer: %+v", v)
	}
}

// signalled waits for a signal after something was done to the file.
func signalled(t *testing.T, events <-chan struct{}, what string, done func() error) {
	t.Helper()
	for len(events) > 0 {
		<-events
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	select {
	case _, ok := <-events:
		if !ok {
			t.Fatalf("%s: the watch ended", what)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not noticed", what)
	}
}

// Real inotify: the file, its directory and those above it come, change and go.
func TestPauseWatch(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lib", "kured")
	g := Pause{Path: filepath.Join(dir, "pause"), Now: time.Now}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := g.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	verdict := func(what string, reason status.Reason) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; { // events may be those of a step before
			if v := g.Check(ctx, Before); v.Reason == reason {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, v)
			}
			time.Sleep(time.Millisecond)
		}
	}
	for round, directory := range []string{"is made", "is made anew"} {
		signalled(t, events, "the directory "+directory, func() error { return os.MkdirAll(dir, 0o700) })
		time.Sleep(50 * time.Millisecond * time.Duration(round)) // with and without the watch on it
		signalled(t, events, "the file comes", write(g.Path, "disk"))
		verdict("the file comes", status.Paused)
		signalled(t, events, "the file changes", write(g.Path, "until=soon"))
		verdict("the file changes", status.PauseUnreadable)
		next := filepath.Join(dir, ".next")
		if err := write(next, "disk")(); err != nil {
			t.Fatal(err)
		}
		signalled(t, events, "the file is replaced", func() error { return os.Rename(next, g.Path) })
		verdict("the file is replaced", status.Paused)
		signalled(t, events, "a directory above is renamed", func() error {
			return os.Rename(filepath.Join(root, "lib"), filepath.Join(root, "old"))
		})
		verdict("a directory above is renamed", "")
		signalled(t, events, "it comes back", func() error {
			return os.Rename(filepath.Join(root, "old"), filepath.Join(root, "lib"))
		})
		verdict("it comes back", status.Paused)
		signalled(t, events, "the file goes", func() error { return os.Remove(g.Path) })
		verdict("the file goes", "")
		signalled(t, events, "the directory goes", func() error { return os.RemoveAll(filepath.Join(root, "lib")) })
	}
	signalled(t, events, "all comes at once", func() error {
		return errors.Join(os.MkdirAll(dir, 0o700), write(g.Path, "disk")())
	})
	verdict("all comes at once", status.Paused)
	signalled(t, events, "an end is given", write(g.Path, "until="+time.Now().Add(300*time.Millisecond).Format(time.RFC3339Nano)))
	signalled(t, events, "the pause ends", func() error { return nil })
	verdict("the pause ends", "")
	cancel()
	for range events { // it is closed
	}
}

// Who only waits for the end of a pause sleeps until then.
func TestPauseEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pause")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		note := Note{Until: begun.Add(26 * time.Hour), Reason: "disk"}
		if err := os.WriteFile(path, []byte(note.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		g := Pause{Path: path, Now: time.Now}
		over := alarm(ctx, g.Now, func(time.Time) time.Time { return g.Check(ctx, Before).Next })
		if <-over; time.Since(begun) != 26*time.Hour || !g.Check(ctx, Before).Open {
			t.Errorf("woken after %s: %+v", time.Since(begun), g.Check(ctx, Before))
		}
		cancel()
		synctest.Wait()
	})
}

func FuzzParseNote(f *testing.F) {
	for _, c := range pauses {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		note, err := ParseNote(text)
		if len([]rune(note.Reason)) > longest || strings.ContainsFunc(note.Reason, unicode.IsControl) || note.Reason != strings.TrimSpace(note.Reason) {
			t.Errorf("reason %q", note.Reason)
		}
		v := paused(text, "file", noon)
		if v.Open == (v.Reason != "") || err != nil && v.Reason != status.PauseUnreadable || len(v.Detail) > 2000 || strings.ContainsFunc(v.Detail, unicode.IsControl) {
			t.Errorf("%+v", v)
		}
		if err != nil {
			return
		}
		if again, err := ParseNote(note.String()); err != nil || !again.Until.Equal(note.Until) || again.Reason != note.Reason {
			t.Errorf("%q: %+v, read again %+v, %v", note.String(), note, again, err)
		}
	})
}
