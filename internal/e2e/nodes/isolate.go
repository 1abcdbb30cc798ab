// Package nodes runs real Debian systems as machines of a test: systemd as pid 1, logind, D-Bus, a journal,
// and reboots that are real shutdowns followed by real boots. Each machine is a systemd-nspawn container on
// an overlay of a shared base image, with a network namespace of its own on a bridge; a supervisor plays its
// firmware and power supply.
//
// Everything happens inside namespaces that the calling process makes for itself (see Main), so that no
// address, mount or process outlives it, whichever way it ends, and so that nothing in it can reach the
// machine's own systemd, system bus or reboot call.
package nodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Environment variables by which the stages of Main find each other.
const (
	envStage  = "KURED_E2E_STAGE"
	envCgroup = "KURED_E2E_CGROUP"
	// EnvLogs names the directory, outside of the namespaces, where dumps of failed tests are kept.
	EnvLogs = "KURED_E2E_LOGS"
)

// workDir lies on the tmpfs that covers /run inside the namespaces and vanishes with them.
const workDir = "/run/kured-e2e"

// forwarded are the signals that a person or a test runner ends a process with.
func forwarded() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
}

// Main runs prepare in the machine as it is (so it may download and build), then run in namespaces of its
// own, and returns the exit code for os.Exit. It re-executes the program with the same arguments: the first
// process stays outside as a guard that forwards signals and cleans up, the second is pid 1 of the new pid
// namespace, the third calls run. It needs root.
//
// With parts, run is called in a process for each of them, at the same time and in namespaces of its own, whose
// arguments are the same and those of the part. What the first writes is shown at once, what the others write
// after what comes before them.
//
// Inside: network, mount and pid namespaces are new, mounts do not propagate, /proc shows the new pids, /run
// is an empty tmpfs (which hides the machine's system bus and systemd sockets), TMPDIR lies on it, and the
// loopback interface is up. When the guard dies, even by SIGKILL, the kernel kills all the rest.
func Main(prepare func(context.Context) error, run func() int, parts ...[]string) int {
	var code int
	var err error
	switch stage := os.Getenv(envStage); stage {
	case "":
		code, err = guard(prepare, parts)
	case "init":
		code, err = runInit()
	case "run":
		return run()
	default:
		err = fmt.Errorf("unknown %s=%q", envStage, stage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return code
}

// Isolated tells whether the caller runs inside the namespaces that Main makes.
func Isolated() bool { return os.Getenv(envStage) == "run" }

func guard(prepare func(context.Context) error, parts [][]string) (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("real nodes need root (namespaces, mounts, systemd-nspawn)")
	}
	ctx, stop := signal.NotifyContext(context.Background(), forwarded()...)
	defer stop()
	if prepare != nil {
		if err := prepare(ctx); err != nil {
			return 0, fmt.Errorf("prepare: %w", err)
		}
	}
	cgroup, err := newRunCgroup()
	if err != nil {
		return 0, err
	}
	defer removeCgroup(cgroup, 5*time.Second)
	if len(parts) == 0 {
		parts = [][]string{nil}
	}
	ended := make([]func() (int, error), len(parts))
	outputs := make([]*output, len(parts))
	for i, args := range parts {
		done := make(chan struct{})
		var code int
		var err error
		outputs[i] = &output{}
		stdout, stderr := io.Writer(outputs[i]), io.Writer(outputs[i])
		if i == 0 {
			stdout, stderr = os.Stdout, os.Stderr // themselves: a terminal stays one
		}
		go func() {
			defer close(done)
			code, err = guardOne(ctx, filepath.Join(cgroup, strconv.Itoa(i)), args, stdout, stderr)
		}()
		ended[i] = func() (int, error) { <-done; return code, err }
	}
	var code int
	var errs []error
	for i, end := range ended {
		outputs[i].show(os.Stdout)
		one, err := end()
		if code == 0 {
			code = one
		}
		errs = append(errs, err)
	}
	return code, errors.Join(errs...)
}

// output keeps what is written to it until it may be shown.
type output struct {
	mu   sync.Mutex
	kept bytes.Buffer
	to   io.Writer // nil: not yet
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to != nil {
		return o.to.Write(text)
	}
	return o.kept.Write(text)
}

// show writes what was kept, and everything else from then on as it comes.
func (o *output) show(to io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.kept.WriteTo(to) // as with a print to standard output
	o.to = to
}

// guardOne runs the program with more arguments in new namespaces, and with the cgroups of its nodes below this one, until it
// ends.
func guardOne(ctx context.Context, cgroup string, args []string, stdout, stderr io.Writer) (int, error) {
	free, err := takeSlot(ctx, os.Stderr)
	if err != nil {
		return 0, fmt.Errorf("wait for other runs: %w", err)
	}
	defer free()
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		return 0, fmt.Errorf("make cgroup: %w", err)
	}
	logs := os.Getenv(EnvLogs)
	if logs == "" {
		logs = filepath.Join(os.TempDir(), filepath.Base(filepath.Dir(cgroup))+"-logs")
	}
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find own program: %w", err)
	}

	// The parent-death signal is bound to the thread that forks.
	runtime.LockOSThread()
	cmd := exec.Command(self, append(slices.Clone(os.Args[1:]), args...)...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	cmd.Env = append(os.Environ(), envStage+"=init", envCgroup+"="+cgroup, EnvLogs+"="+logs)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // an interrupt from the terminal comes through the guard alone, and once
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in new namespaces: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return 0, fmt.Errorf("forward %v: %w", s, err)
			}
		case err := <-done:
			return exitCode(err)
		}
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	default:
		return 0, fmt.Errorf("isolated process: %w", err)
	}
}

// runInit is pid 1 of the namespaces: it sets them up, starts the real process, forwards signals to it and
// reaps whatever is orphaned. When it returns, the kernel kills all that is left.
func runInit() (int, error) {
	if os.Getpid() != 1 {
		return 0, fmt.Errorf("%s=init outside of a pid namespace", envStage)
	}
	if err := setUpNamespaces(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find own program: %w", err)
	}
	env := []string{envStage + "=run", "TMPDIR=" + filepath.Join(workDir, "tmp")}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, envStage+"=") && !strings.HasPrefix(e, "TMPDIR=") {
			env = append(env, e)
		}
	}
	// Not os/exec: its Wait would compete with the reaper below.
	pid, err := syscall.ForkExec(self, os.Args, &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, fmt.Errorf("start the isolated process: %w", err)
	}
	go func() {
		for s := range signals {
			_ = syscall.Kill(pid, s.(syscall.Signal)) // it may have just ended
		}
	}()
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got != pid:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

func setUpNamespaces() error {
	mounts := []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID, "mode=0755"},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, dir := range []string{"/run/netns", "/run/lock", workDir, filepath.Join(workDir, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("set up /run: %w", err)
		}
	}
	return ip(context.Background(), "link set lo up")
}
