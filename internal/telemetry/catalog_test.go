package telemetry

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kured-host/kured/internal/status"
)

var update = flag.Bool("update", false, "write the catalog anew, and the ids of new words")

// People filter by these ids and have catalogs of their own: an id that was
// once there stays what it is. -update writes down new words only.
func TestMessageIDs(t *testing.T) {
	const file = "testdata/message-ids.txt"
	text, err := os.ReadFile(file)
	if err != nil && !(*update && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for line := range strings.Lines(string(text)) {
		id, word, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kept[word] = id; MessageID(word) != id {
			t.Errorf("the id of %q was %s and is %s", word, id, MessageID(word))
		}
	}
	seen := map[string]bool{}
	for _, e := range vocabulary() {
		id := MessageID(e.word)
		if seen[id] || !regexp.MustCompile(`^[0-9a-f]{12}8[0-9a-f]{3}[89ab][0-9a-f]{15}$`).MatchString(id) {
			t.Errorf("%s has the id %s", e.word, id)
		}
		seen[id] = true
		if kept[e.word] == "" && !*update {
			t.Errorf("the id of %q is not in %s (go test ./internal/telemetry -run TestMessageIDs -update adds it)", e.word, file)
		}
		kept[e.word] = id
	}
	if !*update || t.Failed() {
		return
	}
	var b strings.Builder
	for _, word := range slices.Sorted(maps.Keys(kept)) {
		fmt.Fprintf(&b, "%s %s\n", kept[word], word)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The catalog that is shipped is the vocabulary's, and journalctl reads it.
func TestCatalog(t *testing.T) {
	const file = "../../systemd/kured.catalog"
	if *update {
		if err := os.WriteFile(file, []byte(Catalog()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shipped, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(shipped) != Catalog() {
		t.Fatalf("%s is not the vocabulary's (go test ./internal/telemetry -run TestCatalog -update writes it anew)", file)
	}

	root := t.TempDir()
	journalctl := func(args ...string) string {
		t.Helper()
		output, err := exec.Command("journalctl", append([]string{"--root=" + root}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("journalctl %s: %v\n%s", args, err, output)
		}
		return string(output)
	}
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/kured.catalog"), shipped, 0o644); err != nil {
		t.Fatal(err)
	}
	if output := journalctl("--update-catalog"); output != "" {
		t.Errorf("journalctl complains: %s", output)
	}
	list := journalctl("--list-catalog")
	for _, e := range vocabulary() {
		if !strings.Contains(list, MessageID(e.word)+" kured: kured: "+strings.ReplaceAll(e.word, "-", " ")+"\n") {
			t.Errorf("journalctl does not know %s", e.word)
		}
	}
	if n := strings.Count(list, "\n"); n != len(vocabulary()) {
		t.Errorf("%d entries of %d words:\n%s", n, len(vocabulary()), list)
	}
	entry := journalctl("--dump-catalog", MessageID(string(status.NotReady)))
	for _, want := range []string{"Subject: kured: not ready\n", "\nDefined-By: kured\n", "\nDocumentation: man:kured(8)\n", "keeps the\nlock", `"kubectl describe node @KURED_NODE@"`} {
		if !strings.Contains(entry, want) {
			t.Errorf("no %q in:\n%s", want, entry)
		}
	}
}
