package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// tree writes files, by their names below one directory, and returns the path
// of kured.toml there.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "kured.toml")
}

func TestDropIns(t *testing.T) {
	path := tree(t, map[string]string{
		"kured.toml":             "[lock]\nname = \"a\"\npriority = 1\n[[window]]\nstart = \"1:00\"\nend = \"2:00\"\n[sentinel]\npaths = [\"/a\", \"/b\"]\n[node]\nlabels_before = { a = \"1\", b = \"2\" }\n",
		"kured.toml.d/50.toml":   "[lock]\nname = \"c\"\nmax_concurrent = 3\n[[window]]\nstart = \"3:00\"\nend = \"4:00\"\n[[window]]\nstart = \"5:00\"\nend = \"6:00\"",
		"kured.toml.d/10-a.toml": "[lock]\nname = \"b\"\nwaiting_room = 2\nmax_concurrent = 2\n[sentinel]\npaths = [\"/c\"]\n[node.labels_before]\nc = \"3\"\n[[prometheus]]\nurls = [\"http://a\"]\n",
		"kured.toml.d/60.toml":   "window = [{start = \"7:00\", end = \"8:00\"}]",
		"kured.toml.d/.70.toml":  "hidden",
		"kured.toml.d/80.toml~":  "edited",
		"kured.toml.d/90.TOML":   "no",
	})
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Lock.Name, want.Lock.Priority, want.Lock.WaitingRoom, want.Lock.MaxConcurrent.IntVal = "c", 1, 2, 3
	want.Sentinel.Paths = []string{"/c"}
	want.Node.LabelsBefore = map[string]string{"c": "3"}
	want.Windows = []Window{{Start: "1:00", End: "2:00"}, {Start: "3:00", End: "4:00"}, {Start: "5:00", End: "6:00"}, {Start: "7:00", End: "8:00"}}
	want.Prometheus = []Prometheus{DefaultPrometheus()}
	want.Prometheus[0].URLs = []string{"http://a"}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	files, err := Files(path)
	if got := strings.Join(files, " "); err != nil ||
		strings.ReplaceAll(got, path, "F") != "F F.d/10-a.toml F.d/50.toml F.d/60.toml" {
		t.Errorf("files: %s, %v", got, err)
	}
	// Without the file itself there are still its drop-ins.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if cfg, err = LoadOptional(path); err != nil || cfg.Lock.Name != "c" || len(cfg.Windows) != 3 {
		t.Errorf("without the file: %+v, %v", cfg, err)
	}
	if _, err = Load(path); !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a file that has to be there: %v", err)
	}
}

func TestProblemsOfDropIns(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"of each file": {
			map[string]string{
				"kured.toml":          "[lock]\n\nnaem = 1\npriority = true\n[[window]]\nstart = \"x\"\nend = \"1:00\"",
				"kured.toml.d/a.toml": "[[window]]\nstart = \"2:00\"\nend = \"x\"\n\n[[window]]\nend = \"3:00\"\nstart = 1",
				"kured.toml.d/b.toml": "[lock]\npriority = \"1\"\n[log]\nlevel = \"x\"\n",
			}, `kured.toml:3: lock.naem: unknown, did you mean "name"?
kured.toml:4: lock.priority: true is a boolean, expected a whole number
kured.toml:6: window[1].start: "x" is not a time of day such as "22:00" or "22:00:30"
kured.toml.d/a.toml:3: window[1].end: "x" is not a time of day such as "22:00" or "22:00:30"
kured.toml.d/a.toml:7: window[2].start: 1 is a whole number, expected text in quotes
kured.toml.d/b.toml:2: lock.priority: "1" is text, expected a whole number
kured.toml.d/b.toml:4: log.level: "x" is not known, expected "debug", "info", "warn" or "error"`},
		"replaced": {
			map[string]string{
				"kured.toml":          "[lock]\nwaiting_room = 0\n[log]\nlevel = 1\n",
				"kured.toml.d/a.toml": "[lock]\nwaiting_room = 1\n[log]\nlevel = \"debug\"\n",
			}, `kured.toml:4: log.level: 1 is a whole number, expected text in quotes`},
		"clash": {
			map[string]string{
				"kured.toml":          "[retry]\nmax = \"10m\"\n[lock]\nname = \"a\"",
				"kured.toml.d/a.toml": "[retry]\n\ninitial = \"1h\"\n[lock]\npolicy = \"a\"",
			}, `kured.toml:2: retry.max: "10m" is less than retry.initial, which is "1h" (retry.initial is in kured.toml.d/a.toml:3)
kured.toml.d/a.toml:5: lock.policy: "a" is the lock itself (lock.name), expected another ConfigMap (lock.name is in kured.toml:4)`},
		"clash with a default": {
			map[string]string{"kured.toml": "", "kured.toml.d/a.toml": "[retry]\n\ninitial = \"2h\"\n"}, `kured.toml.d/a.toml:3: retry.max: "1h" is less than retry.initial, which is "2h"`},
		"clash with what is broken": {
			map[string]string{"kured.toml": "[retry]\ninitial = 1", "kured.toml.d/a.toml": "[retry]\nmax = \"1m\"\n"}, `kured.toml:2: retry.initial: 1 is a whole number, expected a duration in quotes such as "90s" or "30m"`},
		"syntax of one": {
			map[string]string{
				"kured.toml":          "[retry]\nmax = \"1m\"\nmin = 1",
				"kured.toml.d/a.toml": "[retry\ninitial = \"1m\"",
				"kured.toml.d/b.toml": "\xff\xfe",
				"kured.toml.d/c.toml": "[[lock]]",
			}, `kured.toml:3: retry.min: unknown, the keys of [retry] are initial, max
kured.toml.d/a.toml:1: expected '.' or ']' to end table name, but got '\n' instead
kured.toml.d/b.toml:1: is UTF-16, expected UTF-8
kured.toml.d/c.toml:1: lock: is a list of tables, expected one table: [lock]`},
		"not a file": {map[string]string{"kured.toml": "[log]\nlevel = 1", "kured.toml.d/a.toml/b.toml": ""}, `kured.toml.d/a.toml: is a directory, expected a file
kured.toml:2: log.level: 1 is a whole number, expected text in quotes`},
		"not a directory": {map[string]string{"kured.toml": "", "kured.toml.d": ""}, `kured.toml.d: cannot be read: not a directory`},
	} {
		t.Run(name, func(t *testing.T) {
			path := tree(t, c.files)
			_, err := Load(path)
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", ""); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestDropInsThatCannotBeRead(t *testing.T) {
	path := tree(t, map[string]string{"kured.toml": "", "kured.toml.d/c.toml": "[log]\nlevel = \"debug\"\n[retry]\nmax = \"1m\""}) // perhaps a.toml has retry.initial
	in := path + dropInDirectory + "/"
	if err := errors.Join(os.Symlink("c.toml", in+"b.toml"), os.Symlink("gone", in+"d.toml"), syscall.Mkfifo(in+"a.toml", 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	want := in + "a.toml: is not a regular file\n" + in + "d.toml: cannot be read: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	if _, err := LoadOptional(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("optional is the file, not what it links to: %v", err)
	}
}
