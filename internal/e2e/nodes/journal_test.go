package nodes

import "testing"

func TestDecodeEntry(t *testing.T) {
	const meta = `"__REALTIME_TIMESTAMP":"1700000000000001","_BOOT_ID":"b0","_SYSTEMD_UNIT":"init.scope"`
	for name, c := range map[string]struct {
		line, message, unit string
	}{
		"text":           {`{` + meta + `,"MESSAGE":"hello"}`, "hello", "init.scope"},
		"bytes":          {`{` + meta + `,"MESSAGE":[104,105,27]}`, "hi\x1b", "init.scope"},
		"twice":          {`{` + meta + `,"MESSAGE":["first","last"]}`, "last", "init.scope"},
		"about a unit":   {`{` + meta + `,"MESSAGE":"Started","UNIT":"x.service"}`, "Started", "x.service"},
		"from a unit":    {`{"__REALTIME_TIMESTAMP":"1700000000000001","_BOOT_ID":"b0","MESSAGE":"bye","OBJECT_SYSTEMD_UNIT":"x.service"}`, "bye", "x.service"},
		"left out, null": {`{` + meta + `,"MESSAGE":null}`, "", "init.scope"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := decodeEntry([]byte(c.line))
			if err != nil {
				t.Fatal(err)
			}
			if e.Message != c.message || e.Unit != c.unit || e.Boot != "b0" || e.Time.UnixMicro() != 1700000000000001 {
				t.Errorf("got %+v", e)
			}
		})
	}
	for _, line := range []string{`{`, `{"MESSAGE":"no time"}`} {
		if e, err := decodeEntry([]byte(line)); err == nil {
			t.Errorf("%s: got %+v, want an error", line, e)
		}
	}
}
