package metrics

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sys/unix"
)

// running is Metrics that are served.
type running struct {
	*Metrics
	t         *testing.T
	addresses chan string // as they are listened on
	log       *lines
	stop      func()
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run serves c until the test ends, or stop is called.
func run(t *testing.T, c Config) *running {
	t.Helper()
	r := &running{t: t, addresses: make(chan string, 16), log: &lines{}}
	r.Metrics = New(Options{Log: slog.New(slog.NewTextHandler(r.log, nil))})
	r.listening = func(a string) { r.addresses <- a }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx, c) }()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	return r
}

// address is the next one that is listened on.
func (r *running) address() string {
	r.t.Helper()
	select {
	case a := <-r.addresses:
		return a
	case <-time.After(30 * time.Second):
		r.t.Fatalf("nothing is listened on\n%s", r.log)
		return ""
	}
}

// get asks once, over a connection of its own.
func get(t *testing.T, transport *http.Transport, url, password string) (int, string, error) {
	t.Helper()
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("prometheus", password)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func (r *running) works(transport *http.Transport, url, password string) {
	r.t.Helper()
	code, body, err := get(r.t, transport, url, password)
	if err != nil || code != 200 || !strings.Contains(body, "\nkured_phase{phase=\"starting\"} 1\n") {
		r.t.Fatalf("%d %v\n%s\n%s", code, err, body, r.log)
	}
}

func TestServeLoopback(t *testing.T) {
	r := run(t, Config{Listen: []string{"127.0.0.1:0", "127.0.0.1:0", "[::1]:0"}})
	a := r.address()
	r.works(&http.Transport{}, "http://"+a+"/metrics", "")
	r.stop()
	if _, err := net.Dial("tcp", a); err == nil {
		t.Error("served after the end")
	}
}

// A connection does not outlive its scrape, whatever the client would like.
func TestNoConnectionStays(t *testing.T) {
	r := run(t, Config{Listen: []string{"127.0.0.1:0"}})
	conn, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !bytes.Contains(answer, []byte("/metrics")) {
		t.Errorf("%q, %v", answer, err)
	}
}

func unixTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

func TestServeUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	r := run(t, Config{Listen: []string{"unix:" + path}})
	r.address()
	r.works(unixTransport(path), "http://kured/metrics", "")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Error(info, err)
	}
	if _, err := listenUnix(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Error(err)
	}
	r.stop()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket stays:", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Error(err)
	}
}

// An address in use is told once and taken when it is free.
func TestAddressInUse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	a := other.Addr().String()
	r := run(t, Config{Listen: []string{a, "127.0.0.1:0"}})
	r.works(&http.Transport{}, "http://"+r.address()+"/metrics", "") // the other one is not held up
	for end := time.Now().Add(30 * time.Second); !strings.Contains(r.log.String(), "address already in use"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(r.log)
		}
	}
	time.Sleep(retryFirst + retryFirst/2) // one more try
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if got := r.address(); got != a {
		t.Errorf("%s, want %s", got, a)
	}
	r.works(&http.Transport{}, "http://"+a+"/metrics", "")
	if n := strings.Count(r.log.String(), "\n"); n != 1 {
		t.Errorf("%d lines\n%s", n, r.log)
	}
}

func TestConfigure(t *testing.T) {
	r := run(t, Config{})
	path := filepath.Join(t.TempDir(), "metrics.sock")
	r.Configure(Config{Listen: []string{"127.0.0.1:0"}})
	tcp := r.address()
	r.works(&http.Transport{}, "http://"+tcp+"/metrics", "")
	r.Configure(Config{Listen: []string{"unix:" + path}})
	if got := r.address(); got != path {
		t.Error(got)
	}
	r.works(unixTransport(path), "http://kured/metrics", "")
	if _, err := net.Dial("tcp", tcp); err == nil {
		t.Error("the old address is still served")
	}
	r.Configure(Config{})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("off, and still served")
		}
	}
}

// pemFiles are a certificate for 127.0.0.1 and its key in dir.
func pemFiles(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kured"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"tls.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool
}

// The hash is bcrypt's of "open sesame".
const webConfig = `tls_server_config: {cert_file: tls.crt, key_file: tls.key}
basic_auth_users:
  prometheus: $2a$04$6VcSxhcQOciRZR34Q7SrEuUzJu2yICQ3ePsP0BaOEhxc2LYswstOK
`

func TestTLSAndPassword(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yaml")
	if err := os.WriteFile(path, []byte(webConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}, WebConfigFile: path}
	r := run(t, Config{Listen: []string{"127.0.0.1:0"}, WebConfigFile: filepath.Join(dir, "none.yaml")})
	for end := time.Now().Add(30 * time.Second); !strings.Contains(r.log.String(), "no such file"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(r.log)
		}
	}
	r.address()
	trust := &tls.Config{RootCAs: pemFiles(t, dir)}
	r.Configure(c)
	url := "https://" + r.address() + "/metrics"
	for _, h2 := range []bool{false, true} {
		r.works(&http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: h2}, url, "open sesame")
	}
	for _, password := range []string{"", "guess"} {
		if code, body, err := get(t, &http.Transport{TLSClientConfig: trust.Clone()}, url, password); err != nil || code != 401 || strings.Contains(body, "kured_") {
			t.Error(code, body, err)
		}
	}
	if code, _, err := get(t, &http.Transport{}, strings.Replace(url, "https", "http", 1), "open sesame"); err == nil && code == 200 {
		t.Error("served without TLS")
	}
	if n := strings.Count(r.log.String(), "\n"); n != 1 {
		t.Errorf("%d lines\n%s", n, r.log)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	pemFiles(t, dir)
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for path, text := range map[string]string{good: webConfig, bad: "basic_auth_users: hunter2-hunter2-hunter2\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{}, ""},
		{Config{Listen: []string{"127.0.0.1:9788", "[::1]:9788", ":9788", "systemd", "unix:/run/kured/metrics.sock"}, WebConfigFile: good, Textfile: "/var/lib/x/kured.prom"}, ""},
		{Config{Listen: []string{"9788"}}, `metrics.listen "9788": must be host:port, unix:/path or systemd`},
		{Config{Listen: []string{"localhost:http"}}, `metrics.listen "localhost:http": the port must be a number from 1 to 65535`},
		{Config{Listen: []string{"unix:metrics.sock"}}, `metrics.listen "unix:metrics.sock": must be unix: and an absolute path of at most 107 bytes`},
		{Config{Textfile: "/var/lib/x/kured.txt"}, `metrics.textfile "/var/lib/x/kured.txt": must be an absolute path that ends in .prom`},
		{Config{WebConfigFile: "/none"}, "metrics.web_config_file: open /none: no such file or directory"},
		{Config{WebConfigFile: bad}, "metrics.web_config_file: yaml: unmarshal errors: line 1: cannot unmarshal !!str … into map[string]config.Secret"},
	} {
		got := ""
		if err := Check(c.config); err != nil {
			got = strings.Join(strings.Fields(err.Error()), " ") // the decoder's lines
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.config, got, c.want)
		}
	}
	if err := web.Validate(bad); err == nil || !strings.Contains(err.Error(), "hunter2") {
		t.Error("the toolkit quotes no values any more: plainError is not needed", err)
	}
}

// Without kured-metrics.socket it is told what to do, and nothing is tried again.
func TestNoSocketFromSystemd(t *testing.T) {
	var log lines
	m := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	m.sockets = func() []*os.File { return nil }
	m.serveAt(t.Context(), "systemd", "") // returns: there is nothing to wait for
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "enable kured-metrics.socket") {
		t.Error(text)
	}
}

// activated marks the process that TestSocketActivation starts.
const activated = "KURED_TEST_ACTIVATED"

// The sockets come as systemd passes them, sd_listen_fds(3): to a process of
// their own, in which they outlive a change of the configuration.
func TestSocketActivation(t *testing.T) {
	if os.Getenv(activated) != "" {
		serveActivated(t)
		return
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	file, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "-test.run=^TestSocketActivation$")
	cmd.Env = append(os.Environ(), activated+"="+socket.Addr().String(), "LISTEN_FDS=1", "LISTEN_FDNAMES=metrics")
	cmd.ExtraFiles = []*os.File{file}
	if output, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("activated well")) {
		t.Errorf("%v\n%s", err, output)
	}
}

func serveActivated(t *testing.T) {
	a := os.Getenv(activated)
	r := run(t, Config{Listen: []string{"systemd"}})
	for _, next := range []Config{{}, {Listen: []string{"systemd"}}, {Listen: []string{"systemd", "127.0.0.1:0"}}} {
		for got := ""; got != a; {
			got = r.address()
		}
		r.works(&http.Transport{}, "http://"+a+"/metrics", "")
		if len(next.Listen) == 0 {
			next = Config{Listen: []string{"systemd"}, Textfile: filepath.Join(t.TempDir(), "kured.prom")}
		}
		r.Configure(next)
	}
	if flags, err := unix.FcntlInt(3, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 || os.Getenv("LISTEN_FDS") != "" {
		t.Error("programs that kured starts get the socket", flags, err)
	}
	fmt.Println("activated well")
}
