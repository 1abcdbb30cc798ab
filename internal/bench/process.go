package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// memory reads the resident and the anonymous memory of a process, in bytes
// (VmRSS and RssAnon of proc_pid_status(5)).
func memory(pid int) (resident, anonymous int64, err error) {
	values, err := statusValues(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	return values["VmRSS"] << 10, values["RssAnon"] << 10, nil
}

// sleeps is how often the threads of a process have gone to sleep so far, which
// is how often they were woken up (voluntary_ctxt_switches of
// proc_pid_status(5)). What threads did that have ended is not in it.
func sleeps(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var all int64
	if len(files) == 0 {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	for _, file := range files {
		values, err := statusValues(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		all += values["voluntary_ctxt_switches"]
	}
	return all, nil
}

// statusValues are the numbers of a file in the form of proc_pid_status(5).
func statusValues(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			values[key] = n
		}
	}
	return values, nil
}

// connections is how many TCP sockets a process has open.
func connections(pid int) (int, error) {
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	own := map[string]bool{}
	for _, d := range descriptors {
		// One that was closed meanwhile is none.
		if target, err := os.Readlink(d); err == nil && strings.HasPrefix(target, "socket:[") {
			own[strings.Trim(target, "socket:[]")] = true
		}
	}
	n := 0
	for _, table := range []string{"tcp", "tcp6"} {
		inodes, err := socketInodes(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			return 0, err
		}
		for _, inode := range inodes {
			if own[inode] {
				n++
			}
		}
	}
	return n, nil
}

// socketInodes reads the tenth column of a table such as /proc/net/tcp
// (proc_pid_net(5)).
func socketInodes(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var inodes []string
	lines := bufio.NewScanner(file)
	lines.Scan() // the heading
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 {
			inodes = append(inodes, fields[9])
		}
	}
	return inodes, lines.Err()
}
