package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/status"
)

// maxAnswer bounds what the client reads.
const maxAnswer = 1 << 20

// The errors of a Client that a person can do something about.
var (
	ErrNotRunning = errors.New("kured is not running here (see: systemctl status kured)")
	ErrPermission = errors.New("no permission to ask kured (try: sudo kured status)")
)

// Client asks the daemon.
type Client struct {
	Path string // of the socket
}

// Status is what the daemon knows about itself. ErrNotRunning and ErrPermission
// can be told with errors.Is. Fields of a newer daemon are ignored.
func (c Client) Status(ctx context.Context) (status.Status, error) {
	var s status.Status
	if err := c.get(ctx, statusPath, &s); err != nil {
		return status.Status{}, err
	}
	return s, nil
}

func (c Client) get(ctx context.Context, path string, into any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kured"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return ErrPermission
	case err != nil:
		return fmt.Errorf("ask kured: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask kured: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(body, &f) != nil || f.Error == "" {
			f.Error = resp.Status
		}
		return fmt.Errorf("kured refuses %s: %s", path, f.Error)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("answer of kured: %w", err)
	}
	return nil
}
