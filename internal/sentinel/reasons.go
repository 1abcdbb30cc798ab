package sentinel

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// packagesSuffix is what update-notifier and unattended-upgrades append to the name of the sentinel.
const packagesSuffix = ".pkgs"

// Bounds on what is taken from a .pkgs or .failed file: it ends up in a lock entry, a log line and a status answer.
const (
	maxFileBytes = 64 << 10
	maxReasons   = 64
	maxReason    = 200 // characters
)

// packageLines reads the .pkgs file. A missing file gives no lines; a file that cannot be read gives one line that
// says so, because it takes nothing away from the fact that a reboot is wanted.
func packageLines(path string) []string {
	data, err := statefile.Read(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []string{fmt.Sprintf("(reasons unreadable: %v)", err)}
	}
	return strings.Split(string(data), "\n")
}

// reasons cleans lines, removes duplicates, sorts and bounds them. When there are too many, the last entry tells
// how many were left out.
func reasons(lines []string) []string {
	var out []string
	for _, line := range lines {
		if reason := status.Clean(line, maxReason); reason != "" {
			out = append(out, reason)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if extra := len(out) - maxReasons; extra > 0 {
		out = append(out[:maxReasons:maxReasons], fmt.Sprintf("(and %d more)", extra))
	}
	return out
}
