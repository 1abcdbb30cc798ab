package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A real binary and what stands for the package: the list is that of the binary, valid by CycloneDX's own schema, and
// the same each time.
func TestBinary(t *testing.T) {
	dir := t.TempDir()
	binary, file := filepath.Join(dir, "program"), filepath.Join(dir, "kured_1.2.3~rc.1+x_arm64.rpm")
	// Small, and with modules in it.
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm", "GOARM=7")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(file, []byte("package"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-version", "1.2.3~rc.1+x", "-time", "1700000000", "-package", file, "-binary", binary}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run(args, out); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("not the same twice")
	}
	validate(t, first.Bytes())
	for _, want := range []string{
		`"purl": "pkg:rpm/kured-host/kured@1.2.3~rc.1%2Bx-1?arch=armv7hl"`,
		`"timestamp": "2023-11-14T22:13:20Z"`,
		`"bom-ref": "pkg:golang/github.com/CycloneDX/cyclonedx-go@v`,
		`"purl": "pkg:golang/std@1.`,
		`"value": "7"`, // GOARM
		digestOf(t, binary),
		digestOf(t, file),
	} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("no %s in\n%s", want, &first)
		}
	}
	if strings.Contains(first.String(), dir) {
		t.Error("it tells where it was made")
	}
}

func digestOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// validate uses the schema that comes with the module that writes the file.
func validate(t *testing.T, text []byte) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	const base = "http://cyclonedx.org/schema/"
	for name, file := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(base+name, doc); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Error(err)
	}
}

func TestLibrary(t *testing.T) {
	const sum = "h1:R08FiRC+foiuwWhSSLpSD5H4hSWtGnR3wo7apkBFIQA="
	for name, test := range map[string]struct {
		module debug.Module
		want   string // the reference, or in the error
	}{
		"plain":     {debug.Module{Path: "example.org/a", Version: "v1.0.0", Sum: sum}, "pkg:golang/example.org/a@v1.0.0"},
		"no go.mod": {debug.Module{Path: "example.org/a", Version: "v2.0.0+incompatible", Sum: sum}, "pkg:golang/example.org/a@v2.0.0%2Bincompatible"},
		"by another": {debug.Module{Path: "example.org/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/b", Version: "v1.1.0", Sum: sum}},
			"pkg:golang/example.org/b@v1.1.0"},
		"by a directory": {debug.Module{Path: "example.org/a", Version: "v1.0.0", Replace: &debug.Module{Path: "./internal/a"}}, "kured:example.org/a"},
		"no checksum":    {debug.Module{Path: "example.org/a", Version: "v1.0.0"}, "no checksum of the form"},
	} {
		c, err := library(&test.module)
		got := c.BOMRef
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		if _, err := url.Parse(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
