package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/status"
)

// saying is what a daemon of a script says: the file of its command.
type saying struct {
	Status status.Status      `json:"status"`
	Gates  []status.GateState `json:"gates"`
	// Paths are its sentinels, in the script's directory.
	Paths []string `json:"paths"`
}

// scriptDaemon is a real control server with what a script lets it say.
type scriptDaemon struct {
	feed      control.Feed
	said      atomic.Pointer[saying] // last
	stop      func()
	followers map[string]*follower
}

// follower is a command that goes on.
type follower struct {
	out    transcript
	cancel func()
	ended  chan int
}

// transcript is what a command has written so far.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

type scriptDaemonKey struct{}

func scriptDaemonOf(ts *testscript.TestScript) *scriptDaemon {
	return ts.Value(scriptDaemonKey{}).(*scriptDaemon)
}

// daemonCommand is the command of scripts
//
//	daemon FILE   serves $WORK/kured.sock and says what is in the file; the next one changes what it says
//	daemon -stop
//
// Its files are request and pause in $WORK.
func daemonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon FILE or daemon -stop")
	}
	d := scriptDaemonOf(ts)
	if args[0] == "-stop" {
		d.stop()
		d.stop = nil
		return
	}
	var s saying
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &s); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	d.said.Store(&s)
	d.feed.Publish(s.Status)
	if d.stop != nil {
		return
	}
	in := func(name string) string { return filepath.Join(ts.Getenv("WORK"), name) }
	var paths []string
	for _, name := range s.Paths {
		paths = append(paths, in(name))
	}
	server, err := control.New(context.Background(), in("kured.sock"), control.Daemon{
		Status: &d.feed,
		Gates:  func(context.Context) ([]status.GateState, error) { return d.said.Load().Gates, nil },
		Verbs: control.Verbs{
			Sentinel: in("request"), Watched: func() []string { return paths }, Pause: in("pause"),
			Now: func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }, Log: slog.New(slog.DiscardHandler),
		},
	})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	d.stop = sync.OnceFunc(func() { // by the script, and at its end
		cancel()
		ts.Check(<-ended)
	})
	ts.Defer(func() {
		if d.stop != nil {
			d.stop()
		}
	})
}

// followCommand is: follow NAME kured ARGUMENT... It begins a kured that goes on.
func followCommand(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, ended: make(chan int, 1)}
	root := newRoot()
	root.SetArgs(args[2:])
	root.SetOut(&f.out)
	go func() { f.ended <- codeOf(root.ExecuteContext(ctx)) }()
	scriptDaemonOf(ts).followers[args[0]] = f
	ts.Defer(cancel)
}

// seesCommand is: sees NAME REGEXP. It waits until that is in what NAME has written.
func seesCommand(ts *testscript.TestScript, _ bool, args []string) {
	f, want := scriptDaemonOf(ts).followers[args[0]], regexp.MustCompile("(?m)"+args[1])
	for deadline := time.Now().Add(30 * time.Second); !want.MatchString(f.out.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s never saw %s, but:\n%s", args[0], args[1], f.out.String())
		}
	}
}

// interruptCommand is: interrupt NAME CODE. NAME has to end with that exit code.
func interruptCommand(ts *testscript.TestScript, _ bool, args []string) {
	f := scriptDaemonOf(ts).followers[args[0]]
	f.cancel()
	if code := strconv.Itoa(<-f.ended); code != args[1] {
		ts.Fatalf("%s: exit code %s, want %s", args[0], code, args[1])
	}
	if text := f.out.String(); strings.Contains(text, "\x1b") {
		ts.Fatalf("%s: a terminal's codes in %q", args[0], text)
	}
}

// codeOf is the exit code of an error of a command, as execute has it.
func codeOf(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.code
	}
	return 1
}
