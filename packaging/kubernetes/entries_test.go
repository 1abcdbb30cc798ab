package kubernetes_test

import (
	"encoding/json"
	"slices"
	"strings"
)

// holds is the entry of a node that holds the lock. Changes are pairs of a field and its value, as JSON; an empty value
// leaves the field out.
func holds(node string, changes ...string) string {
	return entry([][2]string{
		{"v", "1"}, {"boot", `"` + strings.Repeat(node[len(node)-1:], 32) + `"`}, {"phase", `"locked"`},
		{"since", `"2026-11-22T12:00:00Z"`}, {"max", "1"}, {"zone", ""}, {"turn", ""}, {"reason", `"linux-image"`}, {"uid", uidOf(node)},
	}, changes)
}

// waits is the entry of a node in the waiting room.
func waits(node string, changes ...string) string {
	return entry([][2]string{
		{"v", "1"}, {"since", `"2026-11-22T12:00:00Z"`}, {"priority", "0"}, {"zone", ""}, {"uid", uidOf(node)},
	}, changes)
}

// uidOf is the UID of a Node as JSON; node-e comes and goes, those after it do not exist.
func uidOf(node string) string {
	if node > "node-d" {
		return `"uid-of-the-gone"`
	}
	return `"<uid of ` + node + `>"`
}

func entry(fields [][2]string, changes []string) string {
	for pair := range slices.Chunk(changes, 2) {
		i := slices.IndexFunc(fields, func(f [2]string) bool { return f[0] == pair[0] })
		if i < 0 {
			i = len(fields)
			fields = append(fields, [2]string{pair[0], ""})
		}
		fields[i][1] = pair[1]
	}
	var parts []string
	for _, field := range fields {
		if field[1] != "" {
			parts = append(parts, `"`+field[0]+`":`+field[1])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// patchOf is a write as kured's: a merge patch of data by pairs of a key and a value, where "" removes, which takes off
// the label of a burial.
func patchOf(path string, pairs ...string) request {
	return mergeOf(path, `null`, pairs...)
}

// burialOf is the same with the label of a burial.
func burialOf(path string, pairs ...string) request {
	return mergeOf(path, `"true"`, pairs...)
}

func mergeOf(path, label string, pairs ...string) request {
	var data []string
	for pair := range slices.Chunk(pairs, 2) {
		value := "null"
		if pair[1] != "" {
			value = quoted(pair[1])
		}
		data = append(data, quoted(pair[0])+":"+value)
	}
	body := `{"metadata":{"labels":{"kured.dev/burial":` + label + `}},"data":{` + strings.Join(data, ",") + `}}`
	return request{method: "PATCH", path: path, media: mergePatch, body: body}
}

// quoted is the string as JSON, with < and > left readable.
func quoted(text string) string {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic(err) // strings always marshal
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(encoded))
}
