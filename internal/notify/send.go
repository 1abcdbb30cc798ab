package notify

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/kured-host/kured/internal/statefile"
)

var errNoCustom = errors.New("its address has no other scheme with a +")

// maxAddress bounds a URL and the file that it is in, in bytes.
const maxAddress = 8 << 10

// sender is what is used of a shoutrrr service.
type sender interface {
	Send(message string, params *types.Params) error
}

// send sends once, however long it takes. Its errors are without secrets.
func (n *Notifier) send(t *target, text string) (err error) {
	address := t.url
	if address == "" {
		if address, err = addressFrom(t.file); err != nil {
			return err
		}
	}
	hidden := secretsOf(address)
	defer func() {
		// Our own process must not end because of a fault in one of two dozen services.
		if fault := recover(); fault != nil {
			err = fmt.Errorf("panic in shoutrrr: %v", fault)
		}
		if err != nil {
			some := errors.As(err, new(someTold))
			if err = errors.New(hidden.hide(err.Error())); some {
				err = someTold{err}
			}
		}
	}()
	s, err := n.open(address)
	if err != nil {
		return err
	}
	// Most services share net/http's default transport, which would keep the connection for 90 s.
	defer http.DefaultClient.CloseIdleConnections()
	return s.Send(text, &types.Params{})
}

// addressFrom reads the URL in a file.
func addressFrom(path string) (string, error) {
	text, err := statefile.Read(path, maxAddress+1)
	if err != nil {
		return "", fmt.Errorf("read notification URL: %w", err)
	}
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("read notification URL: %s is empty", path)
	case bytes.ContainsAny(text, "\r\n"):
		return "", fmt.Errorf("read notification URL: %s has more than one line", path)
	}
	address, err := checked(string(text))
	if err != nil {
		return "", fmt.Errorf("notification URL in %s: %w", path, err)
	}
	return address, nil
}

// connect makes the service of an address. It connects to nothing yet, but
// for matrix, which may log in.
func connect(address string, log *slog.Logger) (sender, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	name := service(address)
	s, err := connectTo(name, u, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func connectTo(name string, u *url.URL, log *slog.Logger) (sender, error) {
	switch name {
	case "generic":
		return newHook(u)
	case "smtp":
		return newMail(u)
	case "logger":
		return journal{log}, nil
	}
	s, err := located(name, u)
	if err != nil {
		return nil, err
	}
	switch s := s.(type) {
	case *telegram.Service:
		return bot{s.Config}, nil
	case *ntfy.Service:
		// Its own transport would never close its connection and heeds no proxy.
		s.SetHTTPClient(&http.Client{Timeout: ntfy.HTTPTimeout * time.Second, Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.Config.DisableTLSVerification},
		}})
	case interface{ GetHTTPClient() *http.Client }: // mattermost, gotify: the same
		if transport, ok := s.GetHTTPClient().Transport.(*http.Transport); ok {
			transport.DisableKeepAlives = true
			transport.Proxy = http.ProxyFromEnvironment
		}
	}
	return s, nil
}

// journal is logger://, our own log, for trying out.
type journal struct{ log *slog.Logger }

// Send implements sender.
func (j journal) Send(message string, _ *types.Params) error {
	j.log.Info(message)
	return nil
}
