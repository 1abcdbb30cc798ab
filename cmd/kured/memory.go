package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// The garbage collector, at work and at rest. At rest it runs only when the
// heap comes near the limit, not every two minutes as the Go runtime would.
const (
	collectAtWork = 50       // percent of growth; half of Go's default: what work leaves behind has fewer holes
	collectAtRest = -1       // never, but for the limit
	memoryAtRest  = 10 << 20 // bytes; about 4 are in use
)

// work undoes what rest changed.
func work() {
	debug.SetMemoryLimit(math.MaxInt64)
	debug.SetGCPercent(collectAtWork)
}

// rest gives memory back before a time with nothing to do, which may last for
// weeks: the heap, and the pages of the program that only start-up or a cycle
// needed. Those that are needed again come back from the page cache.
func rest() error {
	debug.SetMemoryLimit(memoryAtRest)
	debug.SetGCPercent(collectAtRest)
	runtime.GC() // what pools keep survives one collection
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("give memory back: %w", err)
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("give memory back: %w", err)
	}
	defer maps.Close()
	areas, err := programPages(maps, exe)
	if err != nil {
		return fmt.Errorf("give memory back: %w", err)
	}
	for _, a := range areas {
		// madvise(2): dropping pages of a private file mapping loses nothing
		// where none was written to; the next access reads the file again.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, a.start, a.end-a.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give memory back: madvise: %w", errno)
		}
	}
	return nil
}

// area is a range of addresses, end excluded.
type area struct{ start, end uintptr }

// programPages finds, in the form of /proc/PID/smaps (proc_pid_smaps(5)), the
// mappings of the program file that cannot be written to and never were: code
// and constants. A position-independent program writes to its constants when
// it starts; those have anonymous pages and are left out.
func programPages(smaps io.Reader, exe string) ([]area, error) {
	var areas []area
	var candidate *area
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 2 && !strings.HasSuffix(fields[0], ":"): // the first line of a mapping
			candidate = nil
			if perms := fields[1]; perms != "r-xp" && perms != "r--p" || !strings.HasSuffix(line, " "+exe) {
				continue
			}
			candidate = new(area)
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &candidate.start, &candidate.end); err != nil || candidate.end <= candidate.start {
				return nil, errors.Join(fmt.Errorf("mapping %q cannot be read", line), err)
			}
		case candidate != nil && len(fields) >= 2 && fields[0] == "Anonymous:" && fields[1] == "0":
			areas = append(areas, *candidate)
		}
	}
	return areas, lines.Err()
}
