package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Server checks that a server of alerts can be asked. ask returns what it says,
// for people. If it cannot, that is as bad as level, because of what follows.
func Server(ctx context.Context, level Level, follows string, ask func(context.Context) (string, error)) []Finding {
	said, err := ask(ctx)
	if err == nil {
		return one(ok("it answers: %s", said))
	}
	remedy := "see whether it runs and can be reached from this node"
	switch text := err.Error(); {
	case strings.Contains(text, "x509:"), strings.Contains(text, "tls:"):
		remedy = "set ca_file, or what else is wrong with TLS, in the file that http_config_file names"
	case strings.Contains(text, "401 Unauthorized"), strings.Contains(text, "403 Forbidden"):
		remedy = "put a credential into the file that http_config_file names"
	}
	return one(Finding{Level: level, Text: err.Error(), Remedy: remedy + "; until then " + follows})
}

// Listen checks that an address of the metrics is free, or that it is our
// daemon which answers there. It is HOST:PORT or unix:PATH; others are left to
// systemd. With secured, TLS or a password keep the answer from being looked at.
func Listen(ctx context.Context, address string, secured bool) Finding {
	network, where := "tcp", address
	if path, found := strings.CutPrefix(address, "unix:"); found {
		network, where = "unix", path
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return ok("%s is free", address)
		}
	} else {
		listener, err := new(net.ListenConfig).Listen(ctx, network, where)
		if err == nil {
			err = listener.Close()
		}
		switch {
		case err == nil:
			return ok("%s is free", address)
		case !errors.Is(err, syscall.EADDRINUSE):
			return fail("correct metrics.listen in /etc/kured/kured.toml", "%s cannot be listened on: %v", address, err)
		}
	}
	mine, err := ours(ctx, network, where)
	switch {
	case network == "unix" && errors.Is(err, syscall.ECONNREFUSED):
		return ok("%s is left by a process that is gone, and will be replaced", address)
	case err == nil && mine:
		return ok("%s is our daemon's", address)
	case secured:
		return ok("%s is in use, by our daemon as far as can be seen: web_config_file keeps its answer from us", address)
	}
	return warn("choose another address for metrics.listen in /etc/kured/kured.toml", "%s is in use by something that is not kured", address)
}

// ours reports whether kured's metrics are at an address.
func ours(ctx context.Context, network, where string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, where)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return false, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false, fmt.Errorf("ask for metrics: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, largest))
	return strings.Contains(string(text), "kured_build_info"), err
}
