package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/net/netutil"

	"github.com/kured-host/kured/internal/socket"
	"github.com/kured-host/kured/internal/status"
)

// An address that is in use, or not there yet, is tried again: soon at first.
const (
	retryFirst = time.Second
	retryMax   = 5 * time.Minute
)

// maxConnections at once and address; more wait.
const maxConnections = 16

// Run shows the metrics as first says, and later as Configure does, until ctx
// ends. What is wrong is logged, once for as long as it stays the same, and
// never ends the daemon.
func (m *Metrics) Run(ctx context.Context, first Config) {
	for c := first; ; {
		serving, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		for i, address := range c.Listen {
			if !slices.Contains(c.Listen[:i], address) {
				all.Go(func() { m.serveAt(serving, address, c.WebConfigFile) })
			}
		}
		if c.Textfile != "" {
			all.Go(func() { m.keepTextfile(serving, c.Textfile) })
		}
		next, again := m.next(ctx, c)
		stop()
		all.Wait()
		if !again {
			return
		}
		if c.Textfile != next.Textfile {
			m.removeTextfile(c.Textfile)
		}
		c = next
	}
}

// Configure goes on with another configuration. It never blocks.
func (m *Metrics) Configure(c Config) {
	select { // one that nobody has taken yet is void
	case <-m.configs:
	default:
	}
	select {
	case m.configs <- c:
	default: // another call was faster
	}
}

// next waits for a configuration that asks for something else than c.
func (m *Metrics) next(ctx context.Context, c Config) (next Config, again bool) {
	for {
		select {
		case next = <-m.configs:
			// Whether the file asks for TLS is read only when the server starts.
			if !next.same(c) || next.WebConfigFile != "" {
				return next, true
			}
		case <-ctx.Done():
			return Config{}, false
		}
	}
}

// serveAt serves one address until ctx ends.
func (m *Metrics) serveAt(ctx context.Context, address, webConfig string) {
	told := ""
	for pause := retryFirst; ; pause = min(2*pause, retryMax) {
		began := time.Now()
		err := m.serveOnce(ctx, address, webConfig)
		if ctx.Err() != nil {
			return
		}
		if text := plain(err).Error(); text != told {
			told = text
			m.options.Log.Warn("the metrics are not served at " + status.Clean(address, maxText) + ": " + text)
		}
		if errors.Is(err, errNoSocket) {
			return // systemd passes sockets only when it starts a program
		}
		if time.Since(began) > retryMax {
			pause = retryFirst // it went well for a while
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// serveOnce serves one address until ctx ends or something fails.
func (m *Metrics) serveOnce(ctx context.Context, address, webConfig string) error {
	listeners, err := m.listen(ctx, address)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // most were closed by the server
		}
	}()
	failed := make(chan error, len(listeners))
	var servers []*http.Server
	for _, l := range listeners {
		// The toolkit changes its server, so that each listener needs its own.
		server := m.server()
		servers = append(servers, server)
		limited := []net.Listener{netutil.LimitListener(l, maxConnections)}
		systemd := false
		flags := &web.FlagConfig{WebListenAddresses: &[]string{address}, WebSystemdSocket: &systemd, WebConfigFile: &webConfig}
		go func() {
			failed <- web.ServeMultiple(limited, server, flags, slog.New(toolkitLog{m.options.Log.Handler()}))
		}()
		m.listening(l.Addr().String())
	}
	ended := 0
	select {
	case err = <-failed:
		ended++
	case <-ctx.Done():
	}
	for i, server := range servers {
		_ = listeners[i].Close() // also where the server has not come to know of it
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		if server.Shutdown(soon) != nil {
			_ = server.Close() // whoever still reads slowly has had its time
		}
		cancel()
	}
	for ; ended < len(servers); ended++ {
		<-failed
	}
	if err == nil && ctx.Err() == nil {
		err = errors.New("ended without being told to")
	}
	return err
}

func (m *Metrics) server() *http.Server {
	s := &http.Server{
		Handler:           m,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       5 * time.Second, // of HTTP/2
		MaxHeaderBytes:    8 << 10,
		// Handshakes that fail are the client's matter.
		ErrorLog: slog.NewLogLogger(m.options.Log.Handler(), slog.LevelDebug),
	}
	// Each scrape has its connection, so that none stays open with a timer.
	s.SetKeepAlivesEnabled(false)
	return s
}

var errNoSocket = errors.New("systemd has not passed a socket: enable kured-metrics.socket, then restart kured.service")

// listen opens an address.
func (m *Metrics) listen(ctx context.Context, address string) ([]net.Listener, error) {
	if address == systemdAddress {
		return m.fromSystemd()
	}
	if len(address) > len(unixPrefix) && address[:len(unixPrefix)] == unixPrefix {
		l, err := listenUnix(ctx, address[len(unixPrefix):])
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// fromSystemd makes listeners of the sockets that systemd passed, as often as
// it is asked: the sockets themselves stay open (sd_listen_fds(3)).
func (m *Metrics) fromSystemd() ([]net.Listener, error) {
	var out []net.Listener
	for _, f := range m.sockets() {
		l, err := net.FileListener(f) // a duplicate
		if err != nil {
			for _, l := range out {
				_ = l.Close() // the error that counts is the first
			}
			return nil, fmt.Errorf("socket %s of systemd: %w", status.Clean(f.Name(), maxText), err)
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, errNoSocket
	}
	return out, nil
}

// listenUnix makes the socket at path, for root and the group that the
// directory gives it. One that nobody serves any more is replaced.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	l, err := socket.Listen(ctx, path)
	if taken := (*socket.TakenError)(nil); errors.As(err, &taken) {
		return nil, fmt.Errorf("%s %w", status.Clean(path, maxText), err)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}
