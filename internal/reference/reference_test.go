package reference

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kured-host/kured/internal/config"
)

const root = "../.."

// What is committed is what the sources say.
func TestWrittenFiles(t *testing.T) {
	files, err := Files(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what its source says; run: make docs", name)
		}
	}
}

// Every key of the decoder is in the tables, in its order.
func TestTables(t *testing.T) {
	tables, err := Tables(root)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, table := range tables {
		for _, group := range table.Groups {
			for _, key := range group.Keys {
				keys = append(keys, table.Name+"."+key.Name)
			}
		}
	}
	if !slices.Equal(keys, config.Keys()) {
		t.Errorf("the keys of the tables:\n%v\nof the decoder:\n%v", keys, config.Keys())
	}
}

// A key that takes words of a closed set only is in enums, with that set.
func TestEnums(t *testing.T) {
	tables, err := Tables(root)
	if err != nil {
		t.Fatal(err)
	}
	const odd = "no-such-word"
	for _, table := range tables {
		for _, group := range table.Groups {
			for _, key := range group.Keys {
				name := table.Name + "." + key.Name
				value := ""
				switch key.Type.Kind() {
				case reflect.String:
					value = `"` + odd + `"`
				case reflect.Slice:
					value = `["` + odd + `"]`
				default:
					continue
				}
				problem := refusal(t, table, key, value)
				if _, words, closed := strings.Cut(problem, " is not known, expected "); closed != (key.Enum != nil) {
					t.Errorf("%s: enum %v, but: %s", name, key.Enum, problem)
				} else if closed {
					for _, word := range key.Enum {
						if !strings.Contains(words, `"`+word+`"`) {
							t.Errorf("%s: %q is not among: %s", name, word, words)
						}
					}
					if n := strings.Count(words, `"`) / 2; n != len(key.Enum) {
						t.Errorf("%s: %d words, the enum has %d: %s", name, n, len(key.Enum), words)
					}
				}
			}
		}
	}
}

// refusal is what the validator says about the key when it has this value.
func refusal(t *testing.T, table Table, key Key, value string) string {
	t.Helper()
	_, err := load(t, table.Header()+"\n"+key.Name+" = "+value+"\n")
	if err == nil {
		return ""
	}
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, key.Name+":") || strings.Contains(line, key.Name+" ") {
			return line
		}
	}
	return ""
}

func load(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kured.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}
