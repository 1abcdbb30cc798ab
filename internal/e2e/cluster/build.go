// Package cluster joins real systemd nodes (package nodes) with a real control plane (package testenv) to a
// cluster on which kured runs as its users run it: installed from its package, started by systemd, with the
// kubelet's own credential. Only the kubelets are stand-ins.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/filelock"
)

// EnvPackages names a directory with packages of kured, of the versions Release and NextRelease, to use instead of
// building them.
const EnvPackages = "KURED_E2E_PACKAGES"

// Build makes what a cluster needs and what takes long or needs the internet: the control plane's programs,
// the stand-in kubelet and, unless EnvPackages names some, kured's packages. It tells on out what it does.
// It is to run before the namespaces are entered, with the working directory inside the repository.
func Build(ctx context.Context, out io.Writer) error {
	if _, err := testenv.Binary(ctx, out); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, buildDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := filelock.Take(ctx, filepath.Join(dir, "lock"), nil)
	if err != nil {
		return fmt.Errorf("wait for another build: %w", err)
	}
	defer unlock()
	start := time.Now()
	fmt.Fprintln(out, "e2e: building the stand-in kubelet and kured's packages …")
	standin := filepath.Join(dir, standinName)
	build := exec.CommandContext(ctx, "go", "build", "-o", standin+partial, "./internal/testenv/standin-kubelet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := run(build, root); err != nil {
		return fmt.Errorf("build the stand-in kubelet: %w", err)
	}
	if err := os.Rename(standin+partial, standin); err != nil {
		return err
	}
	if os.Getenv(EnvPackages) != "" {
		return nil
	}
	commit := cleanCommit(ctx, root)
	for _, version := range []string{Release, NextRelease} {
		// A sequence of make calls, because both go through the same Go build cache.
		if err := pack(ctx, root, version, filepath.Join(dir, version), commit); err != nil {
			return fmt.Errorf("build kured's packages: %w", err)
		}
	}
	fmt.Fprintf(out, "e2e: built in %s\n", time.Since(start).Round(time.Second))
	return nil
}

// partial is the suffix of what is being made. Another run may be using the finished files, so they are
// replaced in one step.
const partial = ".partial"

// cleanCommit names the commit that is checked out, and the Go that builds it; it is empty if files differ from the commit.
func cleanCommit(ctx context.Context, root string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
		return string(out), err
	}
	head, err := git("rev-parse", "HEAD")
	changed, unknown := git("status", "--porcelain")
	if err != nil || unknown != nil || changed != "" {
		return ""
	}
	return head + runtime.Version()
}

// pack makes the packages of a version, unless those of this commit are there: they would have the same bytes.
func pack(ctx context.Context, root, version, dist, commit string) error {
	stamp := filepath.Join(dist, "commit")
	if made, err := os.ReadFile(stamp); err == nil && commit != "" && string(made) == commit {
		return nil
	}
	if err := errors.Join(os.RemoveAll(dist+partial), os.RemoveAll(stamp), os.MkdirAll(dist, 0o755)); err != nil {
		return err
	}
	if err := run(exec.CommandContext(ctx, "make", "-s", "packages",
		"VERSION="+version, "ARCHES="+runtime.GOARCH, "DIST="+dist+partial), root); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(dist+partial, "kured_*"))
	if err != nil {
		return err
	}
	for _, file := range packages {
		if err := os.Rename(file, filepath.Join(dist, filepath.Base(file))); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(stamp, []byte(commit), 0o644), os.RemoveAll(dist+partial))
}

// The versions that Build packages: the second is the same program, to upgrade to.
const (
	Release     = "0.1.0"
	NextRelease = "0.1.1"
)

const (
	buildDir    = "build/e2e" // ignored by git
	standinName = "standin-kubelet"
)

func run(cmd *exec.Cmd, dir string) error {
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, output)
	}
	return nil
}

// moduleRoot walks up from the working directory to the go.mod of the project.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil &&
			strings.HasPrefix(string(text), "module github.com/kured-host/kured\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is not inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// Package returns the path of kured's package of a version for this machine; format is "deb" or "rpm".
func Package(version, format string) (string, error) {
	dir := os.Getenv(EnvPackages)
	if dir == "" {
		root, err := moduleRoot()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, buildDir, version)
	}
	file := filepath.Join(dir, "kured_"+version+"_"+runtime.GOARCH+"."+format)
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("package of kured: %w", err)
	}
	return file, nil
}

// copyFile copies the content of a file into a directory, in one step, and returns its name there.
func copyFile(from, dir string, mode os.FileMode) (string, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	name := filepath.Base(from)
	out, err := os.CreateTemp(dir, "."+name+".*") // several nodes may copy the same file at once
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(mode), out.Close()); err != nil {
		return "", err
	}
	return name, os.Rename(out.Name(), filepath.Join(dir, name))
}
