package nodes

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Of the images that no recipe names, those go that nobody has used lately; and nothing else does.
func TestRemoveOld(t *testing.T) {
	cache := t.TempDir()
	add := func(name string, age time.Duration) string {
		t.Helper()
		dir := filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+".lock", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(-age)
		if err := os.Chtimes(dir+".lock", used, used); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	kept := add("a-000000000001", 2*unusedFor)
	lately := add("a-000000000002", unusedFor/2)
	old := add("a-000000000003", 2*unusedFor)
	interrupted := add("b-000000000003", 2*unusedFor) + ".partial"
	if err := os.Rename(filepath.Join(cache, "b-000000000003"), interrupted); err != nil {
		t.Fatal(err)
	}
	slot := filepath.Join(cache, "slot-0")
	if err := os.WriteFile(slot, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	if err := removeOld(cache, []string{kept}, &told); err != nil {
		t.Fatal(err)
	}
	var left []string
	err := filepath.WalkDir(cache, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) != ".lock" && filepath.Dir(path) == cache {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{kept, lately, slot}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	if !strings.Contains(told.String(), filepath.Base(old)) || strings.Count(told.String(), "\n") != 1 {
		t.Errorf("told: %q", told.String())
	}
}
