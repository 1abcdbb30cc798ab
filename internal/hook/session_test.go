package hook

import (
	"maps"
	"testing"

	"github.com/godbus/dbus/v5"
)

// What systemd tells is believed only in the types in which it tells it.
func TestParse(t *testing.T) {
	good := map[string]any{
		"LoadState": "loaded", "ActiveState": "activating", "InvocationID": []byte{0xab, 1}, "Job": []any{uint32(7), dbus.ObjectPath("/x")},
		"Result": "success", "ExecMainCode": int32(1), "ExecMainStatus": int32(75), "StatusText": "text", "Other": 1,
	}
	want := look{load: "loaded", active: "activating", queued: true, invocation: "ab01", result: "success", code: 1, status: 75, text: "text"}
	if got, err := parse(good); err != nil || got != want || !got.busy() {
		t.Errorf("got %+v, %v", got, err)
	}
	for name := range good {
		for _, value := range []any{nil, uint64(1), []any{"x"}} {
			bad := maps.Clone(good)
			if bad[name] = value; value == nil {
				delete(bad, name)
			}
			if _, err := parse(bad); (err == nil) != (name == "Other") {
				t.Errorf("%s is %T: %v", name, value, err)
			}
		}
	}
	// A unit that cannot be loaded is no service.
	bare := map[string]any{"LoadState": "masked", "ActiveState": "inactive", "InvocationID": []byte{}, "Job": []any{uint32(0), dbus.ObjectPath("/")}}
	if got, err := parse(bare); err != nil || got.busy() || got.invocation != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFailedErrorText(t *testing.T) {
	got := (&FailedError{Phase: PreDrain, Unit: "u", Result: "exit-code", Code: 1, Detail: "x"}).Error()
	if got != "hooks of pre-drain failed (u: exit-code 1): x" {
		t.Errorf("got %q", got)
	}
}
