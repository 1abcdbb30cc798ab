package alert

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// patience is the time-out where the server answers, and haste where it does not.
const (
	patience = time.Minute
	haste    = 50 * time.Millisecond
)

// one is a good answer of a Prometheus with one sample.
const one = `{"status":"success","data":{"resultType":"vector","result":[` +
	`{"metric":{"__name__":"ALERTS","alertname":"NodeDown","alertstate":"firing","instance":"a:9100"},"value":[1700000000,"1"]}]}}`

// none is a good answer without a sample.
const none = `{"status":"success","data":{"resultType":"vector","result":[]}}`

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(text)) // the client may have gone
	}
}

func refuses(code int, kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text))
	}
}

func serve(t *testing.T, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func newServer(t *testing.T, file string, timeout time.Duration, urls ...string) Server {
	t.Helper()
	s, err := NewServer(urls, file, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// hangs never answers, until the client goes away.
func hangs(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that it went
	<-r.Context().Done()
}

// drips sends a byte now and then, and never comes to an end.
func drips(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	for r.Context().Err() == nil {
		_, _ = w.Write([]byte(" "))
		_ = http.NewResponseController(w).Flush()
		time.Sleep(haste / 5)
	}
}

// pours sends more than anybody wants to read.
func pours(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(strings.Repeat(" ", 1<<16))
	for range 2 * answerLimit / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// What no server says well closes by name: with every way to ask.
func TestUnreadable(t *testing.T) {
	elsewhere := serve(t, says(one))
	closed := httptest.NewServer(says(one))
	closed.Close()
	for _, c := range []struct {
		name    string
		handler http.Handler
		timeout time.Duration
		want    string
	}{
		{"401", refuses(401, "text/plain", "Unauthorized\n"), patience, "401 Unauthorized"},
		{"403", refuses(403, "text/html", "<html>"), patience, "403 Forbidden"},
		{"500", refuses(500, "text/plain", "\x1b[31mboom"), patience, "500 Internal Server Error"},
		{"503", refuses(503, "application/json", `{"status":"error","errorType":"unavailable","error":"not ready yet"}`), patience, "503 Service Unavailable: not ready yet"},
		{"hangs", http.HandlerFunc(hangs), haste, "no answer within 50ms"},
		{"drips", http.HandlerFunc(drips), haste, "no answer within 50ms"},
		{"pours", http.HandlerFunc(pours), patience, "answers with more than 8 MiB"},
		{"nothing", says(""), patience, "unexpected end of JSON input"},
		{"truncated", says(one[:40]), patience, "unexpected end of JSON input"},
		{"another API", says(`{"kind":"Status"}`), patience, "not a"},
		{"a number", says(`3`), patience, "not a"},
		{"null", says(`null`), patience, "not a"},
		{"HTML", refuses(200, "text/html; charset=utf-8", "<html>Log in"), patience, "answers with text/html; charset=utf-8"},
		{"no kind", refuses(200, "", "Log in"), patience, "answers with no content type"},
		{"another host", http.RedirectHandler(strings.Replace(elsewhere, "127.0.0.1", "localhost", 1)+"/secret?q=1", http.StatusTemporaryRedirect), patience, "redirects to http://localhost"},
		{"round in circles", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}), patience, "redirects without end"},
		{"unreachable", nil, patience, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := closed.URL
			if c.handler != nil {
				base = serve(t, c.handler)
			}
			secret := strings.Replace(base, "://", "://kured:hunter2@", 1) + "/prefix/?token=hunter3"
			server := newServer(t, "", c.timeout, secret)
			_, alerts := server.Prometheus().Alerts(t.Context(), Firing, Filter{})
			_, query := server.Prometheus().Query(t.Context(), "up == 0")
			_, active := server.Alertmanager().Alerts(t.Context(), Filter{}, 0)
			for way, err := range map[string]error{"alerts": alerts, "query": query, "alertmanager": active} {
				if err == nil {
					t.Errorf("%s: believed", way)
					continue
				}
				text := err.Error()
				if !strings.HasPrefix(text, base+"/prefix: ") || !strings.Contains(text, c.want) {
					t.Errorf("%s: %s", way, text)
				}
				if strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, "hunter") || strings.Contains(text, "secret") {
					t.Errorf("%s: not fit to be shown: %q", way, text)
				}
			}
		})
	}
}

// The first replica that answers well is believed, and one that failed is asked once in a look.
func TestReplicas(t *testing.T) {
	var asked atomic.Int32
	bad := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	good := serve(t, says(none))
	never := serve(t, says(one))
	look := newServer(t, "", patience, bad, good, never).Prometheus()
	for range 3 {
		if result, err := look.Query(t.Context(), "up"); err != nil || result != "" {
			t.Errorf("%q, %v", result, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the one that failed was asked %d times", n)
	}
	worse := serve(t, refuses(401, "", ""))
	_, err := newServer(t, "", patience, bad, worse, bad, bad, bad).Prometheus().Query(t.Context(), "up")
	if want := bad + ": 500 Internal Server Error; " + worse + ": 401 Unauthorized; " + bad + ": 500 Internal Server Error; and 2 more"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := (Server{}).Alertmanager().Alerts(t.Context(), Filter{}, 0); err == nil {
		t.Error("no server, and no error")
	}
}

// silent never answers, but for one host.
type silent struct{ speaks string }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != s.speaks {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	says(none)(w, r)
	return w.Result(), nil
}

// A load balancer that sends from http to https by 301 loses the query.
func TestRedirects(t *testing.T) {
	good := serve(t, says(none))
	for code, want := range map[int]string{
		http.StatusPermanentRedirect: "",
		http.StatusMovedPermanently:  "redirects to " + good + " and does not take the question along: give that address",
	} {
		_, err := newServer(t, "", patience, serve(t, http.RedirectHandler(good, code))).Prometheus().Query(t.Context(), "up")
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// However many replicas hang, the last one is asked in the time that all gates have.
func TestReplicasShareTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		server := newServer(t, "", 10*time.Second, "http://a", "http://b", "http://c", "http://d")
		server.transport = silent{"d"}
		look := server.Prometheus()
		for range 2 { // those that hang cost their time once
			if _, err := look.Query(ctx, "up"); err != nil {
				t.Error(err)
			}
		}
		server.transport = silent{}
		_, err := server.Prometheus().Query(ctx, "up")
		if want := "http://a: no answer within 1s; http://b: no answer within 1s; http://c: no answer within 1s; and 1 more"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		begun := time.Now()
		if _, err := server.Prometheus().Query(t.Context(), "up"); err == nil || time.Since(begun) != 40*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

// What ends because the caller ends is not told as the server's fault, nor tried elsewhere.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		hangs(w, r)
	}))
	_, err := newServer(t, "", patience, first, first).Alertmanager().Alerts(ctx, Filter{}, 0)
	if err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("%v", err)
	}
}

// No connection stays open: nothing idles.
func TestNoConnectionStays(t *testing.T) {
	ended := make(chan struct{}, 10)
	server := httptest.NewUnstartedServer(says(none))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			ended <- struct{}{}
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	look := newServer(t, "", patience, server.URL).Prometheus()
	for range 2 {
		if _, err := look.Query(t.Context(), "up"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the connection stays")
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	server := httptest.NewTLSServer(says(none))
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	write(t, filepath.Join(dir, "ca.crt"), string(ca))
	options := write(t, filepath.Join(dir, "http.yml"), "tls_config: {ca_file: ca.crt}\n") // beside the file, as for promtool

	if _, err := newServer(t, "", patience, server.URL).Prometheus().Query(t.Context(), "up"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	if _, err := newServer(t, options, patience, server.URL).Prometheus().Query(t.Context(), "up"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := newServer(t, options, patience, server.URL).Prometheus().Query(t.Context(), "up"); err == nil || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("the CA is gone: %v", err)
	}
	plain := serve(t, says(one))
	down := httptest.NewTLSServer(http.RedirectHandler(plain, http.StatusTemporaryRedirect))
	t.Cleanup(down.Close)
	write(t, filepath.Join(dir, "insecure.yml"), "tls_config: {insecure_skip_verify: true}\n")
	if _, err := newServer(t, filepath.Join(dir, "insecure.yml"), patience, down.URL).Prometheus().Query(t.Context(), "up"); err == nil || !strings.Contains(err.Error(), "redirects to http://") {
		t.Errorf("from https to http: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	var expected atomic.Value
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != expected.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		says(none)(w, r)
	}))
	ask := func(file string) error {
		_, err := newServer(t, file, patience, url).Prometheus().Query(t.Context(), "up")
		return err
	}
	basic := func(user, password string) string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}

	options := write(t, filepath.Join(dir, "basic.yml"), "basic_auth: {username: kured, password_file: password}\n")
	password := write(t, filepath.Join(dir, "password"), "old\n")
	expected.Store(basic("kured", "old"))
	if err := ask(options); err != nil {
		t.Error(err)
	}
	expected.Store(basic("kured", "new"))
	if err := ask(options); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("an old password: %v", err)
	}
	write(t, password, "new")
	if err := ask(options); err != nil {
		t.Errorf("the file has the new password: %v", err)
	}

	expected.Store("Bearer token")
	options = write(t, filepath.Join(dir, "bearer.yml"), "authorization: {credentials_file: token}\n")
	if err := ask(options); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "token")) {
		t.Errorf("without the file of the token: %v", err)
	}
	write(t, filepath.Join(dir, "token"), "token\n")
	if err := ask(options); err != nil {
		t.Error(err)
	}
	if err := ask(filepath.Join(dir, "missing.yml")); err == nil || !strings.Contains(err.Error(), "missing.yml: no such file") {
		t.Errorf("%v", err)
	}

	expected.Store(basic("kured", "in the URL"))
	url = strings.Replace(url, "://", "://kured:in%20the%20URL@", 1)
	if err := ask(""); err != nil {
		t.Error(err)
	}
}

// A token server that hangs must not hang us: the library asks it without a context.
func TestTokenServerHangs(t *testing.T) {
	options := write(t, filepath.Join(t.TempDir(), "oauth.yml"),
		fmt.Sprintf("oauth2: {client_id: kured, client_secret: hunter2, token_url: %q}\n", serve(t, http.HandlerFunc(hangs))))
	_, err := newServer(t, options, haste, serve(t, says(none))).Prometheus().Query(t.Context(), "up")
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("%v", err)
	}
}

func TestProxy(t *testing.T) {
	var through atomic.Value
	proxy := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through.Store(r.URL.Host)
		says(none)(w, r)
	}))
	t.Setenv("http_proxy", "http://127.0.0.1:1") // is not asked for
	options := write(t, filepath.Join(t.TempDir(), "proxy.yml"), fmt.Sprintf("proxy_url: %q\n", proxy))
	if _, err := newServer(t, options, patience, "http://prometheus.example:9090").Prometheus().Query(t.Context(), "up"); err != nil {
		t.Error(err)
	}
	if through.Load() != "prometheus.example:9090" {
		t.Errorf("the proxy was asked for %v", through.Load())
	}
}

func TestCheckHTTPConfigFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"follow_redirects: false":           "",
		"basic_auth: hunter2":               "cannot unmarshal",
		"proxy_url: 'http://a:hunter2@b c'": "invalid character",
		"bearer_tokens: x":                  "not found",
		"bearer_token: hunter2\nbearer_token_file: x": "at most one",
		"tls_config: {ca_file: missing}":              "missing: no such file",
	} {
		err := CheckHTTPConfigFile(write(t, filepath.Join(t.TempDir(), "http.yml"), text))
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) || strings.Contains(got, "hunter") || strings.Contains(got, "\n") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestNewServer(t *testing.T) {
	for _, text := range []string{"", "prometheus:9090", "//prometheus", "ftp://prometheus", "http://", "http://:9090", "http://a:hunter2@b c", "http://a/#x", "http://a:hunter2#@b"} {
		if _, err := NewServer([]string{"http://good", text}, "", patience); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := NewServer(nil, "", patience); err == nil {
		t.Error("no URL")
	}
	if _, err := NewServer([]string{"http://good"}, "", 0); err == nil {
		t.Error("no time-out")
	}
}
