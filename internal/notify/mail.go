package notify

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/smtp"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	shoutrrr "github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// mail is smtp://; see services. All of a conversation is within the time-out
// of the address, where shoutrrr's own has one for the connection alone.
type mail struct{ config *shoutrrr.Config }

func newMail(u *url.URL) (mail, error) {
	c := &shoutrrr.Config{
		Port: shoutrrr.DefaultSMTPPort, Auth: shoutrrr.AuthTypes.Unknown, UseStartTLS: true,
		Encryption: shoutrrr.EncMethods.Auto, ClientHost: "localhost", Timeout: shoutrrr.DefaultTimeout * time.Second,
	}
	if err := c.SetURL(u); err != nil {
		return mail{}, err
	}
	c.FixEmailTags()
	if c.Subject == "" {
		c.Subject = "kured"
	}
	if c.Auth == shoutrrr.AuthTypes.Unknown {
		c.Auth = shoutrrr.AuthTypes.None
		if c.Username != "" {
			c.Auth = shoutrrr.AuthTypes.Plain
		}
	}
	return mail{c}, nil
}

// Send implements sender: one mail to all recipients. If one of them is
// refused, nobody gets it, so that no one gets it again with each try.
func (m mail) Send(message string, _ *types.Params) error {
	c := m.config
	client, err := m.connect()
	if err != nil {
		return fmt.Errorf("mail: connect: %w", err)
	}
	defer client.Close()
	if err := m.introduce(client); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if err := client.Mail(c.FromAddress); err != nil {
		return fmt.Errorf("mail: sender: %w", err)
	}
	for _, to := range c.ToAddresses {
		if err := client.Rcpt(to); err != nil {
			return fmt.Errorf("mail: recipient: %w", err)
		}
	}
	w, err := client.Data()
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if err := m.write(w, message); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	_ = client.Quit() // it is accepted already
	return nil
}

// connect opens the connection, which ends with the time-out.
func (m mail) connect() (*smtp.Client, error) {
	c := m.config
	deadline := time.Now().Add(c.Timeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, err
	}
	if m.implicit() {
		conn = tls.Client(conn, m.tls())
	}
	client, err := smtp.NewClient(conn, c.Host)
	if err != nil {
		conn.Close()
	}
	return client, err
}

// implicit reports whether TLS begins with the connection.
func (m mail) implicit() bool {
	switch m.config.Encryption {
	case shoutrrr.EncMethods.ImplicitTLS:
		return true
	case shoutrrr.EncMethods.Auto:
		return m.config.Port == shoutrrr.ImplicitTLSPort
	}
	return false
}

func (m mail) tls() *tls.Config {
	return &tls.Config{ServerName: m.config.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: m.config.SkipTLSVerify}
}

// introduce says hello, and does what comes before the first mail.
func (m mail) introduce(client *smtp.Client) error {
	c := m.config
	host := c.ClientHost
	if host == "auto" {
		var err error
		if host, err = os.Hostname(); err != nil {
			return err
		}
	}
	if err := client.Hello(host); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if c.UseStartTLS && !m.implicit() {
		if offered, _ := client.Extension("STARTTLS"); offered {
			if err := client.StartTLS(m.tls()); err != nil {
				return fmt.Errorf("start TLS: %w", err)
			}
		} else if c.RequireStartTLS {
			return shoutrrr.ErrServerNoStartTLS
		}
	}
	var auth smtp.Auth
	switch c.Auth {
	case shoutrrr.AuthTypes.None:
		return nil
	case shoutrrr.AuthTypes.Plain:
		auth = smtp.PlainAuth("", c.Username, c.Password, c.Host)
	case shoutrrr.AuthTypes.CRAMMD5:
		auth = smtp.CRAMMD5Auth(c.Username, c.Password)
	case shoutrrr.AuthTypes.OAuth2:
		auth = shoutrrr.OAuth2Auth(c.Username, c.Password)
	default:
		return errors.New("unknown way to log in")
	}
	if err := client.Auth(auth); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// write writes header and body, RFC 5322.
func (m mail) write(w io.Writer, message string) error {
	c := m.config
	kind := "text/plain"
	if c.UseHTML {
		kind, message = "text/html", "<pre>"+html.EscapeString(message)+"</pre>"
	}
	_, domain, _ := strings.Cut(c.FromAddress, "@")
	for _, field := range [][2]string{
		{"Date", time.Now().Format(time.RFC1123Z)},
		{"From", (&netmail.Address{Name: c.FromName, Address: c.FromAddress}).String()},
		{"To", strings.Join(c.ToAddresses, ", ")},
		{"Subject", mime.QEncoding.Encode("utf-8", c.Subject)},
		{"Message-ID", "<" + rand.Text() + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", kind + "; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		if _, err := fmt.Fprintf(w, "%s: %s\r\n", field[0], field[1]); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, "\r\n"); err != nil {
		return err
	}
	body := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(body, message); err != nil {
		return err
	}
	return body.Close()
}
