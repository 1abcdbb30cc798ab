package logind

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

// kexecFile is a /sys/kernel/kexec_loaded with a content; empty: a kernel without kexec.
func kexecFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kexec_loaded")
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestSupports(t *testing.T) {
	for _, test := range []struct {
		method  Method
		version string
		kexec   string
		text    string // empty: supported
	}{
		{method: Normal, version: "247.3-7+deb11u7"},
		{method: Kexec, version: "249.11-0ubuntu3", kexec: "0\n"},
		{method: Kexec, version: "252-46.el9", kexec: "1\n"},
		{method: Kexec, version: "v257.13", kexec: "0\n"},
		{method: Kexec, version: "247.3-7+deb11u7", kexec: "1\n", text: "since systemd 249, this is systemd 247.3-7+deb11u7"},
		{method: Kexec, version: "257.13", text: "built without kexec"},
		{method: SoftReboot, version: "257.13", kexec: "1\n", text: "keeps the kernel, its boot id and the sentinel"},
		{method: "reset", version: "257.13", text: "no such method"},
	} {
		t.Run(string(test.method)+" "+test.version, func(t *testing.T) {
			f := fakelogin1.Start(t)
			f.SetVersion(test.version)
			m := Manager{Address: f.Address(), KexecFile: kexecFile(t, test.kexec)}
			err := m.Supports(t.Context(), test.method)
			var no *UnsupportedError
			if test.text == "" && err != nil || test.text != "" && (!errors.As(err, &no) || !strings.Contains(err.Error(), test.text)) {
				t.Errorf("%v, want an error with %q", err, test.text)
			}
		})
	}
}

// What cannot be found out is not the same as not supported.
func TestSupportsUnknown(t *testing.T) {
	for name, setUp := range map[string]func(*testing.T, *fakelogin1.Login1, *Manager){
		"no bus":            func(_ *testing.T, f *fakelogin1.Login1, _ *Manager) { f.Bus().Kill() },
		"a number":          func(_ *testing.T, f *fakelogin1.Login1, _ *Manager) { f.SetRawProperty("Version", uint32(252)) },
		"no number":         func(_ *testing.T, f *fakelogin1.Login1, _ *Manager) { f.SetRawProperty("Version", "main") },
		"kernel unreadable": func(t *testing.T, _ *fakelogin1.Login1, m *Manager) { m.KexecFile = t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			f := fakelogin1.Start(t)
			m := Manager{Address: f.Address(), KexecFile: kexecFile(t, "1\n")}
			setUp(t, f, &m)
			err := m.Supports(t.Context(), Kexec)
			var no *UnsupportedError
			if err == nil || errors.As(err, &no) {
				t.Errorf("%v, want another error", err)
			}
		})
	}
}

func TestRebootBy(t *testing.T) {
	for _, test := range []struct {
		method  Method
		version string
		want    string
		flags   uint64
		calls   int
	}{
		{Normal, "257.13", "confirmed", 0, 1},
		{Kexec, "252.39", "confirmed", 2, 1},
		{Kexec, "257.13", "confirmed", 2, 1},
		{Kexec, "248.3", "refused", 2, 0},
		{Kexec, "247.3", "refused", 2, 0},
		{SoftReboot, "257.13", "refused", 0, 0},
		{"", "257.13", "refused", 0, 0},
	} {
		t.Run(string(test.method)+" "+test.version, func(t *testing.T) {
			f := fakelogin1.Start(t)
			f.SetVersion(test.version)
			err := Manager{Address: f.Address()}.RebootBy(t.Context(), test.method, long)
			if got := class(t, err); got != test.want {
				t.Errorf("%s, want %s; error: %v", got, test.want, err)
			}
			if f.Flags() != test.flags || f.Calls() != test.calls || f.Reboots() != test.calls {
				t.Errorf("flags %d, %d calls, %d reboots; want %d, %d and as many", f.Flags(), f.Calls(), f.Reboots(), test.flags, test.calls)
			}
		})
	}
}

func TestKexecLoaded(t *testing.T) {
	for content, want := range map[string]bool{"1\n": true, "0\n": false, "": false} {
		got, err := Manager{KexecFile: kexecFile(t, content)}.KexecLoaded()
		if got != want || errors.Is(err, os.ErrNotExist) != (content == "") {
			t.Errorf("%q: %t, %v", content, got, err)
		}
	}
}

func FuzzVersionNumber(f *testing.F) {
	for _, text := range []string{"252.39-1~deb12u2", "v257", "256~rc3", "", "v", "-1", "99999999999999999999", "٢٥٢"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		number, err := versionNumber(text)
		digits := strings.TrimLeft(strings.TrimPrefix(text, "v"), "0")
		if err == nil && (number < 0 || number > 0 && !strings.HasPrefix(digits, strconv.Itoa(number))) {
			t.Errorf("%q: %d", text, number)
		}
	})
}
