package reference

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/config"
)

// Keys is the part of kured.toml(5) that explains every key, as Markdown for
// go-md2man: a heading for each table, a definition for each group of keys.
func Keys(tables []Table) []byte {
	var b strings.Builder
	for _, table := range tables {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", escape(table.Header()), escape(strings.Join(table.Text, "\n")))
		for _, group := range table.Groups {
			terms := make([]string, len(group.Keys))
			for i, key := range group.Keys {
				terms[i] = fmt.Sprintf("**%s** (%s)", escape(key.Name), escape(kindOf(key)))
			}
			fmt.Fprintf(&b, "\n%s\n: %s\n", strings.Join(terms, ", "), escape(strings.Join(group.Text, "\n  ")))
		}
	}
	return []byte(b.String())
}

// kindOf is the type of a key and its default, for people.
func kindOf(key Key) string {
	kind := "text"
	switch key.Type {
	case reflect.TypeFor[config.Duration]():
		kind = "duration"
	case reflect.TypeFor[intstr.IntOrString]():
		kind = "number or text"
	default:
		switch key.Type.Kind() {
		case reflect.Bool:
			kind = "true or false"
		case reflect.Int:
			kind = "number"
		case reflect.Slice:
			kind = "list of texts"
		case reflect.Map:
			kind = "table of texts"
		}
	}
	if key.Example != "" {
		return kind + "; for example " + key.Example
	}
	return kind + "; default " + TOML(key.Default)
}

// escape keeps Markdown from seeing marks in plain text.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", `\<`, ">", `\>`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`).Replace(text)
}
