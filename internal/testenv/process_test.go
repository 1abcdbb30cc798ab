package testenv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ParentOf, set in the environment, makes the test binary call [BeParent].
const ParentOf = "TESTENV_PARENT"

// BeParent starts a child, tells its process id, and waits to be killed.
func BeParent() error {
	dir := os.Getenv(ParentOf)
	child, err := startProcess("/bin/sleep", []string{"600"}, dir, filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	// End some threads: none of them may be the one that the child hangs on.
	for range 20 {
		ended := make(chan struct{})
		go func() { runtime.LockOSThread(); close(ended) }()
		<-ended
	}
	fmt.Println(child.command.Process.Pid)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestChildrenDieWithTheirParentOnly(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), ParentOf+"="+t.TempDir())
	stdin, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	child, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	// A pidfd becomes readable when the process ends.
	ended := func(within time.Duration) bool {
		t.Helper()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}, int(within.Milliseconds()))
			if err == nil {
				return n == 1
			}
			if !errors.Is(err, unix.EINTR) { // the Go runtime's own signals
				t.Fatal(err)
			}
		}
	}
	if ended(100 * time.Millisecond) {
		t.Error("the child died while its parent lived")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !ended(30 * time.Second) {
		t.Error("the child outlived its parent")
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended by itself")
	}
}

func TestProcess(t *testing.T) {
	never := func(context.Context) error { return errors.New("not yet") }
	start := func(script string) *process {
		dir := t.TempDir()
		p, err := startProcess("/bin/sh", []string{"-c", script}, dir, filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}

	p := start("exit 3")
	if err := p.await(t.Context(), never); err == nil || !strings.Contains(err.Error(), "ended before it was ready: exit status 3") {
		t.Errorf("await of one that ends: %v", err)
	}
	if p.crashed() == nil {
		t.Error("an end by itself was not noticed")
	}

	p = start("exec sleep 600")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := p.await(ctx, never); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not yet") {
		t.Errorf("await of one that is never ready: %v", err)
	}
	for range 2 {
		if err := p.pause(); err != nil {
			t.Error(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
		if err != nil || !strings.Contains(string(stat), ") T ") {
			t.Errorf("a paused process has the state %s, %v", stat, err)
		}
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
	if err := p.crashed(); err != nil {
		t.Errorf("a wanted end counts as a crash: %v", err)
	}

	if _, err := startProcess("/nonexistent", nil, t.TempDir(), filepath.Join(t.TempDir(), "log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("start of nothing: %v", err)
	}
}

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var told bytes.Buffer
	unlock, err := lockFile(t.Context(), path, &told)
	if err != nil || told.Len() > 0 {
		t.Fatalf("a free lock: %v, told %q", err, &told)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lockFile(ctx, path, &told); !errors.Is(err, context.DeadlineExceeded) || told.Len() == 0 {
		t.Errorf("a taken lock: %v, told %q", err, &told)
	}
	waited := make(chan error, 1)
	go func() {
		unlock, err := lockFile(t.Context(), path, io.Discard)
		if err == nil {
			unlock()
		}
		waited <- err
	}()
	unlock()
	if err := <-waited; err != nil {
		t.Errorf("a lock that becomes free: %v", err)
	}
}

func TestBuild(t *testing.T) {
	source, cache := t.TempDir(), t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module test\n\ngo 1.26\n")
	write("go.sum", "")
	write("main.go", "package main\n\nfunc main() { undefined() }\n")
	target := filepath.Join(cache, "built")
	if _, err := buildFlags(source); err == nil {
		t.Error("a module without Kubernetes has a version of Kubernetes")
	}
	err := build(t.Context(), source, nil, target, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("a build that fails: %v, want the compiler's message", err)
	}
	broken, err := hashOf(source, nil)
	if err != nil {
		t.Fatal(err)
	}
	write("main.go", "package main\n\nfunc main() {}\n")
	if err := build(t.Context(), source, nil, target, io.Discard); err != nil {
		t.Error(err)
	}
	for what, other := range map[string]func() (string, error){
		"sources": func() (string, error) { return hashOf(source, nil) },
		"flags":   func() (string, error) { return hashOf(source, []string{"-race"}) },
	} {
		if got, err := other(); err != nil || got == broken {
			t.Errorf("hash of other %s: %s, %v, want another than %s", what, got, err, broken)
		}
	}

	for _, name := range []string{"old", "young"} {
		if err := os.WriteFile(filepath.Join(cache, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * unusedFor)
	for _, name := range []string{"old", "built"} {
		if err := os.Chtimes(filepath.Join(cache, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	removeUnused(cache, target)
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "built" || filepath.Base(left[1]) != "young" {
		t.Errorf("left in the cache: %v, %v, want built and young", left, err)
	}
}

func TestBuildFlagsNameTheVersion(t *testing.T) {
	source, err := sourceDir()
	if err != nil {
		t.Fatal(err)
	}
	flags, err := buildFlags(source)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(flags, " "); !strings.Contains(all, "k8s.io/component-base/version.gitVersion=v1.") {
		t.Errorf("no version in %s", all)
	}
}
