package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	for _, c := range []struct {
		name string
		lay  func(t *testing.T, path string) error // what is there before
		want string                                // error; "": the socket is made
	}{
		{"nothing", func(*testing.T, string) error { return nil }, ""},
		{"a dead socket", func(_ *testing.T, path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		}, ""},
		{"a socket that is served", func(t *testing.T, path string) error {
			l, err := Listen(t.Context(), path)
			if err == nil {
				t.Cleanup(func() { _ = l.Close() })
			}
			return err
		}, "is served by another program"},
		{"a socket of another kind", func(t *testing.T, path string) error {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			return err
		}, "is there and cannot be asked: dial unix PATH: connect: protocol wrong type for socket"},
		{"a file", func(_ *testing.T, path string) error { return os.WriteFile(path, nil, 0o600) }, "is in the way and is not a socket"},
		{"a named pipe", func(_ *testing.T, path string) error { return unix.Mkfifo(path, 0o600) }, "is in the way and is not a socket"},
		{"a link", func(_ *testing.T, path string) error { return os.Symlink("elsewhere", path) }, "is in the way and is not a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir()) // a path of at most 107 bytes
			const path = "PATH"
			if err := c.lay(t, path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			l, err := Listen(t.Context(), path)
			if c.want != "" {
				if taken := (*TakenError)(nil); !errors.As(err, &taken) || err.Error() != c.want {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
					t.Error("it did not stay")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
				t.Errorf("there is %v, %v", info, err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after it was closed: %v", err)
			}
		})
	}
	if _, err := Listen(t.Context(), filepath.Join(t.TempDir(), "missing", "s")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
}
