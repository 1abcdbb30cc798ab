package nodes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// instancesPerRun is how many inotify instances one run may need: about ten for each node.
const instancesPerRun = 50

// takeSlot waits until this run may start beside others. All nodes of all runs belong to the same user and
// so share fs.inotify.max_user_instances (inotify(7)); beyond it units fail at random, those of systemd
// first. The kernel frees the slot too when the process ends.
func takeSlot(ctx context.Context, out io.Writer) (free func(), err error) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		return nil, err
	}
	instances, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cacheDir(), 0o700); err != nil {
		return nil, err
	}
	return awaitSlot(ctx, out, cacheDir(), max(1, instances/instancesPerRun))
}

// awaitSlot locks one of the given number of files in dir.
func awaitSlot(ctx context.Context, out io.Writer, dir string, slots int) (free func(), err error) {
	told := false
	err = Poll(ctx, 500*time.Millisecond, func() (bool, error) {
		for i := range slots {
			file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("slot-%d", i)), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				return false, err
			}
			err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil {
				free = func() { _ = file.Close() }
				return true, nil
			}
			_ = file.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return false, err
			}
		}
		if !told {
			told = true
			fmt.Fprintf(out, "e2e: waiting for one of %d other runs to end: the limit of inotify instances allows no more …\n", slots)
		}
		return false, nil
	})
	return free, err
}
