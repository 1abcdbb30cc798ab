package reference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/config"
)

// compiled is the schema that is in the program.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "cmd/kured/kured.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("kured.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("kured.schema.json") // checks it by the schema of schemas, too
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON is a TOML text as an editor hands it to the schema.
func asJSON(t *testing.T, text string) any {
	t.Helper()
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	data, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// commented is the start of a line that is TOML but for its "#".
var commented = regexp.MustCompile(`(?m)^#([a-z_]+ = |\[\[|  "|\]$)`)

// The shipped file with all its keys.
func TestSchemaAcceptsShipped(t *testing.T) {
	schema := compiled(t)
	tables, err := Tables(root)
	if err != nil {
		t.Fatal(err)
	}
	text := commented.ReplaceAllString(string(Shipped(tables)), "$1")
	if err := schema.Validate(asJSON(t, text)); err != nil {
		t.Errorf("kured.toml with all keys: %v", err)
	}
}

// values is a value of each TOML type but dates, which JSON does not have.
func values() map[string]string {
	return map[string]string{
		"text": `"x"`, "duration": `"1m30s"`, "bool": `true`, "number": `5`, "decimal": `1.5`,
		"texts": `["x"]`, "numbers": `[1]`, "mixed": `["x", 1]`, "empty": `[]`,
		"table": `{ x = "y" }`, "odd table": `{ x = 1 }`, "deep table": `{ x = { y = "z" } }`, "tables": `[{ x = "y" }]`,
	}
}

// The schema and the decoder agree for each key on which types it can have.
// What the decoder refuses for other reasons, such as its range, may pass here.
func TestSchemaAgreesOnTypes(t *testing.T) {
	schema := compiled(t)
	tables, err := Tables(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for _, group := range table.Groups {
			for _, key := range group.Keys {
				for kind, value := range values() {
					text := table.Header() + "\n" + others(table, key) + key.Name + " = " + value + "\n"
					agree(t, schema, text, fmt.Sprintf("%s.%s as %s", table.Name, key.Name, kind))
				}
			}
		}
	}
}

// others gives the keys of a table that have to be there, but for one.
func others(table Table, but Key) string {
	var b strings.Builder
	for _, group := range table.Groups {
		for _, key := range group.Keys {
			if key.Example != "" && key.Name != but.Name {
				fmt.Fprintf(&b, "%s = %s\n", key.Name, key.Example)
			}
		}
	}
	return b.String()
}

// ofType are the decoder's words for a wrong type or an unknown key; everything
// else it says is about a value.
func ofType(problem string) bool {
	return strings.Contains(problem, ", expected a") && strings.Contains(problem, " is ") && !strings.Contains(problem, "is not") ||
		strings.Contains(problem, ", expected text in quotes") || strings.Contains(problem, ", expected true or false") ||
		strings.Contains(problem, ", expected one table") || strings.Contains(problem, ": unknown") ||
		strings.Contains(problem, "is not a duration")
}

// agree fails unless a file that the schema accepts has no problem of types, and
// one that the decoder accepts is accepted by the schema.
func agree(t *testing.T, schema *jsonschema.Schema, text, what string) {
	t.Helper()
	refused := schema.Validate(asJSON(t, text))
	_, err := load(t, text)
	if err == nil && refused != nil {
		t.Errorf("%s: only the schema refuses it: %v\n%s", what, refused, text)
	}
	if err == nil || refused != nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		if ofType(line) {
			t.Errorf("%s: only the decoder refuses it: %s%s", what, line, text)
		}
	}
}

// The same for whole files that are mixed at random from right and wrong keys.
func TestSchemaAgreesOnRandomFiles(t *testing.T) {
	schema := compiled(t)
	tables, err := Tables(root)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	kinds := values()
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	refused := 0
	for range 2000 {
		var b strings.Builder
		for _, table := range tables {
			if random.IntN(4) > 0 {
				continue
			}
			header := table.Header()
			switch random.IntN(40) {
			case 0:
				header = "[[" + table.Name + "]]"
			case 1:
				header = "[" + table.Name + "]"
			case 2:
				header = "[" + table.Name + "x]"
			}
			b.WriteString(header + "\n" + others(table, Key{}))
			for _, group := range table.Groups {
				for _, key := range group.Keys {
					if key.Example != "" || random.IntN(3) > 0 {
						continue
					}
					name, value := key.Name, TOML(key.Default)
					switch random.IntN(60) {
					case 0:
						value = kinds[names[random.IntN(len(names))]]
					case 1:
						name += "s"
					}
					fmt.Fprintf(&b, "%s = %s\n", name, value)
				}
			}
		}
		text := b.String()
		agree(t, schema, text, "a random file")
		if schema.Validate(asJSON(t, text)) != nil {
			refused++
		}
		if t.Failed() {
			return
		}
	}
	if refused < 200 || refused > 1900 {
		t.Errorf("the schema refuses %d of 2000: too few or too many to show anything", refused)
	}
}

// The ranges of numbers in the schema are those of the validator.
func TestRanges(t *testing.T) {
	tables, err := Tables(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for _, group := range table.Groups {
			for _, key := range group.Keys {
				if key.Type.Kind() != reflect.Int && key.Type != reflect.TypeFor[intstr.IntOrString]() {
					continue
				}
				name := table.Name + "." + key.Name
				r, ok := ranges()[name]
				if !ok {
					t.Errorf("%s has no range", name)
					continue
				}
				accepts := func(n int) bool { return refusal(t, table, key, fmt.Sprint(n)) == "" }
				if !accepts(r[0]) || accepts(r[0]-1) || r[1] != 0 && (!accepts(r[1]) || accepts(r[1]+1)) {
					t.Errorf("%s: the validator has other bounds than %v", name, r)
				}
			}
		}
	}
}

// So are the texts that may stand for a number, and the form of durations.
func TestPatterns(t *testing.T) {
	schema := compiled(t)
	for key := range texts() {
		table, leaf, _ := strings.Cut(key, ".")
		for _, text := range []string{"0%", "1%", "10%", "99%", "100%", "101%", "05%", "quorum", "5", "", "-1%", "1.5%", "10 %", "% "} {
			file := fmt.Sprintf("[%s]\n%s = %q\n", table, leaf, text)
			_, err := load(t, file)
			if refused := schema.Validate(asJSON(t, file)); (refused == nil) != (err == nil) {
				t.Errorf("%s = %q: the validator: %v; the schema: %v", key, text, err, refused)
			}
		}
	}
	for _, text := range []string{"0", "1s", "-1s", "+1s", "1h30m", "1.5h", ".5h", "5.h", "1us", "1µs", "1μs", "1", "", "s", "1s ", "1 s", "--1s", "-0", "1d", "1S", "1h30"} {
		var d config.Duration
		file := fmt.Sprintf("[drain]\ngrace_period = %q\n", text)
		if err, refused := d.UnmarshalText([]byte(text)), schema.Validate(asJSON(t, file)); (refused == nil) != (err == nil) {
			t.Errorf("duration %q: the decoder: %v; the schema: %v", text, err, refused)
		}
	}
}
