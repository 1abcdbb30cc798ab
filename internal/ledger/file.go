package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/statefile"
)

// sizeLimit bounds what is read, in bytes. A full book has about 8 KB.
const sizeLimit = 64 << 10

// Another process holds the lock for the time of one small write. Whoever
// stopped in its midst must not stop us.
const (
	lockPatience = time.Second
	lockAgain    = 5 * time.Millisecond
)

var errLocked = errors.New("another process does not let go of it")

// lockFile takes the flock(2) of the file at path, which it makes. It is another
// one than the ledger, which is replaced at each write. Longer than patience it
// does not wait.
func lockFile(path string, patience time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(lockAgain) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // the lock ends with it
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			_ = f.Close() // the error that counts is the first
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case time.Now().After(end):
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, errLocked)
		}
	}
}

// read returns the book in the file at path. A file that is absent is an empty one.
func read(path string) (Book, error) {
	text, err := statefile.Read(path, sizeLimit+1)
	if errors.Is(err, fs.ErrNotExist) {
		return newBook(), nil
	}
	if err != nil {
		return newBook(), err
	}
	if len(text) > sizeLimit {
		return newBook(), fmt.Errorf("%w: more than %d bytes", errFormat, sizeLimit)
	}
	return parse(text)
}

// write replaces the file.
func write(path string, b Book) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return statefile.Replace(path, append(text, '\n'), 0o600)
}
