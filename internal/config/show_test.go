package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// written is the settings as a file again.
func written(all []Setting) string {
	var b strings.Builder
	for _, s := range all {
		if s.Header != "" {
			b.WriteString(s.Header + "\n")
		}
		b.WriteString(s.Key + " = " + s.Value + "\n")
	}
	return b.String()
}

// What is shown is the configuration in force: it can be read again, and gives
// the same. And each key knows where it is from.
func TestSettings(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kured.toml")
	put := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("kured.toml", `[lock]
max_concurrent = "10%"
name = "a"
[[window]]
start = "22:00"
end = "04:00"
[reboot]
message = "\"away\" for a\\while"
[[prometheus]]
urls = ["http://p.example"]
ignore = ['severity="info"']
[node]
labels_before = { "example.com/a" = "b", d = "" }
`)
	put("kured.toml.d/10.toml", `lock.name = "b"
[[window]]
days = ["sun"]
start = "04:00"
end = "24:00"
[[notify]]
url = "generic+https://example.com/SECRET"
events = ["held"]
[notify.templates]
held = """
two
lines"""
`)
	all, err := Settings(path, false)
	if err != nil {
		t.Fatal(err)
	}
	text := written(all)
	if strings.Contains(text, "SECRET") {
		t.Errorf("a secret is shown:\n%s", text)
	}
	want, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, quote(hidden), quote(want.Notify[0].URL), 1)
	put("again.toml", text)
	got, err := Load(filepath.Join(dir, "again.toml"))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if a, b := filled(want), filled(got); !reflect.DeepEqual(a, b) {
		t.Errorf("read again it is\n%+v\nwant\n%+v", b, a)
	}
	from := map[string][]string{}
	for _, s := range all {
		from[s.Key] = append(from[s.Key], strings.TrimPrefix(s.From, dir+"/"))
	}
	for key, places := range map[string][]string{
		"max_concurrent": {"kured.toml:2"}, "name": {"kured.toml.d/10.toml:1"}, "namespace": {"default"}, "start": {"kured.toml:5", "kured.toml.d/10.toml:4"},
		"days": {"default", "kured.toml.d/10.toml:3"}, "labels_before": {"kured.toml:13"}, "templates": {"kured.toml.d/10.toml:9"}, "ignore": {"kured.toml:11"},
	} {
		if !reflect.DeepEqual(from[key], places) {
			t.Errorf("%s is from %q, want %q", key, from[key], places)
		}
	}
	// An empty file shows each key that is not in a list of tables.
	if all, err = Settings(filepath.Join(dir, "missing.toml"), true); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, key := range Keys() {
		table, _, _ := strings.Cut(key, ".")
		if header(table) == "["+table+"]" {
			n++
		}
	}
	if len(all) != n {
		t.Errorf("%d keys, want %d", len(all), n)
	}
	if _, err = Settings(filepath.Join(dir, "missing.toml"), false); err == nil {
		t.Error("a file that is missing is shown")
	}
}

// filled has no list or map that is nil: read from a file they are empty.
func filled(c Config) Config {
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Slice:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			}
			for i := range v.Len() {
				fill(v.Index(i))
			}
		case reflect.Map:
			if v.Len() == 0 {
				v.Set(reflect.MakeMap(v.Type()))
			}
		}
	}
	fill(reflect.ValueOf(&c).Elem())
	return c
}

// Whatever a value is, TOML reads it back.
func FuzzQuote(f *testing.F) {
	f.Add("a\"b\\c\n\x00\u007f\u2028é")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // no file has it
		}
		var got struct{ A string }
		if _, err := toml.Decode("a = "+quote(text), &got); err != nil || got.A != text {
			t.Errorf("%q is read as %q, %v", text, got.A, err)
		}
	})
}
