// Package prometheus starts a real Prometheus and a real Alertmanager for
// tests: the programs of Debian's packages, on ports of the loopback interface,
// with a metric that the test sets. They know nothing of the machine but that,
// and end with the test.
package prometheus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// User and Password are those of a server that is started with authentication.
const (
	User     = "kured"
	Password = "open sesame"
)

// webConfig asks for them (--web.config.file); the hash is bcrypt's of Password.
const webConfig = `basic_auth_users:
  kured: $2a$04$6VcSxhcQOciRZR34Q7SrEuUzJu2yICQ3ePsP0BaOEhxc2LYswstOK
`

// Ports are taken from below Linux' usual ephemeral range (32768 and up), so
// that no outgoing connection takes the port of a server that was killed.
const firstPort, lastPort = 20000, 32000

// startLimit bounds a start, which takes a second on an idle machine.
const startLimit = 2 * time.Minute

// Server is a running program. Its methods may be used by many goroutines.
type Server struct {
	URL string

	command *exec.Cmd
	ended   chan struct{}
	once    sync.Once
}

// Options of a Prometheus. It scrapes and evaluates its rules each second.
type Options struct {
	Target        *Exporter
	Rules         string    // YAML list of the rules of one group
	Alertmanagers []*Server // that are told of alerts
	Authenticate  bool      // ask for User and Password
}

// New starts a Prometheus for one test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	var managers []string
	for _, m := range o.Alertmanagers {
		managers = append(managers, strings.TrimPrefix(m.URL, "http://"))
	}
	config := fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
- job_name: test
  static_configs: [{targets: [%q]}]
alerting:
  alertmanagers:
  - static_configs: [{targets: [%s]}]
`, o.Target.address(), strings.Join(managers, ", "))
	rules := "groups:\n- name: test\n  rules:\n" + o.Rules
	return start(t, prometheusProgram, map[string]string{"prometheus.yml": config, "rules.yml": rules}, o.Authenticate,
		"--config.file=prometheus.yml", "--storage.tsdb.path=data", "--rules.alert.resend-delay=1s", "--log.level=warn")
}

// NewWith starts a Prometheus with this configuration and the files that it
// names, whose names are relative.
func NewWith(t testing.TB, config string, files map[string]string) *Server {
	t.Helper()
	all := maps.Clone(files)
	if all == nil {
		all = map[string]string{}
	}
	all["prometheus.yml"] = config
	return start(t, prometheusProgram, all, false,
		"--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn")
}

// NewAlertmanager starts an Alertmanager for one test. It tells nobody of its
// alerts. inhibit is the YAML list of its inhibit_rules.
func NewAlertmanager(t testing.TB, inhibit string, authenticate bool) *Server {
	t.Helper()
	config := "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
	if inhibit != "" {
		config += "inhibit_rules:\n" + inhibit
	}
	return start(t, alertmanagerProgram, map[string]string{"alertmanager.yml": config}, authenticate,
		"--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=", "--log.level=warn")
}

// start runs a program in a new directory with these files, and waits until it is ready.
func start(t testing.TB, program string, files map[string]string, authenticate bool, args ...string) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir, err := programs(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, relativeTemplates), filepath.Join(home, relativeTemplates)); err != nil {
		t.Fatal(err)
	}
	if authenticate {
		files["web.yml"] = webConfig
		args = append(args, "--web.config.file=web.yml")
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for try := 1; ; try++ {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		s := &Server{URL: "http://" + address, ended: make(chan struct{})}
		log := filepath.Join(home, "log")
		if err := s.run(filepath.Join(dir, program), home, log, append(args, "--web.listen-address="+address)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		err := s.awaitReady(t.Context())
		if err == nil {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("--- log of %s\n%s", program, content(log))
				}
			})
			return s
		}
		s.Kill()
		if text := content(log); try == 5 || !strings.Contains(text, "address already in use") {
			t.Fatalf("%s: %v\n%s", program, err, text)
		}
	}
}

func content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// run starts a child that dies with this process.
func (s *Server) run(path, dir, logPath string, args []string) error {
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	s.command = exec.Command(path, args...)
	s.command.Dir = dir
	s.command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	s.command.Stdout, s.command.Stderr = log, log
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The parent-death signal comes when the thread ends that forked (prctl(2)): keep it until the child is gone.
		runtime.LockOSThread()
		err := s.command.Start()
		started <- err
		if err == nil {
			_ = s.command.Wait() // how it ended is nobody's concern
			close(s.ended)
		}
	}()
	return <-started
}

func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-tick.C:
		}
	}
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/-/ready", nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth(User, Password)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// Kill ends the server, also a paused one, and waits until it is gone.
func (s *Server) Kill() {
	s.once.Do(func() { _ = s.command.Process.Kill() }) // it may have ended by itself
	<-s.ended
}

// Pause stops the server, which then hangs: the kernel still accepts
// connections for it. It returns when all of its threads stand still.
func (s *Server) Pause() error {
	if err := s.command.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	for {
		err := unix.Waitid(unix.P_PID, s.command.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil || !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.command.Process.Signal(syscall.SIGCONT) }

// Exporter serves metrics without labels.
type Exporter struct {
	url string

	mu     sync.Mutex
	values map[string]float64
}

// Set gives a metric its value.
func (e *Exporter) Set(name string, value float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.values[name] = value
}

// NewExporter serves no metric yet.
func NewExporter(t testing.TB) *Exporter {
	e := &Exporter{values: map[string]float64{}}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *Exporter) address() string { return strings.TrimPrefix(e.url, "http://") }

// ServeHTTP is the text format of Prometheus.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var text bytes.Buffer
	for name, value := range e.values {
		fmt.Fprintf(&text, "%s %g\n", name, value)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write(text.Bytes()) // who hung up asks again
}
