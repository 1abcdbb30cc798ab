package sentinel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// failedSuffix is what a check that looks after a sentinel appends to its name when it could not run. The sentinel
// itself stays as it was: what it says is not known to hold any more.
const failedSuffix = ".failed"

// checkFailed reads the .failed file beside a sentinel: nil if there is none, else an error with its first line.
func checkFailed(path string) error {
	if _, err := os.Lstat(path + failedSuffix); isAbsent(err) {
		return nil
	}
	data, err := statefile.Read(path+failedSuffix, maxFileBytes)
	if isAbsent(err) {
		if _, err := os.Lstat(path + failedSuffix); isAbsent(err) {
			return nil // gone in between
		}
	}
	if err != nil {
		return fmt.Errorf("the check of sentinel %s could not run: (why is unreadable: %w)", path, err)
	}
	return fmt.Errorf("the check of sentinel %s could not run: %w", path, errors.New(firstLine(string(data))))
}

// firstLine is the first line of a text with anything to print in it.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = status.Clean(line, maxReason); line != "" {
			return line
		}
	}
	return "(it does not say why)"
}
