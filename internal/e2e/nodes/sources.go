package nodes

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// machineSources takes those entries of a Debian machine's apt sources (below etc) that give its own
// release, and returns them, deb822-formed (sources.list(5)), for another release. It is empty if the machine
// is no Debian or has none. Only the release itself is taken: update and security suites of an archived
// release lie elsewhere.
func machineSources(etc, suite string) string {
	release := osRelease(filepath.Join(etc, "os-release"))
	own := release["VERSION_CODENAME"]
	if release["ID"] != "debian" || own == "" {
		return ""
	}
	var out strings.Builder
	add := func(uris, components, signedBy string) {
		if out.Len() > 0 {
			return // one source is enough, a second could only add a conflict
		}
		out.WriteString("Types: deb\nURIs: " + uris + "\nSuites: " + suite + "\nComponents: " + components + "\n")
		if signedBy != "" {
			out.WriteString("Signed-By: " + signedBy + "\n")
		}
	}
	files, _ := filepath.Glob(filepath.Join(etc, "apt/sources.list.d/*.sources"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for stanza := range strings.SplitSeq(string(text), "\n\n") {
			if s := deb822(stanza); slices.Contains(strings.Fields(s["Suites"]), own) && s["Enabled"] != "no" {
				add(s["URIs"], s["Components"], s["Signed-By"])
			}
		}
	}
	lists, _ := filepath.Glob(filepath.Join(etc, "apt/sources.list.d/*.list"))
	for _, file := range append([]string{filepath.Join(etc, "apt/sources.list")}, lists...) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			// deb [options] uri suite component…
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
			if !ok {
				continue
			}
			rest = strings.TrimSpace(rest)
			signedBy := ""
			if options, after, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]"); ok && strings.HasPrefix(rest, "[") {
				rest = after
				for option := range strings.FieldsSeq(options) {
					if value, ok := strings.CutPrefix(option, "signed-by="); ok {
						signedBy = value
					}
				}
			}
			if f := strings.Fields(rest); len(f) >= 3 && f[1] == own {
				add(f[0], strings.Join(f[2:], " "), signedBy)
			}
		}
	}
	return out.String()
}

// deb822 reads the simple fields of one stanza; values that span lines (an inline key) are left out.
func deb822(stanza string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(stanza) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ") {
			continue
		}
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields
}

// osRelease reads the assignments of os-release(5).
func osRelease(path string) map[string]string {
	text, _ := os.ReadFile(path)
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}
