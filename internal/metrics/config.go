package metrics

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"

	"github.com/kured-host/kured/internal/status"
)

// Config says where the metrics are shown. The zero value shows them nowhere.
type Config struct {
	// Listen are the addresses to serve at: host:port, "unix:/path", or
	// "systemd" for the sockets that kured-metrics.socket opens.
	Listen []string
	// WebConfigFile is the path of a file for TLS and passwords
	// (https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md);
	// empty: neither.
	WebConfigFile string
	// Textfile is the path of a file for the textfile collector of
	// node_exporter, which reads what ends in .prom; empty: none.
	Textfile string
}

// The two forms of an address beside host:port.
const (
	systemdAddress = "systemd"
	unixPrefix     = "unix:"
)

// Check says what in c can never work. It reads the web configuration file, and
// binds no address.
func Check(c Config) error {
	var errs []error
	for _, a := range c.Listen {
		if err := checkAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("metrics.listen %q: %w", status.Clean(a, maxText), err))
		}
	}
	if err := web.Validate(c.WebConfigFile); err != nil {
		errs = append(errs, fmt.Errorf("metrics.web_config_file: %w", plain(err)))
	}
	if f := c.Textfile; f != "" && (!filepath.IsAbs(f) || filepath.Ext(f) != ".prom") {
		errs = append(errs, fmt.Errorf("metrics.textfile %q: must be an absolute path that ends in .prom", status.Clean(f, maxText)))
	}
	return errors.Join(errs...)
}

func checkAddress(a string) error {
	if a == systemdAddress {
		return nil
	}
	if path, ok := strings.CutPrefix(a, unixPrefix); ok {
		if !filepath.IsAbs(path) || len(path) > 107 { // unix(7)
			return errors.New("must be unix: and an absolute path of at most 107 bytes")
		}
		return nil
	}
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return errors.New(`must be host:port, unix:/path or systemd`)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("the port must be a number from 1 to 65535")
	}
	return nil
}

// same reports whether nothing has to be opened anew.
func (c Config) same(d Config) bool {
	return slices.Equal(c.Listen, d.Listen) && c.WebConfigFile == d.WebConfigFile && c.Textfile == d.Textfile
}

// maxText bounds text of others, in characters.
const maxText = 300

// plain makes an error of the toolkit one that can be shown: the YAML decoder
// quotes the values that it does not understand, and these may be secrets.
func plain(err error) error {
	return &plainError{err}
}

type plainError struct{ err error }

func (e *plainError) Unwrap() error { return e.err }

func (e *plainError) Error() string {
	parts := strings.Split(e.err.Error(), "`")
	for i := 1; i < len(parts); i += 2 {
		parts[i] = "…"
	}
	return status.Clean(strings.Join(parts, ""), maxText)
}
