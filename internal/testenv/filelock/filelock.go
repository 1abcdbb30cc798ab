// Package filelock lets processes that make the same thing wait for the one
// that makes it.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// every is how often a lock is tried that another process holds.
const every = 200 * time.Millisecond

// Take waits for the flock(2) of the file at path, which it makes. The lock ends
// with unlock, or with the process. waiting, if not nil, is called each time the
// lock is another's, with the time since the first try. When ctx ends the error
// is its cause.
func Take(ctx context.Context, path string, waiting func(time.Duration)) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	poll := time.NewTicker(every)
	defer poll.Stop()
	for begin := time.Now(); ; {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if waiting != nil {
			waiting(time.Since(begin))
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			file.Close()
			return nil, context.Cause(ctx)
		}
	}
}
