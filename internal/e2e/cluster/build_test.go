package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Packages are used again only where nothing differs from the commit of which they are.
func TestCleanCommit(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	dir := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
	if got := cleanCommit(t.Context(), dir); got != "" {
		t.Errorf("without git: %q", got)
	}
	git := func(args ...string) {
		t.Helper()
		command := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.invalid"}, args...)...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "--quiet")
	write("a", "1")
	git("add", "a")
	git("commit", "--quiet", "--message=first")
	first := cleanCommit(t.Context(), dir)
	if first == "" {
		t.Fatal("nothing differs from the commit")
	}
	write("b", "not known to git")
	if got := cleanCommit(t.Context(), dir); got != "" {
		t.Errorf("with a new file: %q", got)
	}
	git("add", "b")
	git("commit", "--quiet", "--message=second")
	if got := cleanCommit(t.Context(), dir); got == "" || got == first {
		t.Errorf("after another commit: %q, before %q", got, first)
	}
	write("a", "2")
	if got := cleanCommit(t.Context(), dir); got != "" {
		t.Errorf("with a change: %q", got)
	}
}
