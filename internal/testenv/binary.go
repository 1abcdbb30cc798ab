package testenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/testenv/filelock"
)

const (
	// modulePath is where the source is looked for, above the working directory.
	modulePath = "github.com/kured-host/kured"
	// notice is how often a long wait is told about.
	notice = 15 * time.Second
	// unusedFor is how long a built binary of other sources is kept.
	unusedFor = 30 * 24 * time.Hour
)

// Binary returns the path of the multi-call program of the nested module
// controlplane, which it builds when these sources were not built before: about
// five minutes on two cores with an empty build cache, and seconds otherwise.
// It lies in the user's cache directory (XDG_CACHE_HOME) under kured-testenv,
// named by the hash of its sources, its build flags and the version of Go.
// Processes that ask at the same time wait for the one that builds.
//
// The sources are found from the working directory upwards. What takes long is
// told on progress.
func Binary(ctx context.Context, progress io.Writer) (path string, err error) {
	source, err := sourceDir()
	if err != nil {
		return "", fmt.Errorf("find the control plane's sources: %w", err)
	}
	flags, err := buildFlags(source)
	if err != nil {
		return "", fmt.Errorf("build flags of the control plane: %w", err)
	}
	hash, err := hashOf(source, flags)
	if err != nil {
		return "", fmt.Errorf("hash the control plane's sources: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	cache = filepath.Join(cache, "kured-testenv")
	path = filepath.Join(cache, "controlplane-"+hash)
	if exists(path) {
		return path, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	unlock, err := lockFile(ctx, path+".lock", progress)
	if err != nil {
		return "", fmt.Errorf("wait for another build of the control plane: %w", err)
	}
	defer unlock()
	if exists(path) {
		return path, nil
	}
	if err := build(ctx, source, flags, path, progress); err != nil {
		return "", fmt.Errorf("build the control plane: %w", err)
	}
	removeUnused(cache, path)
	return path, nil
}

// exists also marks the file as used, for removeUnused.
func exists(path string) bool {
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// sourceDir walks up from the working directory to the go.mod of this project.
// The sources cannot be embedded, because they are another module.
func sourceDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(content), "module "+modulePath+"\n") {
			return filepath.Join(dir, "internal", "testenv", "controlplane"), nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("the working directory is not within the sources of %s", modulePath)
		}
		dir = parent
	}
}

// buildFlags tells the programs the version that their module has; without it
// they claim to be v0.0.0-master.
func buildFlags(source string) ([]string, error) {
	content, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return nil, err
	}
	version := regexp.MustCompile(`k8s\.io/kubernetes v(\d+)\.(\d+)\.\d+\S*`).FindSubmatch(content)
	if version == nil {
		return nil, errors.New("go.mod does not require k8s.io/kubernetes")
	}
	_, full, _ := bytes.Cut(version[0], []byte(" "))
	link := []string{"-s", "-w"}
	for _, in := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, value := range []string{
			"gitVersion=" + string(full), "gitMajor=" + string(version[1]), "gitMinor=" + string(version[2]),
			"gitTreeState=clean", "gitCommit=unknown", "buildDate=1970-01-01T00:00:00Z",
		} {
			link = append(link, "-X", in+"."+value)
		}
	}
	// Debug information would double compile time and size; the commit of this
	// repository would make every build another one.
	return []string{"-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags", strings.Join(link, " ")}, nil
}

func hashOf(source string, flags []string) (string, error) {
	files, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return "", err
	}
	files = append(files, filepath.Join(source, "go.mod"), filepath.Join(source, "go.sum"))
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %s/%s %q\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, flags)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(file), len(content), content)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// lockFile waits for another process that builds, and tells so now and then.
func lockFile(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	told := time.Duration(0)
	return filelock.Take(ctx, path, func(waited time.Duration) {
		if waited >= told {
			fmt.Fprintf(progress, "testenv: another process builds the control plane; waiting, %s so far\n", waited.Round(time.Second))
			told += notice
		}
	})
}

func build(ctx context.Context, source string, flags []string, path string, progress io.Writer) error {
	fmt.Fprintf(progress, "testenv: building etcd and Kubernetes' control plane from their Go modules: "+
		"about 5 minutes on 2 cores the first time, kept as %s\n", path)
	temporary := path + ".new"
	command := exec.CommandContext(ctx, "go", append(append([]string{"build"}, flags...), "-o", temporary, ".")...)
	command.Dir = source
	// Flags that are meant for the outer module (-modfile, -race) must not reach this one.
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "PWD="+source)
	// go build passes an interrupt on to its compilers and cleans up after itself.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output

	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- command.Run() }()
	tick := time.NewTicker(notice)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err == nil {
				err = os.Rename(temporary, path)
			}
			if err != nil {
				// The error that matters is the one at hand.
				_ = os.Remove(temporary)
				return fmt.Errorf("go build in %s: %w\n%s", source, err, output.Bytes())
			}
			fmt.Fprintf(progress, "testenv: built the control plane in %s\n", time.Since(begin).Round(time.Second))
			return nil
		case <-tick.C:
			fmt.Fprintf(progress, "testenv: still building the control plane, %s so far\n", time.Since(begin).Round(time.Second))
		}
	}
}

// removeUnused removes binaries of other sources that nobody used for a month.
// That it fails is no reason to fail: the cache may be read-only for us.
func removeUnused(cache, used string) {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return
	}
	for _, entry := range entries {
		path := filepath.Join(cache, entry.Name())
		if info, err := entry.Info(); err == nil && path != used && time.Since(info.ModTime()) > unusedFor {
			_ = os.Remove(path)
		}
	}
}
