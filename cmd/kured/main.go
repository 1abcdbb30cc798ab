// Command kured is the Kubernetes Reboot Daemon of one host: a systemd service
// that reboots the node when the operating system asks for it, in turn with
// the other nodes of the cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/present"
)

// version is set by the linker.
var version = "dev"

// Exit codes beside 0 and 1, as in sysexits(3). systemd's units rely on them.
const (
	exitUsage    = 64 // EX_USAGE: the command line is wrong
	exitTempFail = 75 // EX_TEMPFAIL: not now, try again
	exitConfig   = 78 // EX_CONFIG: the configuration is wrong, trying again is pointless
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	if os.Getenv("GOMAXPROCS") == "" {
		// It waits for weeks and then mostly for others: one processor at a time
		// is enough, and wakes and keeps fewer threads.
		runtime.GOMAXPROCS(1)
	}
	// Some services of notifications know no limit of their own.
	http.DefaultClient.Timeout = 30 * time.Second
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // what does not heed the first signal is ended by the second
	os.Exit(execute(ctx, os.Args[1:]))
}

func execute(ctx context.Context, line []string) int {
	root := newRoot()
	root.SetArgs(line)
	if len(line) > 0 && strings.HasPrefix(line[0], cobra.ShellCompRequestCmd) {
		completing(root)
	}
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) { // a configuration can have several problems
		fmt.Fprintf(root.ErrOrStderr(), "kured: %s\n", present.Line(line))
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "kured",
		Short:         "Reboot this node when it is required, in turn with the other nodes of the cluster",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          args(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.AddCommand(newRun(), newUncordon(), newStatus(), newLock(), newConfig(), newVersion())
	root.AddCommand(newRequest(), newCancel(), newPause(), newResume())
	root.AddCommand(newDoctor(), newManifests())
	root.AddCommand(newWhy(), newPlanDrain())
	root.AddCommand(newHistory())
	root.AddCommand(newHook())
	root.AddCommand(newSource())
	root.AddCommand(newEnroll())
	return root
}

// args makes a wrong number of arguments, or an unknown command, a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return &exitError{exitUsage, err}
		}
		return nil
	}
}
