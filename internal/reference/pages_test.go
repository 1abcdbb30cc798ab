package reference

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/kured-host/kured/internal/status"
)

func pages(t *testing.T) []Page {
	t.Helper()
	all, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages", len(all))
	}
	return all
}

// Every link in the pages leads to a file of the checkout, and to a heading of
// it if it names one.
func TestLinks(t *testing.T) {
	all := pages(t)
	for _, page := range all {
		for _, target := range page.Links {
			name, anchor, _ := strings.Cut(target, "#")
			to := page.Path
			if name != "" {
				to = path.Join(path.Dir(page.Path), name)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: link to %s: %v", page.Path, target, err)
				continue
			}
			if anchor == "" {
				continue
			}
			i := slices.IndexFunc(all, func(p Page) bool { return p.Path == to })
			if i < 0 || !slices.Contains(all[i].Anchors, anchor) {
				t.Errorf("%s: link to %s: there is no such heading", page.Path, target)
			}
		}
	}
}

// Every page in docs is in its contents.
func TestContents(t *testing.T) {
	all := pages(t)
	contents := slices.IndexFunc(all, func(p Page) bool { return p.Path == "docs/README.md" })
	if contents < 0 {
		t.Fatal("docs/README.md is missing")
	}
	for _, page := range all {
		name, in := strings.CutPrefix(page.Path, "docs/")
		if in && name != "README.md" && !slices.Contains(all[contents].Links, name) {
			t.Errorf("docs/README.md does not name %s", name)
		}
	}
}

// Every example of the configuration is one that the decoder and the schema
// accept, in the shape it has in the page.
func TestExamplesOfConfiguration(t *testing.T) {
	schema := compiled(t)
	count := 0
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			if block.Language != "toml" {
				continue
			}
			count++
			if _, err := load(t, block.Text); err != nil {
				t.Errorf("%s:%d: %v", page.Path, block.Line, err)
			}
			if err := schema.Validate(asJSON(t, block.Text)); err != nil {
				t.Errorf("%s:%d: %v", page.Path, block.Line, err)
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d examples", count)
	}
}

// Every YAML in the pages can be read, and if it is an object of Kubernetes
// itself has only fields that there are.
func TestExamplesOfYAML(t *testing.T) {
	strict := runtime.NewScheme()
	if err := scheme.AddToScheme(strict); err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			if block.Language != "yaml" {
				continue
			}
			for _, document := range regexp.MustCompile(`(?m)^---\n`).Split(block.Text, -1) {
				var tree map[string]any
				if err := yaml.UnmarshalStrict([]byte(document), &tree); err != nil {
					t.Errorf("%s:%d: %v", page.Path, block.Line, err)
					continue
				}
				version, _ := tree["apiVersion"].(string)
				kind, _ := tree["kind"].(string)
				if kind == "" {
					continue // of another program
				}
				group, v, found := strings.Cut(version, "/")
				if !found {
					group, v = "", version
				}
				object, err := strict.New(runtimeschema.GroupVersionKind{Group: group, Version: v, Kind: kind})
				if err != nil {
					t.Errorf("%s:%d: %v", page.Path, block.Line, err)
				} else if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
					t.Errorf("%s:%d: %v", page.Path, block.Line, err)
				}
			}
		}
	}
}

// Every script in the pages is one that the shell can read.
func TestExamplesOfScripts(t *testing.T) {
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			if block.Language != "sh" {
				continue
			}
			cmd := exec.Command("sh", "-n")
			cmd.Stdin = strings.NewReader(block.Text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v: %s", page.Path, block.Line, err, out)
			}
		}
	}
}

// A link to a word of the vocabulary is to the one place where it is explained.
func TestWordsHaveOnePlace(t *testing.T) {
	for _, page := range pages(t) {
		if page.Path != "docs/troubleshoot.md" {
			continue
		}
		for _, anchor := range page.Anchors {
			if regexp.MustCompile(`-[0-9]+$`).MatchString(anchor) {
				t.Errorf("docs/troubleshoot.md has two headings %s", anchor)
			}
		}
	}
}

// Every alert of the kit leads to a heading in docs/troubleshoot.md, and every
// phase and reason has one.
func TestTroubleshoot(t *testing.T) {
	all := pages(t)
	i := slices.IndexFunc(all, func(p Page) bool { return p.Path == "docs/troubleshoot.md" })
	if i < 0 {
		t.Fatal("docs/troubleshoot.md is missing")
	}
	page := all[i]
	rules, err := os.ReadFile(filepath.Join(root, "packaging/monitoring/kured-alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`docs/troubleshoot\.md#([a-z-]+)`).FindAllStringSubmatch(string(rules), -1)
	if len(found) < 5 {
		t.Errorf("only %d alerts lead to it", len(found))
	}
	for _, m := range found {
		if !slices.Contains(page.Anchors, m[1]) {
			t.Errorf("docs/troubleshoot.md has no heading for #%s", m[1])
		}
	}
	for _, name := range regexp.MustCompile(`alert: (\S+)`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(page.Text, "`"+name[1]+"`") {
			t.Errorf("docs/troubleshoot.md does not name the alert %s", name[1])
		}
	}
	for _, reason := range status.Reasons() {
		if !slices.Contains(page.Anchors, string(reason)) {
			t.Errorf("docs/troubleshoot.md has no #%s", reason)
		}
	}
	for _, phase := range status.Phases() {
		if !slices.Contains(page.Anchors, string(phase)) {
			t.Errorf("docs/troubleshoot.md has no #%s", phase)
		}
	}
}
