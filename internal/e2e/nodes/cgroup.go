package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupPrefix = "kured-e2e-"

// cgroupRoot finds the cgroup2 hierarchy: /sys/fs/cgroup where it is the only one, /sys/fs/cgroup/unified
// beside the old controllers (hybrid, see systemd's CGROUP_DELEGATION).
func cgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup2 file system at /sys/fs/cgroup or /sys/fs/cgroup/unified")
}

// newRunCgroup makes the cgroup of this run directly below the root, where no other manager looks after it
// and no controller is delegated, and removes those of earlier runs whose guard was killed.
func newRunCgroup() (string, error) {
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	removeStaleCgroups(root)
	name, err := cgroupName(os.Getpid())
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cgroup: %w", err)
	}
	return dir, nil
}

// cgroupName holds the guard's pid and start time, so that a reused pid is not taken for it.
func cgroupName(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// Field 22 of proc(5) stat; the name in parentheses may hold spaces.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	if fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fmt.Sprintf("%s%d-%s", cgroupPrefix, pid, fields[19]), nil
}

func removeStaleCgroups(root string) {
	dirs, _ := filepath.Glob(filepath.Join(root, cgroupPrefix+"*"))
	old, _ := filepath.Glob("/sys/fs/cgroup/systemd/" + cgroupPrefix + "*")
	for _, dir := range append(dirs, old...) {
		pid, err := strconv.Atoi(strings.Split(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), "-")[0])
		if err != nil {
			continue
		}
		if name, err := cgroupName(pid); err != nil || name != filepath.Base(dir) {
			removeCgroup(dir, 0)
		}
	}
}

// removeCgroup removes a cgroup and those below it, giving processes that are being reaped up to wait to go.
// What is still in use stays; the next run tries again. On a hybrid host systemd-nspawn makes the same
// cgroups once more in the old hierarchy that is named systemd.
func removeCgroup(dir string, wait time.Duration) {
	if old := strings.Replace(dir, "/cgroup/unified/", "/cgroup/systemd/", 1); old != dir {
		defer removeTree(old, wait)
	}
	removeTree(dir, wait)
}

func removeTree(dir string, wait time.Duration) {
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = os.Remove(dirs[i])
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return
		}
	}
}
