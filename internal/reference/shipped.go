package reference

import (
	"fmt"
	"strconv"
	"strings"
)

const shippedHead = `# kured reboots this node when the system asks for it and the cluster allows it.
#
# Every key is optional. Each one below shows its default: remove the "#" in
# front of a key to change it. A key that kured does not know is an error.
# Check the file with "kured config check", then "systemctl reload kured".
#
# Files "*.toml" in /etc/kured/kured.toml.d are read after this one, by name.
# A key in a later file replaces the earlier one, lists and tables such as
# node.labels_before as a whole. Tables in double brackets, such as [[window]],
# may stand there several times; those of all files add up.
#
# Durations are written like "90s", "30m" or "1h30m".
`

// width is the longest line of kured.toml.
const width = 80

// Shipped is packaging/kured.toml: every key with its default, behind "#".
func Shipped(tables []Table) []byte {
	var b strings.Builder
	b.WriteString(shippedHead)
	for _, table := range tables {
		b.WriteString("\n\n")
		comment(&b, table.Text)
		if table.List {
			b.WriteString("#")
		}
		b.WriteString(table.Header() + "\n")
		for _, group := range table.Groups {
			b.WriteString("\n")
			comment(&b, group.Text)
			for _, key := range group.Keys {
				assignment(&b, key)
			}
		}
	}
	return []byte(b.String())
}

func comment(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString(strings.TrimRight("# "+line, " ") + "\n")
	}
}

// assignment is the key with its default, or with an example where it has none.
func assignment(b *strings.Builder, key Key) {
	value := key.Example
	if value == "" {
		value = TOML(key.Default)
	}
	line := fmt.Sprintf("#%s = %s\n", key.Name, value)
	items, list := key.Default.Interface().([]string)
	if len(line) <= width || !list {
		b.WriteString(line)
		return
	}
	fmt.Fprintf(b, "#%s = [\n", key.Name)
	for _, item := range items {
		fmt.Fprintf(b, "#  %s,\n", strconv.Quote(item))
	}
	b.WriteString("#]\n")
}
