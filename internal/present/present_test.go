package present

import (
	"strings"
	"testing"

	"github.com/kured-host/kured/internal/doctor"
)

func TestEncode(t *testing.T) {
	value := struct {
		Zone  string   `json:"zone"`
		Names []string `json:"names"`
	}{"eu <1>", nil}
	for f, want := range map[Format]string{
		JSON: "{\n  \"zone\": \"eu \\u003c1\\u003e\",\n  \"names\": null\n}\n",
		YAML: "names: null\nzone: eu <1>\n",
	} {
		var b strings.Builder
		if err := Encode(&b, f, value); err != nil || b.String() != want || f.ForPeople() {
			t.Errorf("%s: %q, %v", f, b.String(), err)
		}
	}
	for _, f := range []Format{Text, Wide} {
		if err := Encode(&strings.Builder{}, f, value); err == nil || !f.ForPeople() {
			t.Errorf("%s is for programs", f)
		}
	}
}

func TestLine(t *testing.T) {
	if got := Line("a\x1b[31mb\tc\u202ed\n"); got != "a [31mb c d" {
		t.Errorf("%q", got)
	}
}

func TestFindings(t *testing.T) {
	var b strings.Builder
	if err := Findings(&b, Text, []doctor.Finding{
		{Check: "wall", Level: doctor.OK, Text: "it stands"},
		{Check: "boot id", Level: doctor.Warning, Text: "strange", Remedy: "look"},
		{Check: "x", Level: doctor.Fail, Text: "gone"},
	}); err != nil {
		t.Fatal(err)
	}
	want := `ok       wall     it stands
warning  boot id  strange
                  -> look
fail     x        gone

1 ok, 1 warning, 1 failed
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}
