package nodes

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMachineSources(t *testing.T) {
	const debian = "ID=debian\nVERSION_CODENAME=bookworm\n"
	const want = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main contrib\nSigned-By: /k.gpg\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"deb822, security stanza first": {map[string]string{
			"os-release": debian,
			"apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://sec.example/\nSuites: bookworm-security\nComponents: main\n\n" +
				"# a comment\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k.gpg\n",
		}, want},
		"one line with options": {map[string]string{
			"os-release":       debian,
			"apt/sources.list": "# deb http://no.example/ bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n",
		}, want},
		"other vendors only": {map[string]string{
			"os-release":                  debian,
			"apt/sources.list.d/sdk.list": "deb http://sdk.example/apt sdk main\n",
		}, ""},
		"disabled": {map[string]string{
			"os-release":                   debian,
			"apt/sources.list.d/x.sources": "Enabled: no\nTypes: deb\nURIs: http://x.example/\nSuites: bookworm\nComponents: main\n",
		}, ""},
		"not a Debian": {map[string]string{
			"os-release":       "ID=ubuntu\nVERSION_CODENAME=noble\n",
			"apt/sources.list": "deb http://mirror.example/ubuntu noble main\n",
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			etc := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(etc, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := machineSources(etc, "trixie"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
