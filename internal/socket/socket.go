// Package socket makes unix sockets at a path, in the place of those that nobody
// serves any more.
package socket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// TakenError says what is in the way at the path: that it "is …", without the path.
type TakenError struct {
	what  string
	cause error // nil: what says it all
}

// Error is the end of a sentence that begins with the path.
func (e *TakenError) Error() string {
	if e.cause == nil {
		return e.what
	}
	return e.what + ": " + e.cause.Error()
}

// Unwrap is why it cannot be asked whether somebody serves it.
func (e *TakenError) Unwrap() error { return e.cause }

// ErrServed is the *TakenError of a socket that another program serves.
var ErrServed error = &TakenError{what: "is served by another program"}

// answerWithin bounds the question whether somebody serves a socket.
const answerWithin = time.Second

// Listen makes the socket at path, with mode 0660. A socket that nobody serves any
// more is replaced; anything else at path stays and is a *TakenError. Closing
// the listener removes the socket, unless its SetUnlinkOnClose says otherwise.
//
// Two that call it at the same time can replace each other's socket: where that
// can be, take a lock before.
func Listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if err := clear(ctx, path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = listener.Close() // the error that counts is the first
		return nil, err
	}
	return listener, nil
}

// clear makes way at path if a dead socket lies there.
func clear(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return &TakenError{what: "is in the way and is not a socket"}
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // asked only whether somebody is there
		return ErrServed
	case !errors.Is(err, unix.ECONNREFUSED): // which connect(2) says where nobody listens
		return &TakenError{what: "is there and cannot be asked", cause: err}
	}
	return os.Remove(path)
}
