package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// needed is what needs-restarting -r of dnf 4 and dnf 5 writes.
const needed = `printf 'Core libraries or services have been updated since boot-up:\n  * glibc\n  * kernel-core\n\nReboot is required to fully utilize these updates.\n'; `

func TestCommandCheck(t *testing.T) {
	for _, test := range []struct {
		name   string
		script string
		wanted int
		form   Form
		want   bool
		lines  []string
		err    string
	}{
		{name: "0 is yes", script: "echo one; echo; echo two", form: Lines, want: true, lines: []string{"one", "two"}},
		{name: "1 is no", script: "echo one; exit 1", form: Lines},
		{name: "2 is an error", script: "exit 2", form: Lines, err: "sh: exit status 2"},
		{name: "an error says why", script: "echo 'no database' >&2; exit 127", form: Lines, err: "sh: exit status 127: no database"},
		{name: "a signal is an error", script: "kill -9 $$", form: Lines, err: "sh: signal: killed"},
		{name: "no reasons", script: "echo one", form: Silent, want: true},
		{name: "no more than so many", script: "seq 1000", form: Lines, want: true, lines: slices.Collect(count(maxReasons))},
		{name: "output without end of line", script: "head -c 1000000 /dev/zero | tr '\\0' x; exit 1", form: Lines},
		{name: "needs-restarting: yes", script: needed + "exit 1", wanted: 1, form: Bullets, want: true, lines: []string{"glibc", "kernel-core"}},
		{name: "needs-restarting: no", script: "echo 'No core libraries or services have been updated since boot-up.'", wanted: 1, form: Bullets},
		{name: "needs-restarting: dnf itself fails", script: "echo 'No such command: needs-restarting' >&2; exit 1", wanted: 1, form: Bullets,
			err: "sh: exit code 1, and it names nothing that asks for a reboot: No such command: needs-restarting"},
		{name: "needs-restarting: is killed", script: needed + "exit 137", wanted: 1, form: Bullets, err: "sh: exit status 137"},
		{name: "zypper", script: "exit 102", wanted: 102, form: Silent, want: true},
		{name: "unknown form", form: "x", err: "no form"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := Command{Line: []string{"sh", "-c", test.script}, Wanted: test.wanted, Form: test.form, Output: &out}.Check(t.Context())
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || got.Wanted != test.want || !slices.Equal(got.Reasons, test.lines) {
				t.Errorf("got %+v, %v", got, err)
			}
			if test.lines != nil && !strings.Contains(out.String(), test.lines[0]) {
				t.Errorf("the output is not passed on: %q", out.String())
			}
		})
	}
	t.Run("0 is yes, also where something goes on behind it", func(t *testing.T) {
		t.Parallel()
		got, err := Command{Line: []string{"sh", "-c", "echo one; sleep 30 &"}, Form: Lines, Output: io.Discard}.Check(t.Context())
		if err != nil || !got.Wanted || !slices.Equal(got.Reasons, []string{"one"}) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	for _, test := range []struct {
		line []string
		err  string
	}{
		{nil, "no command"},
		{[]string{"/no/such/program"}, "program cannot be run: "},
		{[]string{"no-such-program"}, "no-such-program cannot be run: "},
	} {
		if _, err := (Command{Line: test.line, Form: Lines, Output: io.Discard}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: %v", test.line, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready := writer(func() { cancel() })
	if _, err := (Command{Line: []string{"sh", "-c", "echo ready; exec sleep 60"}, Form: Lines, Output: ready}).Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func count(n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprint(i + 1)) {
				return
			}
		}
	}
}

type writer func()

func (w writer) Write(p []byte) (int, error) { w(); return len(p), nil }

// A change during the check makes it outdated.
func TestRepeat(t *testing.T) {
	dir := t.TempDir()
	database := filepath.Join(dir, "database")
	calls := 0
	got, err := Repeat{Paths: []string{dir + "/other", database}, Settle: time.Microsecond}.Do(t.Context(), func(context.Context) (Finding, error) {
		calls++
		if calls < 3 {
			return Finding{}, os.WriteFile(database, make([]byte, calls), 0o644)
		}
		return Finding{Wanted: true}, nil
	})
	if err != nil || !got.Wanted || calls != 3 {
		t.Errorf("%+v, %v after %d checks", got, err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Repeat{Settle: time.Hour}).Do(ctx, nil); err == nil {
		t.Error("it does not end with its context")
	}
}

func FuzzReasons(f *testing.F) {
	f.Add("Core libraries:\n  * glibc\n *\x00* x\n")
	f.Fuzz(func(t *testing.T, output string) {
		for _, form := range Forms() {
			got := form.reasons(output)
			if len(got) > maxReasons || form == Silent && got != nil {
				t.Errorf("%s: %d reasons", form, len(got))
			}
			for _, reason := range got {
				if reason == "" || reason != status.Clean(reason, maxReason) {
					t.Errorf("%s: reason %q is empty or unclean", form, reason)
				}
			}
		}
	})
}
