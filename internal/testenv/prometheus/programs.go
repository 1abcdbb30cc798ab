package prometheus

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/kured-host/kured/internal/testenv/filelock"
)

// The programs, by their names in Debian's packages.
const (
	prometheusProgram   = "prometheus"
	alertmanagerProgram = "prometheus-alertmanager"
	promtoolProgram     = "promtool"
)

// Promtool returns the path of Prometheus' own checker of rules, metrics and
// configurations, from the same package as the server.
func Promtool(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := programs(ctx, progress)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, promtoolProgram), nil
}

// programs returns the directory with the programs of Debian's packages
// prometheus and prometheus-alertmanager. They are fetched with the machine's
// own apt when they were not before, and only taken out of the packages: nothing
// is installed, no service is started, and no root is needed. They are kept in
// the user's cache directory (XDG_CACHE_HOME) under kured-testenv, for each
// release of Debian; processes that ask at the same time wait for the one that
// fetches.
func programs(ctx context.Context, progress io.Writer) (string, error) {
	release, err := release()
	if err != nil {
		return "", fmt.Errorf("find out which Debian this is: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	dir := filepath.Join(cache, "kured-testenv", "monitoring-2-"+release+"-"+runtime.GOARCH)
	if isDir(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	unlock, err := filelock.Take(ctx, dir+".lock", nil)
	if err != nil {
		return "", fmt.Errorf("wait for another process that fetches Prometheus: %w", err)
	}
	defer unlock()
	if isDir(dir) {
		return dir, nil
	}
	fmt.Fprintf(progress, "testenv: fetching Prometheus and Alertmanager from Debian's archive (30 MB), to be kept in %s\n", dir)
	if err := fetch(ctx, dir); err != nil {
		return "", fmt.Errorf("fetch Prometheus and Alertmanager from Debian's archive (apt-get download): %w", err)
	}
	return dir, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// release is such as debian-12, from os-release(5).
func release() (string, error) {
	content, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = strings.Trim(value, `"'`)
	}
	text := values["ID"] + "-" + values["VERSION_ID"]
	if strings.ContainsRune(text, filepath.Separator) {
		return "", fmt.Errorf("os-release says %q", text)
	}
	return strings.TrimSuffix(text, "-"), nil // testing has no VERSION_ID
}

// fetch fills dir, which does not exist before and is complete after.
func fetch(ctx context.Context, dir string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	download := []string{"download", "prometheus", "prometheus-alertmanager"}
	if err := apt(ctx, work, download...); err != nil {
		// The machine's package lists are absent or too old. With lists of our own we need not be root.
		for _, sub := range []string{"lists/partial", "archives/partial"} {
			if err := os.MkdirAll(filepath.Join(work, sub), 0o755); err != nil {
				return err
			}
		}
		own := []string{"-o", "Dir::State::Lists=" + filepath.Join(work, "lists"), "-o", "Dir::Cache=" + work}
		for _, command := range [][]string{{"update"}, download} {
			if err := apt(ctx, work, append(own, command...)...); err != nil {
				return err
			}
		}
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	root := filepath.Join(work, "root")
	for _, p := range packages {
		if err := run(ctx, work, "dpkg-deb", "--extract", p, root); err != nil {
			return err
		}
	}
	complete := filepath.Join(work, "complete")
	if err := os.Mkdir(complete, 0o755); err != nil {
		return err
	}
	for _, program := range []string{prometheusProgram, alertmanagerProgram, promtoolProgram} {
		if err := os.Rename(filepath.Join(root, "usr/bin", program), filepath.Join(complete, program)); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(root, templates), filepath.Join(complete, relativeTemplates)); err != nil {
		return err
	}
	if err := relocate(filepath.Join(complete, alertmanagerProgram)); err != nil {
		return err
	}
	return os.Rename(complete, dir)
}

// Debian's Alertmanager does not start without its templates for notifications,
// and has their directory compiled in.
const (
	templates         = "/usr/share/prometheus/alertmanager"
	relativeTemplates = "templates"
)

// relocate lets a program that is not installed find its templates in the
// working directory: the path in it is replaced by a relative one of the same
// length. Nothing else of the program changes.
func relocate(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	relative := strings.Repeat("/", len(templates)-len(relativeTemplates)-1)
	relative = "." + relative + relativeTemplates
	// The same path with a slash after it is that of the web pages.
	content = regexp.MustCompile(templates+"([^/])").ReplaceAll(content, []byte(relative+"$1"))
	return os.WriteFile(path, content, 0o755)
}

// apt runs apt-get, which as root would become a user who may not write to our directory.
func apt(ctx context.Context, dir string, args ...string) error {
	return run(ctx, dir, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"}, args...)...)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "LC_ALL=C")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, output)
	}
	return nil
}
