package config

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A machine's zone can be set while the daemon runs, as often when a machine is
// set up. A reload goes by it, although the process knows another one.
func TestLocalZoneIsReadAnew(t *testing.T) {
	// Who tests may have set it: an empty one, too, stands for UTC.
	if old, set := os.LookupEnv("TZ"); set {
		t.Setenv("TZ", old) // and is put back
		if err := os.Unsetenv("TZ"); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "localtime")
	offset := func() time.Duration {
		_, seconds := time.Now().In(local(file)).Zone()
		return time.Duration(seconds) * time.Second
	}
	if got := offset(); got != 0 {
		t.Errorf("without a file: %s", got)
	}
	for _, hours := range []int32{-8, 9} {
		// tzfile(5): one type of local time, and no changes.
		zone := bytes.NewBufferString("TZif")
		zone.Write(make([]byte, 16))
		for _, field := range []any{int32(0), int32(0), int32(0), int32(0), int32(1), int32(4), hours * 3600, byte(0), byte(0), []byte("ZON\x00")} {
			if err := binary.Write(zone, binary.BigEndian, field); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(file, zone.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := offset(); got != time.Duration(hours)*time.Hour {
			t.Errorf("%s, want %d hours", got, hours)
		}
	}
	if err := os.WriteFile(file, []byte("no zone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := offset(); got != 0 {
		t.Errorf("with a damaged file: %s", got)
	}
}
