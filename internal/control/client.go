package control

import (
	"bytes"
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

// maxAnswer bounds what the client reads of an answer, and of a line of a stream.
const maxAnswer = 1 << 20

// maxWords bounds what is shown of a refusal, in characters.
const maxWords = 1000

// The errors of a Client that a person can do something about.
var (
	ErrNotRunning = errors.New("kured is not running here (see: systemctl status kured)")
	ErrSilent     = errors.New("kured does not answer (see: journalctl -u kured)")
	ErrPermission = errors.New("no permission to ask kured (root and the group kured have it; try sudo)")
)

// RefusedError is an answer that is not 200.
type RefusedError struct {
	Code int    // HTTP status
	What string // the daemon's words, printable
	path string
}

func (e *RefusedError) Error() string {
	switch e.Code {
	case http.StatusForbidden:
		return e.What + " (try sudo)"
	case http.StatusBadRequest, http.StatusConflict:
		return e.What
	}
	return fmt.Sprintf("kured refuses %s: %s", e.path, e.What)
}

// Client asks the daemon. ErrNotRunning, ErrSilent, ErrPermission and *RefusedError
// can be told with errors.Is and errors.As. Fields of a newer daemon are ignored.
type Client struct {
	Path string // of the socket
}

// Status is what the daemon knows about itself.
func (c Client) Status(ctx context.Context) (status.Status, error) {
	var s status.Status
	if err := c.ask(ctx, http.MethodGet, statusPath, nil, &s); err != nil {
		return status.Status{}, err
	}
	return s, nil
}

// Watch calls each with the status, and again after each change, until ctx
// ends, each returns an error, which it returns, or the daemon ends the stream,
// which is ErrNotRunning.
func (c Client) Watch(ctx context.Context, each func(status.Status) error) error {
	body, err := c.do(ctx, http.MethodGet, statusPath+"?watch=true", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	limited := &io.LimitedReader{R: body}
	for d := json.NewDecoder(limited); ; {
		limited.N = maxAnswer
		var s status.Status
		if err := d.Decode(&s); err != nil {
			var broken *net.OpError
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case limited.N > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken)):
				return ErrNotRunning // it went away
			}
			return fmt.Errorf("answer of kured: %w", err)
		}
		if err := each(s); err != nil {
			return err
		}
	}
}

// Gates asks every gate what it says now, also those behind a closed one. The
// daemon takes up to a minute for that.
func (c Client) Gates(ctx context.Context) ([]status.GateState, error) {
	var list gateList
	if err := c.ask(ctx, http.MethodGet, gatesPath, nil, &list); err != nil {
		return nil, err
	}
	return list.Gates, nil
}

// Do tells the daemon to do something.
func (c Client) Do(ctx context.Context, verb Verb, o Order) (Outcome, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Outcome{}, fmt.Errorf("order: %w", err)
	}
	var done Outcome
	if err := c.ask(ctx, http.MethodPost, verbPath+string(verb), body, &done); err != nil {
		return Outcome{}, err
	}
	return done, nil
}

// ask makes a request with one answer.
func (c Client) ask(ctx context.Context, method, path string, body []byte, into any) error {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	data, err := io.ReadAll(io.LimitReader(answer, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask kured: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("answer of kured: %w", err)
	}
	return nil
}

// do makes a request and returns the body of an answer that is 200.
func (c Client) do(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://kured"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return nil, ErrPermission
	case errors.Is(err, context.DeadlineExceeded):
		return nil, ErrSilent
	case err != nil:
		return nil, fmt.Errorf("ask kured: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask kured: %w", err)
	}
	var f failure
	if json.Unmarshal(data, &f) != nil || f.Error == "" {
		f.Error = resp.Status
	}
	return nil, &RefusedError{resp.StatusCode, status.Clean(f.Error, maxWords), path}
}
