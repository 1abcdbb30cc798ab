package notify

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/url"
	"strings"
	"testing"
)

// postOffice is a mail server that knows the users of example.com.
type postOffice struct {
	net.Listener
	tls     *tls.Config
	at      string // "": plain, "start": STARTTLS, "begin": TLS from the beginning
	mails   chan string
	refuses string // a recipient
}

func newPostOffice(t *testing.T, at string) *postOffice {
	t.Helper()
	own, _ := certificate(t, "127.0.0.1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &postOffice{Listener: l, tls: &tls.Config{Certificates: []tls.Certificate{own}}, at: at, mails: make(chan string, 10), refuses: "nobody@example.com"}
	if at == "begin" {
		p.Listener = tls.NewListener(l, p.tls)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *postOffice) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 hello\r\n")
	in := bufio.NewReader(c)
	secure := p.at == "begin"
	var mail strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, _, _ := strings.Cut(line, " ")
		answer := "250 ok"
		switch {
		case verb == "EHLO" && p.at == "start" && !secure:
			answer = "250-hello\r\n250 STARTTLS"
		case verb == "EHLO":
			answer = "250-hello\r\n250 AUTH PLAIN"
		case verb == "STARTTLS":
			fmt.Fprint(c, "220 go\r\n")
			upgraded := tls.Server(c, p.tls)
			c, in, secure = upgraded, bufio.NewReader(upgraded), true
			continue
		case verb == "AUTH":
			answer = "235 welcome"
			fmt.Fprintf(&mail, "%s\n", line)
		case verb == "MAIL", verb == "RCPT":
			fmt.Fprintf(&mail, "%s\n", line)
			if strings.Contains(line, p.refuses) {
				answer = "550 no such user " + p.refuses
			}
		case verb == "QUIT":
			return
		case verb == "DATA":
			fmt.Fprint(c, "354 go on\r\n")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.WriteString(strings.ReplaceAll(strings.TrimPrefix(line, "."), "\r\n", "\n"))
			}
			p.mails <- mail.String()
		}
		fmt.Fprint(c, answer+"\r\n")
	}
}

func post(t *testing.T, address string) mail {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMail(u)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMail(t *testing.T) {
	for name, c := range map[string]struct{ at, query, envelope, kind, body string }{
		"plain":    {"", "", "", "text/plain", "node-ä: well = back\n.dot"},
		"starttls": {"start", "&skiptlsverify=yes&requirestarttls=yes", "AUTH PLAIN AG9wcwBwYXNz\n", "text/plain", "node-ä: well = back\n.dot"},
		"tls":      {"begin", "&skiptlsverify=yes&encryption=ImplicitTLS&usehtml=yes", "AUTH PLAIN AG9wcwBwYXNz\n", "text/html", "<pre>node-ä: well = back\n.dot</pre>"},
	} {
		t.Run(name, func(t *testing.T) {
			office := newPostOffice(t, c.at)
			user := "ops:pass@"
			if c.envelope == "" {
				user = ""
			}
			m := post(t, "smtp://"+user+office.Addr().String()+"/?from=kured@example.com&fromname=K%C3%BCred&to=a@example.com,b@example.com&subject=n%C3%B6de%0D%0Aa"+c.query)
			if err := m.Send("node-ä: well = back\n.dot", nil); err != nil {
				t.Fatal(err)
			}
			envelope := c.envelope + "MAIL FROM:<kured@example.com>\nRCPT TO:<a@example.com>\nRCPT TO:<b@example.com>\n"
			got := <-office.mails
			if !strings.HasPrefix(got, envelope) {
				t.Fatalf("got %s", got)
			}
			parsed, err := netmail.ReadMessage(strings.NewReader(got[len(envelope):]))
			if err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]string{
				"From": "=?utf-8?q?K=C3=BCred?= <kured@example.com>", "To": "a@example.com, b@example.com", "Subject": "=?utf-8?q?n=C3=B6de=0D=0Aa?=",
				"Content-Type": c.kind + "; charset=utf-8", "Auto-Submitted": "auto-generated",
			} {
				if got := parsed.Header.Get(key); got != want {
					t.Errorf("%s: got %s, want %s", key, got, want)
				}
			}
			if _, err := parsed.Header.Date(); err != nil || !strings.HasSuffix(parsed.Header.Get("Message-ID"), "@example.com>") {
				t.Errorf("%v, %s", err, parsed.Header.Get("Message-ID"))
			}
			body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
			if want := c.body + "\n"; string(body) != want || err != nil {
				t.Errorf("got %q, %v, want %q", body, err, want)
			}
		})
	}
}

func TestMailFails(t *testing.T) {
	office := newPostOffice(t, "")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	const people = "/?from=kured@example.com&to=a@example.com"
	for address, want := range map[string]string{
		"smtp://" + office.Addr().String() + people + ",nobody@example.com":                 "mail: recipient: 550",
		"smtp://" + office.Addr().String() + people + "&requirestarttls=yes":                "does not support StartTLS",
		"smtp://" + office.Addr().String() + "/?from=a%0D%0Ab@example.com&to=a@example.com": "mail: sender",
		"smtp://" + silent.Addr().String() + people + "&timeout=50ms":                       "i/o timeout",
		"smtp://127.0.0.1:1" + people:                                                       "connection refused",
	} {
		if err := post(t, address).Send("x", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", address, err, want)
		}
	}
	if len(office.mails) > 0 {
		t.Errorf("a mail was sent: %s", <-office.mails)
	}
}
