package control

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// withPeer keeps with a connection whose it is. What cannot be found out is
// nobody's.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if uid, err := peerOf(conn); err == nil {
		ctx = context.WithValue(ctx, peerKey{}, uid)
	}
	return ctx
}

// peerOf is the user who opened the connection, SO_PEERCRED of unix(7).
func peerOf(conn net.Conn) (uid uint32, err error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credential *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		credential, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, fmt.Errorf("credentials of the peer: %w", failed)
	}
	return credential.Uid, nil
}

// peer is the user of a request's connection; false: not known.
func peer(ctx context.Context) (uid uint32, known bool) {
	uid, known = ctx.Value(peerKey{}).(uint32)
	return uid, known
}
