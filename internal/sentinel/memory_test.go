package sentinel

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMemory(t *testing.T) {
	m := Memory{Path: filepath.Join(t.TempDir(), "demand.json")}
	if got, err := m.Recall(); err != nil || got != (Standing{}) {
		t.Errorf("before anything was kept: %+v, %v", got, err)
	}
	if err := m.Forget(); err != nil {
		t.Errorf("nothing cannot be forgotten: %v", err)
	}
	want := Standing{Known: time.Date(2026, 11, 22, 3, 4, 5, 600, time.UTC), Queued: time.Date(2026, 11, 22, 4, 0, 0, 7, time.UTC), Told: true}
	if err := errors.Join(m.Keep(Standing{}), m.Keep(Standing{want.Known.Local(), want.Queued.Local(), true})); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Recall(); err != nil || got != want {
		t.Errorf("recalled %+v, %v", got, err)
	}
	if err := m.Forget(); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Recall(); err != nil || got != (Standing{}) {
		t.Errorf("after it was forgotten: %+v, %v", got, err)
	}
	for text, want := range map[string]string{"": "unexpected end", "{": "unexpected end", `{"known":5}`: "not a json string", "null null": "invalid character"} {
		if err := os.WriteFile(m.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Recall(); err == nil || !strings.Contains(err.Error(), m.Path) || !strings.Contains(strings.ToLower(err.Error()), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	away := Memory{Path: filepath.Join(t.TempDir(), "none", "demand.json")}
	if err := away.Keep(want); err == nil {
		t.Error("kept in a directory that does not exist")
	}
}

// FuzzMemory: whatever the file holds, it is times that can be kept again, or an error.
func FuzzMemory(f *testing.F) {
	for _, text := range []string{"", "null", "{}", `{"known":"2026-11-22T03:04:05Z","queued":"2026-11-22T03:04:05.6+01:00"}`, `{"known":"9999-12-31T23:59:59-23:59"}`} {
		f.Add([]byte(text))
	}
	m := Memory{Path: filepath.Join(f.TempDir(), "demand.json")}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(m.Path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := m.Recall()
		if err != nil {
			return
		}
		if err := m.Keep(got); err != nil {
			if failed := (*json.MarshalerError)(nil); errors.As(err, &failed) {
				return // a year beyond what RFC 3339 can say; the caller is told
			}
			t.Fatal(err)
		}
		if again, err := m.Recall(); err != nil || !again.Known.Equal(got.Known) || !again.Queued.Equal(got.Queued) || again.Told != got.Told {
			t.Errorf("%+v became %+v, %v", got, again, err)
		}
	})
}
