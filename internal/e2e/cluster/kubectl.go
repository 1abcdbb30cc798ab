package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kured-host/kured/internal/testenv/filelock"
)

// kubectlSource is a module that builds the real kubectl, of a pinned version.
const kubectlSource = "packaging/ansible/tests/kubectl"

// BuildKubectl builds the real kubectl, for administrators of the cluster, and tells on out what it does. Like Build it is
// to run before the namespaces are entered.
func BuildKubectl(ctx context.Context, out io.Writer) error {
	file, err := kubectlPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	unlock, err := filelock.Take(ctx, file+".lock", nil)
	if err != nil {
		return fmt.Errorf("wait for another build of kubectl: %w", err)
	}
	defer unlock()
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	start := time.Now()
	fmt.Fprintln(out, "e2e: building kubectl …")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file+partial, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := run(build, filepath.Join(root, kubectlSource)); err != nil {
		return fmt.Errorf("build kubectl: %w", err)
	}
	if err := os.Rename(file+partial, file); err != nil {
		return err
	}
	fmt.Fprintf(out, "e2e: kubectl built in %s\n", time.Since(start).Round(time.Second))
	return nil
}

// Kubectl returns the path of the kubectl that BuildKubectl made.
func Kubectl() (string, error) {
	file, err := kubectlPath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("kubectl (BuildKubectl makes it): %w", err)
	}
	return file, nil
}

func kubectlPath() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, buildDir, "kubectl"), nil
}
