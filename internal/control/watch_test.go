package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/status"
)

func (f *Feed) watching() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Whoever watches sees the present state first, and the newest last, however
// many there are in between; and nothing stays when they have gone.
func TestWatch(t *testing.T) {
	path := socketPath(t)
	feed := &Feed{}
	feed.Publish(status.Status{Phase: status.Starting})
	stop := serveAll(t, path, Daemon{Status: feed})
	const changes = 200
	enough := errors.New("enough")
	var watchers, present sync.WaitGroup
	present.Add(4)
	for range 4 {
		watchers.Go(func() {
			seen, first := -1, true
			err := Client{path}.Watch(t.Context(), func(s status.Status) error {
				if first {
					if s.Phase != status.Starting {
						t.Errorf("first %+v", s)
					}
					present.Done()
				}
				first = false
				if s.Drain != nil {
					if s.Drain.Gone <= seen {
						t.Errorf("%d after %d", s.Drain.Gone, seen)
					}
					if seen = s.Drain.Gone; seen == changes {
						return enough
					}
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Errorf("ended with %v", err)
			}
		})
	}
	present.Wait()
	for i := range changes + 1 {
		feed.Publish(status.Status{Phase: status.Draining, Drain: &status.Drain{Pods: changes, Gone: i}})
	}
	watchers.Wait()
	eventually(t, "nobody is left", func() bool { return feed.watching() == 0 })

	// The end of the watcher's patience, and the daemon's.
	ctx, cancel := context.WithCancel(t.Context())
	if err := (Client{path}).Watch(ctx, func(status.Status) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a watcher who leaves: %v", err)
	}
	err := Client{path}.Watch(t.Context(), func(status.Status) error {
		go func() { _ = stop() }()
		return nil
	})
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("a daemon that stops: %v", err)
	}
	if err := stop(); err != nil || feed.watching() != 0 {
		t.Errorf("%v, %d are left", err, feed.watching())
	}
}

// The same state is not told twice, and a request outlives the time that is
// given to read one.
func TestWatchTellsChanges(t *testing.T) {
	path := socketPath(t)
	feed := &Feed{}
	s, err := New(t.Context(), path, Daemon{Status: feed})
	if err != nil {
		t.Fatal(err)
	}
	s.http.ReadTimeout = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/status?watch=true HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%v, %v", resp, err)
	}
	lines := bufio.NewScanner(resp.Body)
	for i, s := range []status.Status{{Phase: status.Idle}, {Phase: status.Idle}, {Phase: status.Blocked}} {
		if i != 1 && !lines.Scan() {
			t.Fatal(lines.Err())
		}
		time.Sleep(30 * time.Millisecond)
		feed.Publish(s)
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"phase":"blocked"`) {
		t.Errorf("after a change that is none: %s, %v", lines.Text(), lines.Err())
	}
}

// What comes from elsewhere is seen, too.
func TestWatchLooksAgain(t *testing.T) {
	path := socketPath(t)
	var looks atomic.Int32
	d := Daemon{Status: still(func() status.Status {
		if looks.Add(1) > 2 {
			return status.Status{Phase: status.Returning}
		}
		return status.Status{Phase: status.Idle}
	})}
	s, err := New(t.Context(), path, d)
	if err != nil {
		t.Fatal(err)
	}
	s.http.Handler = newHandler(d, pace{time.Minute, time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	seen, enough := "", errors.New("enough")
	err = Client{path}.Watch(t.Context(), func(s status.Status) error {
		if seen += string(s.Phase) + " "; s.Phase == status.Returning {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || seen != "idle returning " {
		t.Errorf("%q, %v", seen, err)
	}
}

// Who does not read is left, and there are only so many.
func TestWatchersAreBounded(t *testing.T) {
	path := socketPath(t)
	feed := &Feed{}
	s, err := New(t.Context(), path, Daemon{Status: feed})
	if err != nil {
		t.Fatal(err)
	}
	s.http.Handler = newHandler(Daemon{Status: feed}, pace{50 * time.Millisecond, time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	for range maxWatchers {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /v1/status?watch=true HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all watch", func() bool { return feed.watching() == maxWatchers })
	err = Client{path}.Watch(t.Context(), func(status.Status) error { return nil })
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != http.StatusServiceUnavailable || refused.What != "16 others watch already" {
		t.Errorf("one more: %v", err)
	}
	many := strings.Repeat("x", 64<<10)
	i := 0
	eventually(t, "those who do not read are left", func() bool {
		i++
		feed.Publish(status.Status{Detail: fmt.Sprint(i, many)})
		return feed.watching() == 0
	})
	if _, err := (Client{path}).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestGates(t *testing.T) {
	path := socketPath(t)
	var asked, most int
	var mu sync.Mutex
	fail := errors.New("no plan yet")
	var failing bool
	want := []status.GateState{{Gate: status.GateSchedule, Open: true}, {Gate: status.GatePause, Reason: status.Paused, Detail: "paused"}}
	serveAll(t, path, Daemon{Status: &Feed{}, Gates: func(ctx context.Context) ([]status.GateState, error) {
		mu.Lock()
		asked++
		most = max(most, asked)
		failed := failing
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		asked--
		mu.Unlock()
		if failed {
			return nil, fail
		}
		if _, limited := ctx.Deadline(); !limited {
			t.Error("without a limit")
		}
		return want, nil
	}})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got, err := Client{path}.Gates(t.Context())
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if most != 1 {
		t.Errorf("%d asked at once", most)
	}
	mu.Lock()
	failing = true
	mu.Unlock()
	if _, err := (Client{path}).Gates(t.Context()); err == nil || err.Error() != "kured refuses /v1/gates: gates: no plan yet" {
		t.Errorf("a failure: %v", err)
	}
}
