package sentinel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// run starts a Watcher on real files and returns it when its first watches are set.
func run(t *testing.T, paths ...string) *Watcher {
	t.Helper()
	w, err := New(paths, 2*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	watching := make(chan struct{}, 1)
	w.read = func(paths []string) State {
		select {
		case watching <- struct{}{}:
		default:
		}
		return Read(paths)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-watching
	return w
}

// await waits until the State is as wanted, woken by nothing but Changed.
func await(t *testing.T, w *Watcher, what string, want func(State) bool) State {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		if state := w.State(); want(state) {
			return state
		}
		select {
		case <-w.Changed():
		case <-timeout:
			t.Fatalf("%s: still %+v", what, w.State())
		}
	}
}

func wanted(s State) bool    { return s.Wanted && s.Err == nil }
func notWanted(s State) bool { return !s.Wanted && s.Err == nil }
func unknown(s State) bool   { return s.Err != nil }

func TestWatcherFollows(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	type step struct {
		name string
		do   func(t *testing.T, dir string)
		want func(State) bool
	}
	create := step{"create", func(t *testing.T, dir string) { write(t, dir+"/a/b/c/required", "") }, wanted}
	remove := step{"remove", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/a/b/c/required")) }, notWanted}
	mkdirs := func(t *testing.T, dir string) { must(t, os.MkdirAll(dir+"/a/b/c", 0o755)) }
	nothing := func(*testing.T, string) {}

	for _, test := range []struct {
		name  string
		setUp func(t *testing.T, dir string)
		steps []step
	}{
		{"file comes and goes", mkdirs, []step{create, remove, create, remove}},
		{"already there", func(t *testing.T, dir string) { mkdirs(t, dir); write(t, dir+"/a/b/c/required", "") }, []step{remove}},
		{"directories come later, one by one", nothing, []step{
			{"a", func(t *testing.T, dir string) { must(t, os.Mkdir(dir+"/a", 0o755)) }, notWanted},
			{"b", func(t *testing.T, dir string) { must(t, os.Mkdir(dir+"/a/b", 0o755)) }, notWanted},
			{"c", func(t *testing.T, dir string) { must(t, os.Mkdir(dir+"/a/b/c", 0o755)) }, notWanted},
			create, remove,
		}},
		{"directories come later, all at once with the file", nothing, []step{
			{"all", func(t *testing.T, dir string) { mkdirs(t, dir); write(t, dir+"/a/b/c/required", "") }, wanted},
			{"all gone", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/a")) }, notWanted},
			{"all again", func(t *testing.T, dir string) { mkdirs(t, dir); write(t, dir+"/a/b/c/required", "") }, wanted},
		}},
		{"directory above moved away and made anew", mkdirs, []step{
			create,
			{"move", func(t *testing.T, dir string) { must(t, os.Rename(dir+"/a", dir+"/z")) }, notWanted},
			{"anew", func(t *testing.T, dir string) { mkdirs(t, dir); write(t, dir+"/a/b/c/required", "") }, wanted},
			{"write into the old one", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/z/b/c/required")) }, wanted},
			remove,
		}},
		{"renamed over", mkdirs, []step{
			create,
			{"reasons", func(t *testing.T, dir string) {
				write(t, dir+"/a/b/c/new", "libc6\n")
				must(t, os.Rename(dir+"/a/b/c/new", dir+"/a/b/c/required.pkgs"))
			}, func(s State) bool { return len(s.Reasons) == 1 && s.Reasons[0] == "libc6" }},
			{"sentinel", func(t *testing.T, dir string) {
				write(t, dir+"/a/b/c/new", "")
				must(t, os.Chtimes(dir+"/a/b/c/new", time.Unix(1e9, 0), time.Unix(1e9, 0)))
				must(t, os.Rename(dir+"/a/b/c/new", dir+"/a/b/c/required"))
			}, func(s State) bool { return s.Since.Equal(time.Unix(1e9, 0)) }},
			{"sentinel moved away", func(t *testing.T, dir string) {
				must(t, os.Rename(dir+"/a/b/c/required", dir+"/a/b/c/other"))
			}, notWanted},
		}},
		{"reasons written bit by bit", mkdirs, []step{
			create,
			{"first", func(t *testing.T, dir string) { write(t, dir+"/a/b/c/required.pkgs", "one\n") },
				func(s State) bool { return strings.Join(s.Reasons, " ") == "one" }},
			{"second", func(t *testing.T, dir string) {
				file, err := os.OpenFile(dir+"/a/b/c/required.pkgs", os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				_, err = file.WriteString("two\n")
				must(t, errors.Join(err, file.Close()))
			}, func(s State) bool { return strings.Join(s.Reasons, " ") == "one two" }},
			{"truncated", func(t *testing.T, dir string) { must(t, os.Truncate(dir+"/a/b/c/required.pkgs", 0)) },
				func(s State) bool { return len(s.Reasons) == 0 && s.Wanted }},
		}},
		{"a check fails, and runs again", mkdirs, []step{
			{"fails", func(t *testing.T, dir string) { write(t, dir+"/a/b/c/required.failed", "broken") }, unknown},
			{"finds out", func(t *testing.T, dir string) { write(t, dir+"/a/b/c/required", "") }, func(s State) bool { return s.Wanted }},
			{"recovers", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/a/b/c/required.failed")) }, wanted},
		}},
		{"link to the directory, turned to another one", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(dir+"/run1/c", 0o755))
			must(t, os.MkdirAll(dir+"/run2/c", 0o755))
			must(t, os.Mkdir(dir+"/a", 0o755))
			must(t, os.Symlink("../run1", dir+"/a/b"))
		}, []step{
			create, remove, create,
			{"turn", func(t *testing.T, dir string) {
				must(t, os.Symlink(dir+"/run2", dir+"/a/new"))
				must(t, os.Rename(dir+"/a/new", dir+"/a/b"))
			}, notWanted},
			create, remove,
		}},
		{"the sentinel is a link", func(t *testing.T, dir string) {
			mkdirs(t, dir)
			must(t, os.Mkdir(dir+"/elsewhere", 0o755))
			write(t, dir+"/elsewhere/file", "")
			must(t, os.Symlink(dir+"/elsewhere/file", dir+"/a/b/c/required"))
		}, []step{
			{"target gone", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/elsewhere/file")) }, unknown},
			{"target back", func(t *testing.T, dir string) { write(t, dir+"/elsewhere/file", "") }, wanted},
			remove,
		}},
		{"a file in the way", func(t *testing.T, dir string) { write(t, dir+"/a", "") }, []step{
			{"replaced", func(t *testing.T, dir string) {
				must(t, os.Remove(dir+"/a"))
				mkdirs(t, dir)
				write(t, dir+"/a/b/c/required", "")
			}, wanted},
		}},
		{"becomes unreadable and readable again", mkdirs, []step{
			create, remove,
			{"loop", func(t *testing.T, dir string) { must(t, os.Symlink("required", dir+"/a/b/c/required")) }, unknown},
			remove, create,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.setUp(t, dir)
			w := run(t, dir+"/a/b/c/required", dir+"/a/b/c/needed")
			for i, step := range test.steps {
				step.do(t, dir)
				await(t, w, fmt.Sprintf("step %d, %s", i, step.name), step.want)
			}
		})
	}
}

// Whatever happens to the directories and links, in the end the Watcher says what is on the disk.
func TestWatcherSurvivesStorm(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	w := run(t, dir+"/a/b/required", dir+"/link/b/needed")
	names := []string{"/a", "/a/b", "/x", "/x/b", "/link", "/a/b/required", "/x/b/needed", "/a/b/required.pkgs", "/a/b/required.failed"}
	for round := range 30 {
		for range 20 {
			name := dir + names[random.IntN(len(names))]
			switch random.IntN(6) {
			case 0:
				_ = os.Mkdir(name, 0o755)
			case 1:
				_ = os.RemoveAll(name)
			case 2:
				_ = os.Rename(name, dir+names[random.IntN(len(names))])
			case 3:
				_ = os.WriteFile(name, []byte(fmt.Sprint(random.IntN(100))), 0o644)
			case 4:
				_ = os.Symlink(dir+names[random.IntN(4)], name)
			case 5:
				_ = os.MkdirAll(name, 0o755)
			}
		}
		want := Read(w.paths)
		await(t, w, fmt.Sprintf("seed %d, round %d, want %+v", seed, round, want), want.Equal)
	}
	for _, name := range names {
		_ = os.RemoveAll(dir + name)
	}
	write(t, dir+"/a", "") // an event that makes the Watcher tidy up
	await(t, w, "in the end", notWanted)
	limit := strings.Count(dir, "/") + 1
	for deadline := time.Now().Add(20 * time.Second); kernelWatches(t) > limit; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("seed %d: the kernel still holds %d watches, want at most %d", seed, kernelWatches(t), limit)
		}
	}
}

// kernelWatches counts the inotify watches of this process as the kernel sees them (proc_pid_fdinfo(5)).
func kernelWatches(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fdinfo: %v", err)
	}
	count := 0
	for _, file := range files {
		if info, err := os.ReadFile(file); err == nil {
			count += strings.Count(string(info), "inotify wd:")
		}
	}
	return count
}

// The kernel drops events when its queue is full and says only that it did.
func TestWatcherSurvivesOverflow(t *testing.T) {
	dir := t.TempDir()
	w, err := New([]string{dir + "/required"}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	reads, proceed := make(chan struct{}), make(chan struct{})
	w.read = func(paths []string) State {
		reads <- struct{}{}
		<-proceed
		return Read(paths)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()

	<-reads // The loop stands still now and takes no event.
	proceed <- struct{}{}
	write(t, dir+"/required", "")
	<-reads
	_ = os.Remove(dir + "/required")
	for i := range 25000 {
		name := dir + "/other" + fmt.Sprint(i%10)
		write(t, name, "")
		_ = os.Remove(name)
	}
	write(t, dir+"/required.pkgs", "late\n")
	write(t, dir+"/required", "")
	go func() {
		for {
			select {
			case <-reads:
			case proceed <- struct{}{}:
			case <-t.Context().Done(): // after Run, which may be in the midst of a look
				return
			}
		}
	}()
	proceed <- struct{}{}
	await(t, w, "after the overflow", func(s State) bool { return s.Wanted && len(s.Reasons) == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNew(t *testing.T) {
	if _, err := New([]string{"relative", "/a/../b", "/", "/fine"}, -time.Second); err == nil ||
		strings.Count(err.Error(), "clean absolute path") != 3 || !strings.Contains(err.Error(), "negative") {
		t.Errorf("all problems at once: %v", err)
	}
	if _, err := New(nil, 0); err == nil {
		t.Error("no path at all is accepted")
	}
	dir := t.TempDir()
	write(t, dir+"/required", "")
	w, err := New([]string{dir + "/required"}, time.Hour)
	if err != nil || !w.State().Wanted {
		t.Errorf("State before Run: %+v, %v", w.State(), err)
	}
}

func TestRunSaysWhichLimit(t *testing.T) {
	w, err := New([]string{t.TempDir() + "/required"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: 3, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	err = w.Run(t.Context())
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "fs.inotify.max_user_instances") {
		t.Errorf("without file descriptors: %v", err)
	}
	if err := limitError("watch", syscall.ENOSPC); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "fs.inotify.max_user_watches") {
		t.Errorf("without watches: %v", err)
	}
}

// bench is a Watcher in a synctest bubble: the clock is fake and moves only when everything in the bubble waits,
// so that any timer or ticker in the loop would show as a read.
type bench struct {
	w      *Watcher
	events chan fsnotify.Event
	faults chan error
	reads  atomic.Int64
	syncs  atomic.Int64
	fail   error
	done   chan error
}

func (b *bench) concerns(path string) bool { return filepath.Base(path) == "required" }
func (b *bench) sync() (error, error)      { b.syncs.Add(1); return nil, b.fail }

func newBench(t *testing.T, settle time.Duration) *bench {
	w, err := New([]string{"/nowhere/required"}, settle)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{w: w, events: make(chan fsnotify.Event), faults: make(chan error), done: make(chan error, 1)}
	w.read = func([]string) State { return State{Reasons: []string{fmt.Sprint(b.reads.Add(1))}} }
	go func() { b.done <- w.follow(t.Context(), b.events, b.faults, b) }()
	synctest.Wait()
	return b
}

func (b *bench) check(t *testing.T, what string, reads int64) {
	t.Helper()
	synctest.Wait()
	if r, s := b.reads.Load(), b.syncs.Load(); r != reads || s != reads {
		t.Errorf("%s: %d reads and %d syncs, want %d", what, r, s, reads)
	}
}

func TestNeverPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Second)
		b.check(t, "start", 1)
		time.Sleep(365 * 24 * time.Hour)
		b.check(t, "a year without an event", 1)
		for range 1000 {
			b.events <- fsnotify.Event{Name: "/nowhere/other", Op: fsnotify.Write}
		}
		time.Sleep(24 * time.Hour)
		b.check(t, "a thousand events of other files", 1)
		b.events <- fsnotify.Event{Name: "/nowhere/required", Op: fsnotify.Create}
		time.Sleep(999 * time.Millisecond)
		b.check(t, "before the settle time", 1)
		time.Sleep(time.Millisecond)
		b.check(t, "after the settle time", 2)
		time.Sleep(365 * 24 * time.Hour)
		b.check(t, "a year after an event", 2)
	})
}

func TestSettleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Second)
		for range 20 { // every half second for ten seconds
			b.check(t, "while it is written", 1)
			b.events <- fsnotify.Event{Name: "/nowhere/required", Op: fsnotify.Write}
			time.Sleep(500 * time.Millisecond)
		}
		b.check(t, "ten settle times after the first event", 2)
		for range 19 {
			b.events <- fsnotify.Event{Name: "/nowhere/required", Op: fsnotify.Write}
			time.Sleep(500 * time.Millisecond)
			b.check(t, "again", 2)
		}
		time.Sleep(500 * time.Millisecond)
		b.check(t, "and quiet", 3)
	})
}

func TestFaults(t *testing.T) {
	strange := errors.New("strange")
	for _, test := range []struct {
		name  string
		do    func(b *bench)
		reads int64
		err   string
	}{
		{"overflow", func(b *bench) { b.faults <- fsnotify.ErrEventOverflow }, 2, ""},
		{"watch already gone", func(b *bench) { b.faults <- syscall.EINVAL }, 2, ""},
		{"strange error", func(b *bench) { b.faults <- strange }, 1, "watch sentinels: strange"},
		{"events end", func(b *bench) { close(b.events) }, 1, "the event stream ended"},
		{"errors end", func(b *bench) { close(b.faults) }, 1, "the event stream ended"},
		{"watching fails later", func(b *bench) {
			b.fail = strange
			b.events <- fsnotify.Event{Name: "/nowhere/required"}
		}, 1, "strange"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, time.Second)
				test.do(b)
				time.Sleep(time.Minute)
				synctest.Wait()
				if reads := b.reads.Load(); reads != test.reads {
					t.Errorf("%d reads, want %d", reads, test.reads)
				}
				if test.err == "" {
					return
				}
				if err := <-b.done; err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
			})
		})
	}
}
