package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// returning is the file in which kured-uncordon.service tells the daemon what
// the way back waits for. It lives as long as that service has work to do.
type returning string

func (h *house) returning() returning {
	return returning(filepath.Join(h.runtimeDir(), "returning.json"))
}

// maxReturning bounds the file, in bytes: one that is longer is not believed.
const maxReturning = 1 << 20

// write replaces what was told.
func (path returning) write(s status.Status) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := statefile.Replace(string(path), data, 0o600); err != nil {
		return fmt.Errorf("tell the daemon: %w", err)
	}
	return nil
}

func (path returning) remove() { _ = os.Remove(string(path)) }

// complete puts the words of the other process in the place of "look there".
func (path returning) complete(s status.Status) status.Status {
	if s.Phase != status.Returning || s.Reason != status.AwaitingReturn {
		return s
	}
	data, err := statefile.Read(string(path), maxReturning)
	if err != nil {
		return s // it has not begun, or is done
	}
	var told status.Status
	if json.Unmarshal(data, &told) != nil || told.Boot != s.Boot || told.Phase != status.Returning {
		return s
	}
	s.Reason, s.Detail, s.Since, s.Next = told.Reason, told.Detail, told.Since, told.Next
	return s
}
