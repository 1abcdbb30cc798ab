package terminal

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// pty is a terminal of the kernel's, and what a program writes to it.
func pty(t *testing.T, columns, lines uint16) (program *os.File, seen func(n int) string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	resize(t, program, columns, lines)
	return program, func(n int) string {
		var b bytes.Buffer
		for b.Len() < n {
			buffer := make([]byte, n-b.Len())
			got, err := master.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(buffer[:got])
		}
		return b.String()
	}
}

func resize(t *testing.T, f *os.File, columns, lines uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
}

func TestPlainElsewhere(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	long := strings.Repeat("x", 1000) + "\n"
	for _, place := range []Terminal{Of(&bytes.Buffer{}), Of(file)} {
		if place.Live || place.Width() != 0 || place.Paint(Red, "held") != "held" || place.Cut(long) != long {
			t.Errorf("%+v is taken for a terminal", place)
		}
	}
}

func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	program, _ := pty(t, 10, 5)
	place := Of(program)
	if !place.Live || place.Width() != 10 || place.Paint(Red, "held") != "\x1b[31mheld\x1b[0m" || place.Paint(Red, "") != "" {
		t.Errorf("a terminal: %+v", place)
	}
	if got := place.Cut("0123456789\n0123456789a\nb"); got != "0123456789\n012345678…\nb" {
		t.Errorf("cut: %q", got)
	}
	t.Setenv("NO_COLOR", "1")
	if place := Of(program); !place.Live || place.Paint(Red, "held") != "held" {
		t.Error("NO_COLOR is not obeyed")
	}
	t.Setenv("TERM", "dumb")
	if Of(program).Live {
		t.Error("a dumb terminal draws nothing anew")
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"abcd", 1, "…"},
		{"zwölf Pods", 5, "zwöl…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"\x1b[31mabc\x1b[0m", 3, "\x1b[31mabc\x1b[0m"},
		{"\x1b[31mabcd\x1b[0m", 3, "\x1b[31mab…\x1b[0m"},
		{"a\x1b[31", 3, "a"},
	} {
		if got := cut(c.line, c.columns); got != c.want {
			t.Errorf("%q in %d columns: %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("a\x1b[31mb…日\x1b[0m\xff", 3)
	f.Fuzz(func(t *testing.T, line string, columns int) {
		if columns < 2 || columns > 1000 {
			return
		}
		got := cut(line, columns)
		if utf8.ValidString(line) && !utf8.ValidString(got) {
			t.Errorf("%q: %q is no text any more", line, got)
		}
		if cut(got, columns) != got {
			t.Errorf("%q: %q is too long still", line, got)
		}
	})
}

func TestScreen(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	program, seen := pty(t, 10, 4)
	screen := NewScreen(Of(program))
	for _, c := range []struct {
		text, want string
		before     func()
	}{
		{"one\ntwo\n", "one\x1b[K\r\ntwo\x1b[K\r\n\x1b[J", nil},
		{"three\n", "\x1b[2Fthree\x1b[K\r\n\x1b[J", nil},
		{"1\n2\n3\n4\n5\n", "\x1b[1F1\x1b[K\r\n2\x1b[K\r\n… and 3 m…\x1b[K\r\n\x1b[J", nil},
		{"a long line\n", "\x1b[H\x1b[2Ja lo…\x1b[K\r\n\x1b[J", func() { resize(t, program, 5, 4) }},
	} {
		if c.before != nil {
			c.before()
		}
		if err := screen.Draw(c.text); err != nil {
			t.Fatal(err)
		}
		if got := seen(len(c.want)); got != c.want {
			t.Errorf("%q: drawn as %q, want %q", c.text, got, c.want)
		}
	}
}
