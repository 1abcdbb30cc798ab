package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Form is how a command names its reasons on standard output.
type Form string

// The forms.
const (
	// Lines takes every line that is not empty for a reason.
	Lines Form = "lines"
	// Bullets takes the lines that begin with "* ", as needs-restarting(1) writes them, and does not believe the
	// exit code without one: dnf(8) exits with 1 for errors, too.
	Bullets Form = "bullets"
	// Silent takes none.
	Silent Form = "none"
)

// Forms lists every form.
func Forms() []Form { return []Form{Lines, Bullets, Silent} }

// Command is a program whose exit code says whether a reboot is wanted.
type Command struct {
	Line []string // the program and its arguments
	// Wanted is the exit code that means yes. No is 1 if that is 0, and 0 otherwise. Everything else, also the end by a
	// signal, means that the program could not find out.
	Wanted int
	Form   Form
	Output io.Writer // where the program's output goes, beside being read
}

// Bounds on a command.
const (
	maxOutput = 64 << 10
	stopAfter = 5 * time.Second // from the SIGTERM when ctx ends to the SIGKILL, and from its end to that of its output
)

// Check runs the program once and tells what it found out. An error says why that is not known.
func (c Command) Check(ctx context.Context) (Finding, error) {
	if len(c.Line) == 0 {
		return Finding{}, errors.New("no command given")
	}
	if !slices.Contains(Forms(), c.Form) {
		return Finding{}, fmt.Errorf("%q is no form of reasons", c.Form)
	}
	name := filepath.Base(c.Line[0])
	var output, complaint head
	cmd := exec.CommandContext(ctx, c.Line[0], c.Line[1:]...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&output, c.Output), io.MultiWriter(&complaint, c.Output)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopAfter
	err := cmd.Run()
	if ctx.Err() != nil {
		return Finding{}, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it said 0, and what it has left behind holds its output
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Finding{}, fmt.Errorf("%s cannot be run: %w", name, err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	no := 0
	if c.Wanted == 0 {
		no = 1
	}
	switch code {
	case no:
		return Finding{}, nil
	case c.Wanted:
		finding := Finding{Wanted: true, Reasons: c.Form.reasons(output.String())}
		if c.Form == Bullets && len(finding.Reasons) == 0 {
			return Finding{}, fmt.Errorf("%s: exit code %d, and it names nothing that asks for a reboot%s", name, code, complaint.told())
		}
		return finding, nil
	}
	return Finding{}, fmt.Errorf("%s: %w%s", name, exit, complaint.told())
}

// reasons takes the reasons out of what a program wrote.
func (f Form) reasons(output string) []string {
	var found []string
	for text := range strings.Lines(output) {
		text = status.Clean(text, maxReason)
		switch f {
		case Bullets:
			var bullet bool
			if text, bullet = strings.CutPrefix(text, "* "); !bullet {
				continue
			}
		case Silent:
			continue
		}
		if text = status.Clean(text, maxReason); text != "" && len(found) < maxReasons {
			found = append(found, text)
		}
	}
	return found
}

// head keeps the beginning of what is written to it.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), maxOutput-h.Len())])
	return len(p), nil
}

// told is the first line of what a program complained about, for the end of a sentence.
func (h *head) told() string {
	for text := range strings.Lines(h.String()) {
		if text = status.Clean(text, maxReason); text != "" {
			return ": " + text
		}
	}
	return ""
}
