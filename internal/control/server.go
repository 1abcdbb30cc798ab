package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/socket"
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
func New(ctx context.Context, path string, d Daemon) (*Server, error) {
	listener, err := listen(ctx, path)
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
func listen(ctx context.Context, path string) (*net.UnixListener, error) {
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
	listener, err := socket.Listen(ctx, path)
	if errors.Is(err, socket.ErrServed) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // remove looks first
	return listener, nil
}
