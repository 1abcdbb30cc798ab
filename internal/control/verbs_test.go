package control

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is a daemon's files, and the socket by which they are changed.
type world struct {
	Client
	Verbs
	t   *testing.T
	log *bytes.Buffer
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, log: &bytes.Buffer{}, Client: Client{filepath.Join(dir, "kured.sock")}}
	w.Verbs = Verbs{
		Sentinel: filepath.Join(dir, "request"),
		Watched: func() []string {
			return []string{filepath.Join(dir, "other"), filepath.Join(dir, "request"), filepath.Join(dir, "third")}
		},
		Pause: filepath.Join(dir, "pause"),
		Now:   func() time.Time { return noon },
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	}
	serveAll(t, w.Client.Path, Daemon{Status: &Feed{}, Verbs: w.Verbs})
	return w
}

// told is an order's outcome in one line.
func (w *world) told(verb Verb, o Order) string {
	w.t.Helper()
	out, err := w.Verbs.Do(w.t.Context(), verb, o)
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("%v: %s", out.Changed, strings.Join(out.Text, "; "))
}

func (w *world) check(got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRequestAndCancel(t *testing.T) {
	w := newWorld(t)
	w.check(w.told(Cancel, Order{}), "false: no reboot of this node was requested here")
	w.check(w.told(Request, Order{Reason: "try the new kernel", By: "alice"}), "true: a reboot of this node is requested")
	s := sentinel.Read(w.Watched())
	w.check(fmt.Sprint(s.Wanted, s.Err, s.Path == w.Sentinel, s.Reasons), "true <nil> true [try the new kernel (requested by alice, uid 0, 2026-11-22T12:00:00Z)]")
	since := s.Since
	w.check(w.told(Request, Order{}), "true: a reboot of this node was requested already; the reason is the new one")
	s = sentinel.Read(w.Watched())
	w.check(fmt.Sprint(s.Since.Equal(since), s.Reasons), "true [requested by uid 0, 2026-11-22T12:00:00Z]")

	// What else asks stays, and is said.
	dir := filepath.Dir(w.Sentinel)
	for name, content := range map[string]string{"other": "", "other.pkgs": "a\nb\nc\nd\ne\nf\ng\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "third")); err != nil {
		t.Fatal(err)
	}
	w.check(w.told(Cancel, Order{By: "bob"}), fmt.Sprintf("true: the request is withdrawn; a reboot is still wanted by %[1]s/other: a, b, c, d, e and 2 more; whether %[1]s/third wants a reboot is not known", dir))
	if left, _ := filepath.Glob(w.Sentinel + "*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "other")); err != nil {
		t.Errorf("what others want is gone: %v", err)
	}
	w.check(w.log.String(), `level=INFO msg="a reboot of this node is requested" verb=request why="try the new kernel" by="alice, uid 0"
level=INFO msg="a reboot of this node was requested already; the reason is the new one" verb=request why="" by="uid 0"
level=INFO msg="the request is withdrawn" verb=cancel why="" by="bob, uid 0"
`)
}

// A daemon that does not look at the file would never notice.
func TestRequestThatNobodyWatches(t *testing.T) {
	w := newWorld(t)
	needsRoot(t)
	v := w.Verbs
	v.Sentinel = filepath.Join(t.TempDir(), "unwatched")
	path := socketPath(t)
	serveAll(t, path, Daemon{Status: &Feed{}, Verbs: v})
	_, err := Client{path}.Do(t.Context(), Request, Order{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != http.StatusConflict ||
		refused.What != v.Sentinel+" is not among the paths of the key sentinel.paths in kured.toml: add it" {
		t.Errorf("refused with %v", err)
	}
	if _, err := os.Stat(v.Sentinel); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the file was made")
	}
	v.Sentinel = filepath.Join(filepath.Dir(v.Sentinel), "no", "directory")
	v.Watched = func() []string { return []string{v.Sentinel} }
	if _, err := v.Do(t.Context(), Request, Order{}); err == nil || !strings.HasPrefix(err.Error(), "request: write sentinel: ") {
		t.Errorf("a directory that is none: %v", err)
	}
}

// What pause writes is what the gate reads.
func TestPauseAndResume(t *testing.T) {
	w := newWorld(t)
	says := func() string {
		t.Helper()
		v := gate.Pause{Path: w.Pause, Now: w.Now}.Check(t.Context(), gate.Before)
		return fmt.Sprint(v.Open, " ", v.Reason, " ", strings.TrimPrefix(v.Detail, w.Pause+": "))
	}
	w.check(w.told(Resume, Order{}), "false: this node was not paused here")
	w.check(w.told(Pause, Order{Reason: "disk repair"}), "true: this node is paused, until somebody resumes it")
	w.check(says(), "false paused paused (disk repair; by uid 0, 2026-11-22T12:00:00Z)")
	until := noon.Add(90*time.Minute + time.Millisecond).In(time.FixedZone("", 3600))
	w.check(w.told(Pause, Order{Reason: "disk repair", By: "alice", Until: &until}), "true: this node is paused until 2026-11-22T13:30:00Z")
	w.check(says(), "false paused paused until 2026-11-22T13:30:00Z (disk repair; by alice, uid 0, 2026-11-22T12:00:00Z)")
	longest := Order{Reason: strings.Repeat("x", MaxReason), By: strings.Repeat("y", MaxBy), Until: &until}
	w.told(Pause, longest)
	if s := says(); !strings.HasSuffix(s, "xxx; by yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy, uid 0, 2026-11-22T12:00:00Z)") {
		t.Errorf("the longest: %s", s)
	}
	info, err := os.Stat(w.Pause)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	w.check(w.told(Resume, Order{}), "true: this node is not paused any more")
	w.check(says(), "true  ")
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(w.Pause), ".*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.MkdirAll(filepath.Join(w.Pause, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []Verb{Pause, Resume} {
		_, err := w.Verbs.Do(t.Context(), verb, map[Verb]Order{Pause: {Reason: "x"}}[verb])
		var refused *Refusal
		if err == nil || errors.As(err, &refused) {
			t.Errorf("%s with a directory in the way: %v", verb, err)
		}
	}
}

func TestOrdersThatAreWrong(t *testing.T) {
	now, later := noon, noon.Add(time.Hour)
	for _, c := range []struct {
		verb Verb
		o    Order
		want string
	}{
		{Pause, Order{}, "the reason is empty: say why, for those who ask later"},
		{Pause, Order{Reason: "until=never"}, "the reason begins with until=, which is how the end of a pause is written down"},
		{Pause, Order{Reason: "x", Until: &now}, "a pause until 2026-11-22T12:00:00Z is over already"},
		{Pause, Order{Reason: strings.Repeat("é", 61)}, "the reason has 122 bytes, at most 120 are kept"},
		{Pause, Order{Reason: "two\nlines"}, "the reason is not one line of printable text"},
		{Request, Order{Reason: "\x1b[2J"}, "the reason is not one line of printable text"},
		{Request, Order{Reason: "\xff"}, "the reason is not one line of printable text"},
		{Request, Order{Reason: " x"}, "the reason has space around it"},
		{Request, Order{By: "a\tb"}, "who says it is not one line of at most 32 characters of printable text"},
		{Request, Order{Until: &later}, "request takes no time"},
		{Cancel, Order{Reason: "x"}, "cancel takes no reason"},
		{Resume, Order{Reason: "x"}, "resume takes no reason"},
		{"reboot", Order{}, `"reboot" is no verb`},
	} {
		_, err := Verbs{Now: func() time.Time { return noon }, Watched: func() []string { return nil }}.Do(t.Context(), c.verb, c.o)
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Conflict || err.Error() != c.want {
			t.Errorf("%s %+v: %v, want %s", c.verb, c.o, err, c.want)
		}
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t)
	needsRoot(t)
	for body, want := range map[string]string{
		"":               `200 OK {"changed":false,"text":["this node was not paused here"]}`,
		"{}":             `200 OK {"changed":false,"text":["this node was not paused here"]}`,
		"{":              `400 Bad Request {"error":"order: unexpected EOF"}`,
		"[]":             `400 Bad Request {"error":"order: json: cannot unmarshal array into Go value of type control.Order"}`,
		`{"now":true}`:   `400 Bad Request {"error":"order: json: unknown field \"now\""}`,
		`{}{}`:           `400 Bad Request {"error":"order: there is something behind it"}`,
		`{"reason":"x"}`: `400 Bad Request {"error":"resume takes no reason"}`,
		`{"reason":"` + strings.Repeat("x", maxOrder) + `"}`: `413 Request Entity Too Large {"error":"order: more than 4096 bytes"}`,
	} {
		if got := post(t, w.Client.Path, 0, "resume", body); got != want {
			t.Errorf("%.40q:\ngot  %s\nwant %s", body, got, want)
		}
	}
}

// Only root changes something; others of the group may look.
func TestOnlyRootChanges(t *testing.T) {
	w := newWorld(t)
	needsRoot(t)
	for dir := filepath.Dir(w.Client.Path); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(w.Client.Path, 0, 65534); err != nil { // as if nobody were in the group kured
		t.Fatal(err)
	}
	for _, verb := range verbs() {
		want := fmt.Sprintf(`403 Forbidden {"error":"only root may %s, and you are uid 65534"}`, verb)
		if got := post(t, w.Client.Path, 65534, string(verb), `{"reason":"x"}`); got != want {
			t.Errorf("%s: %s", verb, got)
		}
	}
	for _, path := range []string{w.Pause, w.Sentinel} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was made", path)
		}
	}
	conn, err := dialAs(w.Client.Path, 65534)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := roundTrip(t, conn, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "200 OK ") {
		t.Errorf("a look: %s", got)
	}
	err = &RefusedError{Code: http.StatusForbidden, What: "only root may pause, and you are uid 65534"}
	w.check(err.Error(), "only root may pause, and you are uid 65534 (try sudo)")
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may tell a daemon something")
	}
}

// post sends a body as a user and returns the answer.
func post(t *testing.T, path string, uid int, verb, body string) string {
	t.Helper()
	conn, err := dialAs(path, uid)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return roundTrip(t, conn, fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", verb, len(body), body))
}

func roundTrip(t *testing.T, conn io.ReadWriter, request string) string {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + " " + strings.TrimSpace(string(text))
}

func FuzzOrder(f *testing.F) {
	f.Add(`{"reason":"disk repair","until":"2026-12-01T08:00:00Z","by":"alice"}`)
	f.Add(`{"reason":"until=x"}`)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequest(http.MethodPost, "/v1/pause", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var o Order
		if code, err := readOrder(nil, r, &o); err != nil {
			if code < 400 || code > 499 {
				t.Errorf("code %d for %v", code, err)
			}
			return
		}
		if o.Check(Pause, noon) != nil {
			return
		}
		// Whatever is accepted is a pause with this reason and end to the gate.
		path := filepath.Join(t.TempDir(), "pause")
		v := Verbs{Pause: path, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)}
		if _, err := v.Do(t.Context(), Pause, o); err != nil {
			t.Fatal(err)
		}
		verdict := gate.Pause{Path: path, Now: v.Now}.Check(t.Context(), gate.Before)
		if verdict.Open || verdict.Reason != status.Paused || (o.Until == nil) != verdict.Next.IsZero() {
			t.Errorf("%+v is read as %+v", o, verdict)
		}
	})
}
