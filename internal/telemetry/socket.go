package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sendLimit bounds how long a full or hung journald can hold up a line; the
// line then goes to the writer.
const sendLimit = time.Second

// journalSocket speaks journald's native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL). go-systemd's journal package
// speaks it too, but only to the socket of the machine it runs on.
type journalSocket struct {
	path string
	mu   sync.Mutex
	conn *net.UnixConn
}

func dialJournal(path string) (*journalSocket, error) {
	s := &journalSocket{path: path}
	return s, s.dial()
}

func (s *journalSocket) dial() error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("journald: %w", err)
	}
	s.conn = conn
	return nil
}

// send writes one entry.
func (s *journalSocket) send(entry []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.write(entry)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	// journald may have been given a new socket.
	old := s.conn
	if s.dial() == nil {
		_ = old.Close() // nothing is buffered in a datagram socket
	}
	return s.write(entry)
}

func (s *journalSocket) write(entry []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	_, err := s.conn.Write(entry)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		return s.writeFile(entry)
	}
	return err
}

// writeFile sends an entry that is too large for a datagram as a sealed file.
func (s *journalSocket) writeFile(entry []byte) error {
	fd, err := unix.MemfdCreate("kured-journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "kured-journal-entry")
	defer f.Close()
	if _, err := f.Write(entry); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	// net's WriteMsgUnix refuses connected datagram sockets.
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	var sent error
	if err := raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), nil, rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

// encode is an entry of the fields; of fields with one name the last counts, as
// a later attribute replaces an earlier one.
func encode(fields []field) []byte {
	last := make(map[string]int, len(fields))
	for i, f := range fields {
		last[f.name] = i
	}
	var b []byte
	for i, f := range fields {
		if last[f.name] != i {
			continue
		}
		for _, value := range f.values {
			b = append(b, f.name...)
			if strings.Contains(value, "\n") {
				b = append(b, '\n')
				b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
			} else {
				b = append(b, '=')
			}
			b = append(b, value...)
			b = append(b, '\n')
		}
	}
	return b
}
