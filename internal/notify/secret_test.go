package notify

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestHide(t *testing.T) {
	address := "smtp://ops%40example.com:p%40ss%22word@smtp.example.com:465/?fromAddress=kured@example.com&toAddresses=a@example.org"
	for text, want := range map[string]string{
		"dial tcp: lookup smtp.example.com: no such host":            "dial tcp: lookup smtp.example.com: no such host",
		`Post "https://smtp.example.com/x?y=z": EOF`:                 `Post "https://…": EOF`,
		"535 ops@example.com P@SS\"WORD p%40ss%22word refused":       "535 … … … refused",
		`auth "p@ss\"word" and b3BzQGV4YW1wbGUuY29tOnBAc3Mid29yZA==`: `auth "…" and …`,
		"a\nb\x00c\u202e":               "a b c",
		strings.Repeat("x", maxError+1): strings.Repeat("x", maxError-1) + ellipsis,
	} {
		if got := secretsOf(address).hide(text); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
		}
	}
	// Where the host is the token, it is hidden too.
	if got := secretsOf("ifttt://tokenTOKEN?events=e").hide("key tokentoken is bad"); got != "key … is bad" {
		t.Errorf("got %q", got)
	}
	if s := secretsOf("generic://a.example.com/p?x=y"); slices.Contains(s, "") {
		t.Errorf("an empty secret in %q", s)
	}
}

// smtpServer refuses every user with what it got from him.
func smtpServer(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "220 mail.example.com\r\n")
				for in := bufio.NewScanner(c); in.Scan(); {
					if strings.HasPrefix(in.Text(), "EHLO") {
						fmt.Fprint(c, "250-mail.example.com\r\n250 AUTH PLAIN\r\n")
					} else {
						fmt.Fprintf(c, "535 refused: %s\r\n", in.Text())
					}
				}
			}()
		}
	}()
	return l
}

// Each service meets a server that answers with all that it got, one that
// hangs up, and one that is not there: nothing of it may reach the log.
func TestNoSecretInTheLog(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "refused %s https://%s%s %s %v %s %s %s", r.Method, r.Host, r.URL, r.URL.Path, r.Header, user, password, body)
	})
	plain, secure := httptest.NewServer(echo), httptest.NewTLSServer(echo)
	defer plain.Close()
	defer secure.Close()
	mail := smtpServer(t)
	for name, closed := range map[string]bool{"refused": false, "hangs up": true} {
		t.Run(name, func(t *testing.T) {
			lead(t, secure, nil)
			if closed {
				server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
				defer server.Close()
				lead(t, server, nil)
			}
			for service, address := range corpus {
				// The logger sends nothing anywhere, and discord tries again itself, for a minute.
				if service == "logger" || service == "discord" && closed {
					continue
				}
				at := plain.Listener.Addr().String()
				switch {
				case closed && service == "zulip":
					at = "ops.example.com"
				case closed:
					at = "127.0.0.1:1"
				case service == "smtp":
					at = mail.Addr().String()
				case slices.Contains([]string{"opsgenie", "pagerduty", "rocketchat", "zulip"}, service):
					at = "ops.example.com" // led to our server
				case slices.Contains([]string{"bark", "generic", "matrix", "signal"}, service):
					at = secure.Listener.Addr().String()
					address = strings.NewReplacer("scheme=http", "scheme=https", "+http:", "+https:", "disableTLS=yes", "", "disabletls=yes", "").Replace(address)
				}
				var log lines
				n, err := New([]Target{{URL: strings.ReplaceAll(address, "SERVER", at)}}, log.log())
				if err != nil {
					t.Error(err)
					continue
				}
				n.pace = quick
				n.pace.tries = 1
				n.Tell(held("node-a"))
				flushed(t, n)
				text := log.String()
				if !strings.Contains(text, "given up") {
					t.Errorf("%s: it did not fail:\n%s", service, text)
				}
				if low := strings.ToLower(text); strings.Contains(low, "5ecret") || strings.Contains(low, "5ec2e7") {
					t.Errorf("%s: a secret in the log:\n%s", service, text)
				}
				if strings.Contains(text, "no server in this test") {
					t.Errorf("%s: met no server:\n%s", service, text)
				}
				if testing.Verbose() {
					t.Log(text[strings.Index(text, "msg="):])
				}
			}
		})
	}
}
