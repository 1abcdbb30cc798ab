package sentinel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/kured-host/kured/internal/statefile"
)

// Standing is how long a demand stands already, as the daemon sees it. It decides about a place in the queue and about
// what people are told, never about safety.
type Standing struct {
	Known  time.Time `json:"known"`  // when the daemon saw it
	Queued time.Time `json:"queued"` // since when it asks for the lock; a try that was rolled back begins anew
	Told   bool      `json:"told"`   // that it waits for long
}

// Memory keeps the Standing of a demand in a small file for the next start of the daemon: who upgrades the package of a
// node that waits shall not send it to the end of the queue. The file belongs into a directory that does not outlive the
// boot, because no demand does.
type Memory struct {
	Path string // its directory exists
}

// memoryLimit is many times the length of such a file.
const memoryLimit = 4096

// Recall returns what was kept last; zero if that is nothing.
func (m Memory) Recall() (Standing, error) {
	text, err := statefile.Read(m.Path, memoryLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return Standing{}, nil
	}
	if err != nil {
		return Standing{}, fmt.Errorf("read since when the reboot is wanted: %w", err)
	}
	var s Standing
	if err := json.Unmarshal(text, &s); err != nil {
		return Standing{}, fmt.Errorf("read since when the reboot is wanted: %s: %w", m.Path, err)
	}
	return s, nil
}

// Keep replaces what was kept.
func (m Memory) Keep(s Standing) error {
	text, err := json.Marshal(Standing{s.Known.UTC(), s.Queued.UTC(), s.Told})
	if err == nil {
		err = statefile.Replace(m.Path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep since when the reboot is wanted: %w", err)
	}
	return nil
}

// Forget removes it.
func (m Memory) Forget() error {
	if err := os.Remove(m.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget since when the reboot was wanted: %w", err)
	}
	return nil
}
