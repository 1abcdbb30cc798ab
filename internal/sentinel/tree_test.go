package sentinel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"
)

func newNotify(t *testing.T) *fsnotify.Watcher {
	t.Helper()
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = notify.Close() })
	return notify
}

func (t *tree) mustSync(test *testing.T) {
	test.Helper()
	if denied, err := t.sync(); denied != nil || err != nil {
		test.Fatalf("sync: denied %v, error %v", denied, err)
	}
}

// racer makes the next directory just before the one above it is watched, when no event can tell of it yet.
type racer struct {
	*fsnotify.Watcher
	next map[string]string
}

func (r racer) Add(dir string) error {
	if next, ok := r.next[dir]; ok {
		_ = os.Mkdir(next, 0o755)
	}
	return r.Watcher.Add(dir)
}

func TestSyncSeesDirectoriesThatCameMeanwhile(t *testing.T) {
	dir := t.TempDir()
	notify := newNotify(t)
	a, b, c := dir+"/a", dir+"/a/b", dir+"/a/b/c"
	newTree(racer{notify, map[string]string{dir: a, a: b, b: c}}, []string{c + "/required"}).mustSync(t)
	for _, want := range []string{dir, a, b, c} {
		if !slices.Contains(notify.WatchList(), want) {
			t.Errorf("%s is not watched, only %v", want, notify.WatchList())
		}
	}
}

// vanisher removes a directory just before it is watched.
type vanisher struct {
	*fsnotify.Watcher
	dir string
}

func (v vanisher) Add(dir string) error {
	if dir == v.dir {
		_ = os.Remove(dir)
	}
	return v.Watcher.Add(dir)
}

func TestSyncSurvivesDirectoryThatVanishes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	notify := newNotify(t)
	newTree(vanisher{notify, dir + "/a"}, []string{dir + "/a/required"}).mustSync(t)
	if watched := notify.WatchList(); !slices.Contains(watched, dir) || slices.Contains(watched, dir+"/a") {
		t.Errorf("watched %v, want %s without its a", watched, dir)
	}
}

// full is an inotify instance without room.
type full struct{}

func (full) Add(string) error    { return syscall.ENOSPC }
func (full) Remove(string) error { return nil }

func TestSyncSaysWhichLimit(t *testing.T) {
	_, err := newTree(full{}, []string{"/required"}).sync()
	if err == nil || !strings.Contains(err.Error(), "fs.inotify.max_user_watches") {
		t.Errorf("error %v, want one that names the setting", err)
	}
}

// recorder records for which directories watches are asked.
type recorder struct {
	*fsnotify.Watcher
	added []string
}

func (r *recorder) Add(dir string) error {
	r.added = append(r.added, dir)
	return r.Watcher.Add(dir)
}

// A directory that is made anew can have the inode number of the old one, whose watch is gone: by that number alone
// nobody may believe that it is watched.
func TestSyncAsksForEveryWatchAnew(t *testing.T) {
	dir := t.TempDir()
	notify := &recorder{Watcher: newNotify(t)}
	tree := newTree(notify, []string{dir + "/required"})
	tree.mustSync(t)
	notify.added = nil
	tree.mustSync(t)
	if !slices.Contains(notify.added, dir) {
		t.Errorf("asked only for %v", notify.added)
	}
}

// Nobody takes the events of notify in this test, so that fsnotify cannot tidy up on its own account first.
func TestSyncLeavesNoWatchBehind(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"/a", "/one", "/two"} {
		if err := os.Mkdir(dir+sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("one", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	notify := newNotify(t)
	tree := newTree(notify, []string{dir + "/a/required", dir + "/link/required"})
	tree.mustSync(t)
	before := kernelWatches(t)
	for _, name := range []string{"b", "c", "d"} {
		if err := os.Rename(dir+"/a", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir+"/a", 0o755); err != nil {
			t.Fatal(err)
		}
		tree.mustSync(t)
	}
	if after := kernelWatches(t); after != before {
		t.Errorf("directory replaced: the kernel holds %d watches, want %d as before", after, before)
	}
	_ = os.Remove(dir + "/link")
	if err := os.Symlink("two", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	tree.mustSync(t)
	if after := kernelWatches(t); after != before || !slices.Contains(notify.WatchList(), dir+"/two") {
		t.Errorf("link turned: the kernel holds %d watches, want %d as before; watched %v", after, before, notify.WatchList())
	}
}
