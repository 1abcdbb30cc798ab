package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

// mailbox is a real HTTP server that is told what happens.
type mailbox struct {
	*httptest.Server
	awake chan struct{} // closed: it answers

	mu    sync.Mutex
	texts []string // in their order; delivery is at least once, so a text that comes twice is there once
}

// newMailbox serves path; text is how a message says it in its JSON.
func newMailbox(t *testing.T, path string, text func(body []byte) (string, error)) *mailbox {
	t.Helper()
	m := &mailbox{awake: make(chan struct{})}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender has gone
		}
		select {
		case <-m.awake:
		case <-r.Context().Done():
			return
		}
		message, err := text(body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != path || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s with %q: %v", r.Method, r.URL.Path, body, err)
			http.Error(w, "invalid_payload", http.StatusBadRequest)
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.texts = slices.Compact(append(m.texts, message))
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(m.Close)
	return m
}

// heard is what it was told so far.
func (m *mailbox) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.texts)
}

// slackText is the text of a message to a webhook of Slack, as shoutrrr sends it.
func slackText(body []byte) (string, error) {
	var message struct{ Attachments []struct{ Text string } }
	if err := json.Unmarshal(body, &message); err != nil {
		return "", err
	}
	if len(message.Attachments) != 1 {
		return "", fmt.Errorf("%d attachments", len(message.Attachments))
	}
	return message.Attachments[0].Text, nil
}

func plainText(body []byte) (string, error) {
	var message struct{ Message string }
	err := json.Unmarshal(body, &message)
	return message.Message, err
}

// Where hooks.slack.com is for a kured that runs as a process of its own.
const (
	slackAddress = "KURED_TEST_SLACK_ADDRESS"
	slackRoots   = "KURED_TEST_SLACK_ROOTS" // PEM
)

func init() {
	if roots := os.Getenv(slackRoots); roots != "" {
		http.DefaultTransport = toSlack(os.Getenv(slackAddress), []byte(roots))
	}
}

// toSlack is net/http's default transport with hooks.slack.com at another
// address, and with nothing else in reach but what is on the loopback interface.
func toSlack(slack string, roots []byte) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"} // httptest's certificate is for that
	transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		switch host, _, err := net.SplitHostPort(address); {
		case err != nil:
			return nil, err
		case host == "hooks.slack.com":
			address = slack
		case !net.ParseIP(host).IsLoopback():
			return nil, fmt.Errorf("no server in this test for %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return transport
}

// beSlack makes a TLS server hooks.slack.com for this process until the end of
// the test, and for others with the environment that it returns.
func beSlack(t *testing.T, server *httptest.Server) (env []string) {
	t.Helper()
	address := server.Listener.Addr().String()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	usual, transport := http.DefaultTransport, toSlack(address, roots)
	http.DefaultTransport = transport
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		http.DefaultTransport = usual
	})
	return []string{slackAddress + "=" + address, slackRoots + "=" + string(roots)}
}

// awaitTold waits until these have been told, by the beginnings of the texts, and nothing else.
func awaitTold(c *cluster, m *mailbox, texts ...string) {
	c.t.Helper()
	defer func() {
		if c.t.Failed() {
			c.t.Logf("told: %q", m.heard())
		}
	}()
	c.eventually(fmt.Sprintf("told %q", texts), func() bool {
		return len(m.heard()) >= len(texts)
	})
	checkTold(c, m, texts...)
}

func checkTold(c *cluster, m *mailbox, texts ...string) {
	c.t.Helper()
	if heard := m.heard(); !slices.EqualFunc(heard, texts, strings.HasPrefix) {
		c.t.Fatalf("told %q, want %q", heard, texts)
	}
}

// The texts of a cycle, by their beginnings.
const (
	toldDrain  = "node-a: cordoned, its pods are being moved, then it reboots (linux-image-6.1.0-40)"
	toldFailed = "node-a: did not reboot, all was undone and it will be tried again: "
	toldReboot = "node-a: drained, it reboots now (linux-image-6.1.0-40)"
	toldBack   = "node-a: rebooted, and well again: back in service: lock released"
)

// What a node does is told in Slack's format over TLS, and to a webhook that
// hangs until the machine goes down. A third is dead. None of them holds up the
// cycle. That the node is back is told by kured uncordon, when it is.
func TestNotifications(t *testing.T) {
	noSystemd(t)
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	slack := newMailbox(t, "/services/T01234567/B01234567/abcdefghijABCDEFGHIJ0123", slackText)
	slack.StartTLS()
	close(slack.awake)
	env := beSlack(t, slack.Server)
	asleep := newMailbox(t, "/hook", plainText)
	asleep.Start()
	m := c.join("node-a", fmt.Sprintf(`
hooks.timeout = "1s"
[[notify]]
url_file = "DIR/slack"
[[notify]]
url = "generic+%s/hook?template=json"
[[notify]]
url = "generic+http://127.0.0.1:1/dead"
events = ["drain", "reboot"]
`, asleep.URL))
	m.write("slack", "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijABCDEFGHIJ0123\n")

	// A try that comes to nothing, and one that does not.
	unblock := blockDrain(c, "node-a")
	m.start()
	m.awaitHeldDrain()
	m.uncordon(env...) // in the same boot, as when somebody starts the unit by hand
	m.awaitHeldDrain()
	pause := m.write("pause", "lunch\n")
	m.awaitRolledBack(1)
	m.await(status.Blocked, status.Paused, "lunch")
	awaitTold(c, slack, toldDrain, toldFailed)
	if text := slack.heard()[1]; !strings.Contains(text, "lunch") {
		t.Errorf("does not tell why it failed: %q", text)
	}
	unblock()
	m.remove(pause)
	m.awaitReboot()
	awaitTold(c, slack, toldDrain, toldFailed, toldDrain, toldReboot)
	checkTold(c, asleep)
	close(asleep.awake)
	awaitTold(c, asleep, toldDrain, toldFailed, toldDrain, toldReboot)
	m.goDown()

	// Another boot, in which the kubelet does not come up: that is not back.
	m.boot = strings.Repeat("1", 32)
	ctx, cancel := context.WithCancel(t.Context())
	now, done := m.comeBack(ctx)
	c.eventually("not back yet", func() bool {
		return now().Phase == status.Returning && now().Reason == status.NotReady && now().Detail != ""
	})
	cancel()
	if err := <-done; err == nil {
		t.Error("back without a kubelet")
	}
	checkTold(c, slack, toldDrain, toldFailed, toldDrain, toldReboot)

	// And one in which it does.
	if err := m.node.PowerOn(); err != nil {
		t.Fatal(err)
	}
	m.newBoot()
	text := m.uncordon(env...)
	for _, place := range []*mailbox{slack, asleep} {
		checkTold(c, place, toldDrain, toldFailed, toldDrain, toldReboot, toldBack)
	}
	if m.cordoned() || len(m.entries()) != 0 {
		t.Errorf("told to be back: cordoned %v, lock %v", m.cordoned(), m.entries())
	}
	text += m.uncordon(env...) // again
	m.start()                  // and the daemon, which has nothing to do
	m.await(status.Idle, "", "")
	m.stop()
	checkTold(c, slack, toldDrain, toldFailed, toldDrain, toldReboot, toldBack)
	if text += m.logged.String(); !strings.Contains(text, "connection refused") || strings.Contains(text, "abcdefghij") {
		t.Errorf("the journal does not name the dead server, or names the secret of Slack:\n%s", text)
	}
}

// Who stops kured uncordon does not lose what it has just told.
func TestStoppedAndTold(t *testing.T) {
	told := newMailbox(t, "/hook", plainText)
	told.Start()
	cfg := config.Default()
	cfg.Log.Format = "text"
	cfg.Notify = []config.Notify{{URL: "generic+" + told.URL + "/hook?template=json", Events: []string{string(status.EventFailed)}}}
	dir := t.TempDir()
	cfg.Kubernetes.Kubeconfig = filepath.Join(dir, "missing")
	p := testPlan(t, dir, "unix:path="+filepath.Join(dir, "no-bus"), "0123456789abcdef0123456789abcdef", cfg)
	p.notifier.Tell(status.Occurrence{Event: status.EventFailed, At: time.Now(), Node: "node-a", Phase: status.Returning, Reason: status.GaveUp, Detail: "not well"})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	time.AfterFunc(50*time.Millisecond, func() { close(told.awake) })
	var coded *exitError
	if err := p.comeBack(ctx, cycle.Return, time.Minute); !errors.As(err, &coded) || coded.code != exitTempFail {
		t.Errorf("it ended with %v", err)
	}
	if heard := told.heard(); len(heard) != 1 {
		t.Errorf("told %q", heard)
	}
}
