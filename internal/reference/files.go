package reference

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// Files are all files that are written from a source, by their path from root,
// as they have to be. Of pages only the part between its marks is written; the
// rest is as it is on disk.
func Files(root string) (map[string][]byte, error) {
	tables, err := Tables(root)
	if err != nil {
		return nil, err
	}
	schema, err := Schema(tables)
	if err != nil {
		return nil, err
	}
	metrics, err := Metrics(root)
	if err != nil {
		return nil, err
	}
	examples, err := Examples(root)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"packaging/kured.toml":        Shipped(tables),
		"cmd/kured/kured.schema.json": schema,
	}
	for _, part := range []struct {
		page, name string
		text       []byte
	}{
		{"docs/man/kured.toml.5.md", "keys", Keys(tables)},
		{"docs/troubleshoot.md", "words", Words()},
		{"docs/operate.md", "metrics", metrics},
		{"docs/operate.md", "examples", examples},
		{"docs/distributions.md", "distributions", Distributions()},
	} {
		whole, ok := files[part.page]
		if !ok {
			if whole, err = os.ReadFile(filepath.Join(root, part.page)); err != nil {
				return nil, err
			}
		}
		if files[part.page], err = splice(whole, part.name, part.text); err != nil {
			return nil, fmt.Errorf("%s: %w", part.page, err)
		}
	}
	return files, nil
}

// Write writes what Files returns and reports which files changed.
func Write(root string) ([]string, error) {
	files, err := Files(root)
	if err != nil {
		return nil, err
	}
	var changed []string
	for name, data := range files {
		path := filepath.Join(root, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			continue
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return changed, err
		}
		changed = append(changed, name)
	}
	return changed, nil
}

// splice puts text between the marks of that name.
func splice(page []byte, name string, text []byte) ([]byte, error) {
	begin := []byte("<!-- written by make docs: " + name + " -->\n")
	end := []byte("<!-- end of " + name + " -->\n")
	before, rest, found := bytes.Cut(page, begin)
	_, after, closed := bytes.Cut(rest, end)
	if !found || !closed {
		return nil, fmt.Errorf("no marks of the part %q", name)
	}
	return bytes.Join([][]byte{before, begin, text, []byte("\n"), end, after}, nil), nil
}
