package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is the error of New if another process serves the socket.
var ErrInUse = errors.New("another kured is running")

// Server serves the socket.
type Server struct {
	path     string
	listener *net.UnixListener
	file     os.FileInfo // our socket, to remove no other
	http     *http.Server
}

// New makes the socket at path, with mode 0660. A socket that nobody serves
// any more is replaced; anything else at path stays and is an error. What d has
// is called concurrently.
func New(path string, d Daemon) (*Server, error) {
	listener, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		_ = listener.Close() // the error that counts is the first
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s := &Server{path: path, listener: listener, file: info}
	s.http = &http.Server{
		Handler:           newHandler(d, pace{slowReader, lookAgain}),
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		MaxHeaderBytes:    8 << 10,
	}
	// Each request has its connection, so that none stays open with a timer.
	s.http.SetKeepAlivesEnabled(false)
	return s, nil
}

// Serve answers until ctx ends, then removes the socket and returns nil.
func (s *Server) Serve(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx } // ends those who watch
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		s.remove()
		return fmt.Errorf("control socket %s: %w", s.path, err)
	case <-ctx.Done():
	}
	s.remove() // first, so that nobody finds a socket that does not answer
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.http.Shutdown(soon) != nil {
		_ = s.http.Close() // whoever still reads slowly has had its time
	}
	<-failed
	return nil
}

// remove deletes our socket, unless another one has taken its place.
func (s *Server) remove() {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.file) {
		_ = os.Remove(s.path) // a socket left behind is replaced at the next start
	}
}

// listen binds path. A lock on the directory keeps two that start together from
// replacing each other's socket.
func listen(path string) (*net.UnixListener, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close() // unlocks
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock its directory: %w", err)
	}
	if err := clear(path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // remove looks first
	if err := os.Chmod(path, 0o660); err != nil {
		_ = listener.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return listener, nil
}

// clear makes way at path if a dead socket lies there.
func clear(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("is in the way and is not a socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close() // asked only whether somebody is there
		return ErrInUse
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("is there and cannot be asked: %w", err)
	}
	return os.Remove(path)
}
