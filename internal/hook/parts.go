package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/kured-host/kured/internal/status"
)

// Parts executes the hooks of a phase one after the other, as `kured hook` does in kured-hook@.service. It is not for
// the daemon, which executes nothing.
type Parts struct {
	Directory string // where PHASE.d is
	Output    io.Writer
	// Log takes a line about each hook: that it begins, and how it ended.
	Log func(line string)
}

// PartError is how the first hook ended that did not exit with 0.
type PartError struct {
	Code   int    // ExitNotNow or ExitFailed
	Detail string // which hook and how, one line
}

func (e *PartError) Error() string { return e.Detail }

// Run executes the hooks in the environment of this process and stops at the first that does not exit with 0, with a
// *PartError. When ctx ends the hook that runs gets a SIGTERM and is awaited; systemd kills what does not heed it.
func (p Parts) Run(ctx context.Context, phase string) error {
	directory, err := filepath.Abs(p.Directory) // the hooks begin in another one
	var hooks []string
	if err == nil {
		hooks, err = List(directory, phase)
	}
	if err != nil {
		return &PartError{ExitFailed, status.Clean(err.Error(), maxText)}
	}
	for _, path := range hooks {
		name := status.Clean(filepath.Base(path), maxText)
		p.Log(name + " begins")
		err := p.execute(ctx, path)
		if err == nil && ctx.Err() != nil {
			err = fmt.Errorf("stopped: %w", ctx.Err())
		}
		if err == nil {
			p.Log(name + ": exit code 0")
			continue
		}
		var exit *exec.ExitError
		switch {
		case !errors.As(err, &exit):
			return &PartError{ExitFailed, status.Clean(fmt.Sprintf("%s: cannot be run: %v", name, err), maxText)}
		case exit.ExitCode() == ExitNotNow:
			return &PartError{ExitNotNow, fmt.Sprintf("%s: exit code %d, not now", name, ExitNotNow)}
		}
		return &PartError{ExitFailed, name + ": " + ending(exit)}
	}
	return nil
}

func (p Parts) execute(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}

func ending(exit *exec.ExitError) string {
	if wait, ok := exit.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		return fmt.Sprintf("killed by signal %d (%s)", int(wait.Signal()), wait.Signal())
	}
	return fmt.Sprintf("exit code %d", exit.ExitCode())
}
