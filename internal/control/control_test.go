package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/status"
)

func socketPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "kured.sock")
}

// serve runs a server until the test ends or stop is called; stop returns what
// Serve did.
func serve(t *testing.T, path string, status func() status.Status) (stop func() error) {
	t.Helper()
	return serveAll(t, path, Daemon{Status: still(status)})
}

func serveAll(t *testing.T, path string, d Daemon) (stop func() error) {
	t.Helper()
	s, err := New(t.Context(), path, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// still is a status whose changes nobody tells.
type still func() status.Status

func (s still) Now() status.Status             { return s() }
func (still) Watch() (<-chan struct{}, func()) { return nil, func() {} }

func idle() status.Status { return status.Status{Phase: status.Idle} }

func TestStatus(t *testing.T) {
	path := socketPath(t)
	next := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	want := status.Status{
		Version: "1.2.3", Node: "node-a", Phase: status.Draining, Reason: status.DrainFailed, Detail: "zwölf Pods", Since: next.Add(-time.Hour), Next: &next,
		Demand: &status.Demand{Since: next, Path: "/run/reboot-required", Reasons: []string{"linux"}},
		Queue:  &status.Queue{Holders: []string{"node-a"}, Limit: 1},
		Drain:  &status.Drain{Pods: 2, Held: []string{"default/web: budget"}},
	}
	stop := serve(t, path, func() status.Status { return want })
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := Client{path}.Status(t.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if _, err := (Client{path}).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

func TestOtherRequests(t *testing.T) {
	path := socketPath(t)
	serve(t, path, idle)
	for request, want := range map[string]string{
		"GET /v1/statu HTTP/1.1\r\nHost: x\r\n\r\n":   "404 Not Found {\"error\":\"\\\"/v1/statu\\\" is not known, only /v1/status, /v1/gates, /v1/request, /v1/cancel, /v1/pause, /v1/resume\"}\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":           "404 Not Found {\"error\":\"\\\"/\\\" is not known, only /v1/status, /v1/gates, /v1/request, /v1/cancel, /v1/pause, /v1/resume\"}\n",
		"POST /v1/status HTTP/1.1\r\nHost: x\r\n\r\n": "405 Method Not Allowed {\"error\":\"\\\"POST\\\" is not allowed here, only GET\"}\n",
		"GET /v1/pause HTTP/1.1\r\nHost: x\r\n\r\n":   "405 Method Not Allowed {\"error\":\"\\\"GET\\\" is not allowed here, only POST\"}\n",
		"GET /v1/gates HTTP/1.1\r\nHost: x\r\n\r\n":   "501 Not Implemented {\"error\":\"this kured cannot be asked for its gates\"}\n",
		"GET /v1/status?watch=yes HTTP/1.0\r\n\r\n":   "400 Bad Request {\"error\":\"watch=\\\"yes\\\": must be true or false\"}\n",
		"GET /v1/status HTTP/1.0\r\n\r\n":             "200 OK {\"version\":\"\",\"phase\":\"idle\",\"since\":\"0001-01-01T00:00:00Z\"}\n",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if got := resp.Status + " " + string(body); got != want || err != nil {
			t.Errorf("%q:\ngot  %s, %v\nwant %s", request, got, err, want)
		}
		if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%q: %s", request, kind)
		}
		// Nothing stays open between requests.
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%q: the connection stays open: %d, %v", request, n, err)
		}
		conn.Close()
	}
	if err := (Client{path}).ask(t.Context(), http.MethodGet, "/v2", nil, nil); err == nil || err.Error() != `kured refuses /v2: "/v2" is not known, only /v1/status, /v1/gates, /v1/request, /v1/cancel, /v1/pause, /v1/resume` {
		t.Errorf("the client's error: %v", err)
	}
}

func TestPlaceIsTaken(t *testing.T) {
	path := socketPath(t)
	stop := serve(t, path, idle)
	if _, err := New(t.Context(), path, Daemon{Status: still(idle)}); !errors.Is(err, ErrInUse) {
		t.Errorf("a served socket: %v", err)
	}
	if _, err := (Client{path}).Status(t.Context()); err != nil {
		t.Errorf("the first server suffered: %v", err)
	}
	_ = stop()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), path, Daemon{Status: still(idle)}); err == nil || err.Error() != "control socket "+path+": is in the way and is not a socket" {
		t.Errorf("a file: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
	if _, err := New(t.Context(), filepath.Join(path, "below"), Daemon{Status: still(idle)}); err == nil {
		t.Error("a directory that is none")
	}
}

// A daemon that was killed leaves its socket behind.
func TestDeadSocketIsReplaced(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	serve(t, path, idle)
	if _, err := (Client{path}).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// Of many that start together over a dead socket exactly one serves.
func TestStartTogether(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	var served atomic.Int32
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 8 {
		wg.Go(func() {
			s, err := New(t.Context(), path, Daemon{Status: still(idle)})
			if errors.Is(err, ErrInUse) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			served.Add(1)
			if err := s.Serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); served.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if _, err := (Client{path}).Status(t.Context()); err != nil {
		t.Error(err)
	}
	time.Sleep(5 * time.Millisecond)
	cancel()
	wg.Wait()
	if n := served.Load(); n != 1 {
		t.Errorf("%d servers", n)
	}
}

// A server that ends must not remove the socket of its successor.
func TestSuccessorKeepsItsSocket(t *testing.T) {
	path := socketPath(t)
	stop := serve(t, path, idle)
	if err := os.Remove(path); err != nil { // somebody cleans up
		t.Fatal(err)
	}
	serve(t, path, idle)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := (Client{path}).Status(t.Context()); err != nil {
		t.Errorf("the successor: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	path := socketPath(t)
	if _, err := (Client{path}).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := (Client{path}).Status(ctx); !errors.Is(err, ErrSilent) {
		t.Errorf("a daemon that hangs: %v", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
			conn.Close()
		}
	}()
	if _, err := (Client{path}).Status(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "answer of kured: ") && !strings.HasPrefix(err.Error(), "ask kured: ") {
		t.Errorf("nonsense: %v", err)
	}
}

// Who is neither owner nor in the group may not connect.
func TestPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "kured-control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "kured.sock")
	serve(t, path, idle)
	if err := os.Chown(path, 0, 54321); err != nil { // a group that we are not in
		t.Fatal(err)
	}

	if _, err := dialAs(path, 65534); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("as nobody: %v", err)
	}
}

// dialAs connects as another user, with that user's rights on files.
func dialAs(path string, uid int) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	result := make(chan dialled)
	go func() {
		// For this thread only, which ends with the goroutine because it is never unlocked.
		runtime.LockOSThread()
		const same = ^uintptr(0)
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, errno := unix.RawSyscall(call, same, uintptr(uid), same); errno != 0 {
				result <- dialled{nil, errno}
				return
			}
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		if err != nil {
			unix.Close(fd)
			result <- dialled{nil, err}
			return
		}
		file := os.NewFile(uintptr(fd), path)
		conn, err := net.FileConn(file)
		file.Close()
		result <- dialled{conn, err}
	}()
	r := <-result
	return r.conn, r.err
}
