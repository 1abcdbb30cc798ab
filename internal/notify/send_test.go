package notify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// quick is a pace for tests with real servers.
var quick = pace{limit: 10 * time.Second, first: 5 * time.Millisecond, longest: 20 * time.Millisecond, tries: 5, patience: time.Minute, crowded: time.Minute, hanging: 3}

// road is the way of every service that uses net/http's default transport:
// to the server of a test, never to the network.
type road struct {
	to atomic.Pointer[http.Transport]
}

func (r *road) RoundTrip(request *http.Request) (*http.Response, error) {
	return r.to.Load().RoundTrip(request)
}

func (r *road) CloseIdleConnections() { r.to.Load().CloseIdleConnections() }

// closed is a road to nowhere.
func closed() *http.Transport {
	return &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		return nil, fmt.Errorf("no server in this test for %s", address)
	}}
}

func TestMain(m *testing.M) {
	r := &road{}
	r.to.Store(closed())
	http.DefaultTransport = r
	os.Exit(m.Run())
}

// lead lets the road end at server for this test. Its certificate has to be
// good by roots; nil: it is not looked at.
func lead(t *testing.T, server *httptest.Server, roots *x509.CertPool) {
	t.Helper()
	r := http.DefaultTransport.(*road)
	r.to.Store(&http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: roots == nil},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
		},
	})
	t.Cleanup(func() { r.to.Store(closed()) })
}

// certificate is a self-signed one for host.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// flushed waits for all messages.
func flushed(t *testing.T, n *Notifier) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// The address that people have for Slack, over TLS to a server that is
// hooks.slack.com for this test. It fails twice first.
func TestSlack(t *testing.T) {
	type request struct{ method, url, contentType, body string }
	requests := make(chan request, 10)
	var failures atomic.Int32
	failures.Store(2)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failures.Add(-1) >= 0 {
			http.Error(w, "rate_limited at "+r.URL.Path, http.StatusTooManyRequests)
			return
		}
		body, _ := io.ReadAll(r.Body)
		requests <- request{r.Method, "https://" + r.Host + r.URL.Path, r.Header.Get("Content-Type"), string(body)}
		fmt.Fprint(w, "ok")
	}))
	own, roots := certificate(t, "hooks.slack.com")
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	server.StartTLS()
	defer server.Close()
	lead(t, server, roots)

	var log lines
	const hook = "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijABCDEFGHIJ0123"
	n, err := New([]Target{{URL: hook + "?username=kured"}}, log.log())
	if err != nil {
		t.Fatal(err)
	}
	n.pace = quick
	n.Tell(status.Occurrence{Event: status.EventDrain, Node: "node-a", Detail: "detail", Packages: []string{"linux-image-amd64", "libc6"}})
	flushed(t, n)
	got := <-requests
	if got.method != "POST" || got.url != hook || got.contentType != "application/json" {
		t.Errorf("got %+v", got)
	}
	var message, want any
	if err := json.Unmarshal([]byte(got.body), &message); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"text": "", "username": "kured", "attachments": [
		{"text": "node-a: cordoned, its pods are being moved, then it reboots (linux-image-amd64, libc6): detail"}]}`), &want); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(message) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", message, want)
	}
	if text := log.String(); strings.Count(text, "webhook response failure: rate_limited at /services/…/…/…") == 0 || strings.Count(text, "notification sent") != 1 || strings.Contains(text, "T01234567") {
		t.Errorf("the log:\n%s", text)
	}
	if len(requests) > 0 {
		t.Errorf("sent twice: %+v", <-requests)
	}
}

// After the last message there is no connection and no goroutine left.
func TestNothingIsLeftOpen(t *testing.T) {
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"id": 1, "code": 200, "flows": [{"type": "m.login.password"}], "room_id": "x"}`)
	}))
	var seen int
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch s {
		case http.StateNew:
			open[c] = true
			seen++
		case http.StateClosed:
			delete(open, c)
		}
	}
	server.Start()
	defer server.Close()
	lead(t, server, nil)
	goroutines := runtime.NumGoroutine()

	var targets []Target
	for _, service := range []string{"bark", "generic", "gotify", "mattermost", "ntfy", "signal"} {
		targets = append(targets, Target{URL: strings.ReplaceAll(corpus[service], "SERVER", server.Listener.Addr().String())})
	}
	var log lines
	n, err := New(targets, log.log())
	if err != nil {
		t.Fatal(err)
	}
	n.pace = quick
	for range 3 {
		n.Tell(status.Occurrence{Event: status.EventBack, Node: "node-a"})
	}
	flushed(t, n)
	n.Stop()
	left := func() (connections, routines int) {
		mu.Lock()
		defer mu.Unlock()
		return len(open), runtime.NumGoroutine() - goroutines
	}
	for range 1000 { // the ends are told by other goroutines
		if connections, routines := left(); connections == 0 && routines <= 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if connections, routines := left(); connections != 0 || routines > 0 {
		t.Errorf("%d connections and %d goroutines are left", connections, routines)
	}
	if seen < len(targets) {
		t.Errorf("only %d connections for %d services", seen, len(targets))
	}
	if sent := strings.Count(log.String(), "notification sent"); sent != 3*len(targets) {
		t.Errorf("%d sent:\n%s", sent, log.String())
	}
}

// A file with the URL is read at each send: a wrong one is an error of that
// send, a rotated one is used.
func TestURLFile(t *testing.T) {
	paths := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer server.Close()
	lead(t, server, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "url")
	var log lines
	n, err := New([]Target{{URLFile: file}}, log.log())
	if err != nil {
		t.Fatal(err)
	}
	n.pace = quick
	n.pace.tries = 2
	write := func(text string) {
		t.Helper()
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(want string) {
		t.Helper()
		n.Tell(held("a"))
		flushed(t, n)
		text := log.String()
		if !strings.Contains(text, want) || !strings.Contains(text, "given up") {
			t.Errorf("no %q in the log:\n%s", want, text)
		}
		if strings.Contains(text, "5ecret") {
			t.Errorf("a secret in the log:\n%s", text)
		}
	}
	fails("no such file")
	write(" \n")
	fails("is empty")
	write("generic+http://ops.example.com/5ecret\nlogger://")
	fails("more than one line")
	write("slack://5ecret")
	fails("invalid slack token format")
	write(strings.Repeat("5ecret", maxAddress))
	fails("longer than")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	fails("not a regular file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	fails("not a regular file")
	for _, secret := range []string{"/one", "/two"} {
		write("  generic+http://ops.example.com" + secret + " \n")
		n.Tell(held("a"))
		flushed(t, n)
		if got := <-paths; got != secret {
			t.Errorf("got %s, want %s", got, secret)
		}
	}
}

// logger:// is for trying out, and the only service that may write to our log.
func TestLogger(t *testing.T) {
	var log lines
	n, err := New([]Target{{URL: "logger://"}}, log.log())
	if err != nil {
		t.Fatal(err)
	}
	n.Tell(held("node-a"))
	flushed(t, n)
	if !strings.Contains(log.String(), `msg="node-a: stopped, a person is needed"`) {
		t.Errorf("the log:\n%s", log.String())
	}
}

// shoutrrr's own service for Telegram tells success where there was none.
func TestTelegram(t *testing.T) {
	var requests []string
	answers := []string{"", "<html>", `{"ok": false, "description": "bot was kicked"}`, `{"ok": true}`, `{"ok": true}`}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer := answers[len(requests)]
		requests = append(requests, r.Host+r.URL.Path+" "+string(body))
		if answer == "" {
			panic(http.ErrAbortHandler)
		}
		if !strings.Contains(answer, "true") {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	lead(t, server, nil)
	var log lines
	n, err := New([]Target{{URL: "telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw5@telegram?chats=@ops,-100:7&title=a%26b&notification=no"}}, log.log())
	if err != nil {
		t.Fatal(err)
	}
	n.pace = quick
	n.Tell(held("<node>"))
	flushed(t, n)
	if len(requests) != len(answers) {
		t.Fatalf("%d requests", len(requests))
	}
	for i, want := range map[int]string{
		3: `{"text":"\u003cb\u003ea\u0026amp;b\u003c/b\u003e\n\u0026lt;node\u0026gt;: stopped, a person is needed","chat_id":"@ops","parse_mode":"HTML","disable_web_page_preview":false,"disable_notification":true,"reply_to_message_id":0}`,
		4: `{"text":"\u003cb\u003ea\u0026amp;b\u003c/b\u003e\n\u0026lt;node\u0026gt;: stopped, a person is needed","chat_id":"-100","message_thread_id":7,"parse_mode":"HTML","disable_web_page_preview":false,"disable_notification":true,"reply_to_message_id":0}`,
	} {
		var got, wanted any
		_, body, _ := strings.Cut(requests[i], " ")
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Error(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(wanted) || !strings.HasPrefix(requests[i], "api.telegram.org/bot110201543:AAHdq") {
			t.Errorf("got  %s\nwant %s", requests[i], want)
		}
	}
	if text := log.String(); !strings.Contains(text, "403 Forbidden: bot was kicked") || strings.Count(text, "notification sent") != 1 || strings.Contains(text, "AAHdq") {
		t.Errorf("the log:\n%s", text)
	}
}

// A chat that has removed the bot keeps no other from its message, and none gets it twice for that.
func TestTelegramChatThatIsGone(t *testing.T) {
	var told []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct {
			Chat string `json:"chat_id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			t.Error(err)
		}
		told = append(told, message.Chat)
		if message.Chat == "@gone" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"ok": false, "error_code": 403, "description": "bot was kicked from AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw5"}`)
			return
		}
		fmt.Fprint(w, `{"ok": true}`)
	}))
	defer server.Close()
	lead(t, server, nil)
	for chats, want := range map[string]string{"@gone,@ops": "[@gone @ops]", "@ops,@gone": "[@ops @gone]", "@gone": "[@gone @gone @gone]"} {
		told = nil
		var log lines
		n, err := New([]Target{{URL: "telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw5@telegram?chats=" + chats}}, log.log())
		if err != nil {
			t.Fatal(err)
		}
		n.pace = quick
		n.pace.tries = 3
		n.Tell(held("node"))
		flushed(t, n)
		if fmt.Sprint(told) != want {
			t.Errorf("%s: told %v", chats, told)
		}
		text := log.String()
		if strings.Contains(text, "notification sent, but not to all") != (want != "[@gone @gone @gone]") || !strings.Contains(text, "403 Forbidden: bot was kicked") || strings.Contains(text, "AAHdq") {
			t.Errorf("%s: the log:\n%s", chats, text)
		}
	}
}

// A server that never answers holds nothing up but itself, and the message
// arrives with the next try.
func TestHangingServer(t *testing.T) {
	release := make(chan struct{})
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if requests.Add(1) == 1 {
			<-release
		}
	}))
	defer server.Close()
	defer close(release)
	lead(t, server, nil)
	var log lines
	n, err := New([]Target{{URL: "generic+http://ops.example.com/hook"}}, log.log())
	if err != nil {
		t.Fatal(err)
	}
	n.pace = quick
	n.pace.limit = 500 * time.Millisecond
	n.Tell(held("node-a"))
	flushed(t, n)
	if text := log.String(); strings.Count(text, "notification sent") != 1 || !strings.Contains(text, errNoAnswer.Error()) {
		t.Errorf("the log:\n%s", text)
	}
}
