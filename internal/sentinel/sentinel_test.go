package sentinel

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fsnotify/fsnotify"

	"github.com/kured-host/kured/internal/status"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	old := time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name  string
		setUp func(t *testing.T, dir string)
		want  State // Path relative to the directory; Err by text
		err   string
	}{
		{name: "nothing there", setUp: func(*testing.T, string) {}},
		{
			name:  "directory missing",
			setUp: func(t *testing.T, dir string) { _ = os.Remove(dir) },
		},
		{
			name: "a file where the directory should be",
			setUp: func(t *testing.T, dir string) {
				_ = os.Remove(dir)
				write(t, dir, "")
			},
		},
		{
			name: "sentinel without reasons",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required", "*** System restart required ***\n")
				_ = os.Chtimes(dir+"/required", old, old)
			},
			want: State{Wanted: true, Path: "required", Since: old},
		},
		{
			name: "sentinel with packages",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required", "")
				_ = os.Chtimes(dir+"/required", old, old)
				write(t, dir+"/required.pkgs", "linux-image-6.1.0-40-amd64\r\n  libc6\n\nlibc6\nd\x1b[31mbus\x07\n")
			},
			want: State{Wanted: true, Path: "required", Since: old,
				Reasons: []string{"d [31mbus", "libc6", "linux-image-6.1.0-40-amd64"}},
		},
		{
			name: "packages without a sentinel",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required.pkgs", "libc6\n")
			},
		},
		{
			name: "two sentinels: the older one counts, the reasons of both",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required", "")
				write(t, dir+"/required.pkgs", "libc6\nsystemd\n")
				write(t, dir+"/needed", "")
				write(t, dir+"/needed.pkgs", "kernel-core\nsystemd\n")
				_ = os.Chtimes(dir+"/needed", old, old)
			},
			want: State{Wanted: true, Path: "needed", Since: old, Reasons: []string{"kernel-core", "libc6", "systemd"}},
		},
		{
			name: "one sentinel there, the other unreadable",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/needed", "")
				_ = os.Chtimes(dir+"/needed", old, old)
				_ = os.Symlink("required", dir+"/required")
			},
			want: State{Wanted: true, Path: "needed", Since: old},
			err:  "too many levels of symbolic links",
		},
		{
			name:  "loop of links",
			setUp: func(t *testing.T, dir string) { _ = os.Symlink("required", dir+"/required") },
			err:   "too many levels of symbolic links",
		},
		{
			name:  "dangling link",
			setUp: func(t *testing.T, dir string) { _ = os.Symlink("nowhere", dir+"/required") },
			err:   "dangling symbolic link",
		},
		{
			name: "link through a file",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/file", "")
				_ = os.Symlink("file/x", dir+"/required")
			},
			err: "dangling symbolic link",
		},
		{
			name:  "a directory under the name",
			setUp: func(t *testing.T, dir string) { _ = os.Mkdir(dir+"/required", 0o755) },
			err:   "is a directory",
		},
		{
			name: "reasons unreadable",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required", "")
				_ = os.Chtimes(dir+"/required", old, old)
				_ = os.Mkdir(dir+"/required.pkgs", 0o755)
			},
			want: State{Wanted: true, Path: "required", Since: old, Reasons: []string{"(reasons unreadable: DIR/required.pkgs: not a regular file)"}},
		},
		{
			name: "reasons are a pipe that nobody writes to",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required", "")
				_ = os.Chtimes(dir+"/required", old, old)
				if err := syscall.Mkfifo(dir+"/required.pkgs", 0o644); err != nil {
					t.Fatal(err)
				}
			},
			want: State{Wanted: true, Path: "required", Since: old, Reasons: []string{"(reasons unreadable: DIR/required.pkgs: not a regular file)"}},
		},
		{
			name: "a check could not run",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required.failed", "\n needs-restarting:\x1b exit code 3\nmore\n")
			},
			err: "the check of sentinel DIR/required could not run: needs-restarting: exit code 3",
		},
		{
			name: "a check could not run, and another sentinel stands",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required.failed", "")
				write(t, dir+"/needed", "")
				_ = os.Chtimes(dir+"/needed", old, old)
			},
			want: State{Wanted: true, Path: "needed", Since: old},
			err:  "the check of sentinel DIR/required could not run: (it does not say why)",
		},
		{
			name: "a check could not run, and had found before that a reboot is wanted",
			setUp: func(t *testing.T, dir string) {
				write(t, dir+"/required.failed", "out of memory")
				write(t, dir+"/required", "")
				_ = os.Chtimes(dir+"/required", old, old)
			},
			want: State{Wanted: true, Path: "required", Since: old},
			err:  "out of memory",
		},
		{
			name:  "why a check could not run is unreadable",
			setUp: func(t *testing.T, dir string) { _ = os.Symlink("nowhere", dir+"/required.failed") },
			err:   "could not run: (why is unreadable: open DIR/required.failed: no such file or directory)",
		},
		{
			name: "why a check could not run is a pipe that nobody writes to",
			setUp: func(t *testing.T, dir string) {
				if err := syscall.Mkfifo(dir+"/required.failed", 0o644); err != nil {
					t.Fatal(err)
				}
			},
			err: "not a regular file",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "r")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			test.setUp(t, dir)
			got := Read([]string{dir + "/required", dir + "/needed"})
			test.err = strings.ReplaceAll(test.err, "DIR", dir)
			if text := errorText(got.Err); (test.err == "") != (text == "") || !strings.Contains(text, test.err) {
				t.Errorf("error %q, want one with %q", text, test.err)
			}
			want := test.want
			if want.Path != "" {
				want.Path = filepath.Join(dir, want.Path)
			}
			for i := range want.Reasons {
				want.Reasons[i] = strings.ReplaceAll(want.Reasons[i], "DIR", dir)
			}
			got.Err = nil
			if !got.Equal(want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestReadNameTooLong(t *testing.T) {
	got := Read([]string{filepath.Join(t.TempDir(), strings.Repeat("x", 300))})
	if got.Wanted || !errors.Is(got.Err, syscall.ENAMETOOLONG) {
		t.Errorf("got %+v, want ENAMETOOLONG as an error", got)
	}
}

// asNobody runs f on a thread of its own whose file accesses are those of an unprivileged user.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f() // Not root: the permissions bind us anyway.
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Errorf("setfsuid: %v", err)
			return
		}
		f()
	}()
	<-done
}

func TestPermissionDenied(t *testing.T) {
	dir := t.TempDir()
	// The way to the directory has to be free for the test to be about the directory itself.
	for up := filepath.Dir(dir); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	closed := filepath.Join(dir, "closed")
	write(t, filepath.Join(dir, "open"), "")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, closed+"/required", "")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o700) })

	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	tree := newTree(notify, []string{closed + "/required", filepath.Join(dir, "open")})
	var got State
	var denied error
	asNobody(t, func() {
		got = Read([]string{closed + "/required"})
		denied, err = tree.sync()
	})
	if got.Wanted || !errors.Is(got.Err, os.ErrPermission) {
		t.Errorf("got %+v, want permission denied as an error", got)
	}
	if err != nil || !errors.Is(denied, os.ErrPermission) || !strings.Contains(denied.Error(), closed) {
		t.Errorf("sync: denied %v, error %v; want permission denied for %s alone", denied, err, closed)
	}
	if watched := notify.WatchList(); !slices.Contains(watched, dir) {
		t.Errorf("watched %v, want %s to be watched in spite of its neighbour", watched, dir)
	}
}

func TestReasonsBounded(t *testing.T) {
	var lines []string
	for i := range 1000 {
		lines = append(lines, strings.Repeat("é", 201)+strings.Repeat("x", i))
	}
	lines = append(lines, "a", "b")
	got := reasons(lines)
	if !slices.Equal(got[:2], []string{"a", "b"}) {
		t.Errorf("starts with %q", got[:2])
	}
	if len(got) != 3 { // all long lines are the same when cut
		t.Errorf("%d reasons: %q", len(got), got)
	}
	lines = nil
	for i := range 100 {
		lines = append(lines, strings.Repeat("p", i+1))
	}
	got = reasons(lines)
	if len(got) != maxReasons+1 || got[maxReasons] != "(and 36 more)" {
		t.Errorf("%d reasons, the last %q", len(got), got[len(got)-1])
	}
}

func FuzzReasons(f *testing.F) {
	f.Add("linux-image-6.1.0-40-amd64\nlibc6\nlibc6\n")
	f.Add("\x1b[2J\r\n\t a\tb \u202e\xff\xfe\x00\n" + strings.Repeat("ü", 400))
	f.Add(strings.Repeat("a\nb\nc\n", 100))
	f.Fuzz(func(t *testing.T, text string) {
		got := reasons(strings.Split(text, "\n"))
		if len(got) > maxReasons+1 {
			t.Fatalf("%d reasons", len(got))
		}
		for _, reason := range got {
			if reason == "" || utf8.RuneCountInString(reason) > maxReason || status.Clean(reason, maxReason) != reason {
				t.Errorf("reason %q is empty, too long or unclean", reason)
			}
		}
		sorted := got[:min(len(got), maxReasons)]
		if !slices.IsSorted(sorted) || len(slices.Compact(slices.Clone(sorted))) != len(sorted) {
			t.Errorf("not sorted or not unique: %q", sorted)
		}
		if len(got) <= maxReasons {
			if again := reasons(got); !slices.Equal(again, got) {
				t.Errorf("cleaning twice changes %q to %q", got, again)
			}
		}
	})
}

func FuzzFirstLine(f *testing.F) {
	f.Add("\n\x1b[2J\n needs-restarting: exit code 3\nmore")
	f.Add(strings.Repeat("ü", 400) + "\xff")
	f.Fuzz(func(t *testing.T, text string) {
		if got := firstLine(text); got == "" || utf8.RuneCountInString(got) > maxReason || status.Clean(got, maxReason) != got {
			t.Errorf("%q became %q: empty, too long or unclean", text, got)
		}
	})
}
