package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/kured-host/kured/internal/status"
)

// journald receives entries in its place, never the machine's own.
type journald struct {
	t       *testing.T
	entries []map[string]string
	fails   error
}

// accepted is what journald takes as the name of a field (systemd.journal-fields(7)).
var accepted = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

func (j *journald) send(message string, priority journal.Priority, vars map[string]string) error {
	if j.fails != nil {
		return j.fails
	}
	for name := range vars {
		if !accepted.MatchString(name) || name == "MESSAGE" || name == "PRIORITY" {
			j.t.Errorf("field %q", name)
		}
	}
	entry := maps.Clone(vars)
	entry["MESSAGE"], entry["PRIORITY"] = message, strconv.Itoa(int(priority))
	j.entries = append(j.entries, entry)
	return nil
}

// entry is the next entry.
func (j *journald) entry(t *testing.T) map[string]string {
	t.Helper()
	if len(j.entries) == 0 {
		t.Fatal("no entry")
	}
	first := j.entries[0]
	j.entries = j.entries[1:]
	return first
}

// options are for a process whose standard error systemd connects to this journald.
func (j *journald) options(w io.Writer, format string) LogOptions {
	return LogOptions{Writer: w, Level: "info", Format: format, Journal: Journal{
		Enabled:  func() bool { return j.fails == nil },
		IsStderr: journal.StderrIsJournalStream,
		Send:     j.send,
	}}
}

func (j *journald) logger(t *testing.T, level string) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var rest bytes.Buffer
	o := j.options(&rest, "journal")
	o.Level = level
	log, err := NewLogger(o)
	if err != nil {
		t.Fatal(err)
	}
	return log, &rest
}

func TestEntries(t *testing.T) {
	j := &journald{t: t}
	log, rest := j.logger(t, "debug")
	since := time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)
	for name, c := range map[string]struct {
		log  func()
		want map[string]string
	}{
		"plain": {func() { log.Info("started") }, map[string]string{"MESSAGE": "started", "PRIORITY": "6"}},
		"facts": {
			func() {
				log.With("node", "node-a", "cycle", 7).Warn("pod holds up the drain", "phase", "draining", "pod", "default/web-1",
					"budget", "web pdb", "waited", 90*time.Second, "since", since, "message_id", "0123456789abcdef0123456789abcdef")
			},
			map[string]string{
				"MESSAGE":  `pod holds up the drain (pod=default/web-1, budget="web pdb", waited=1m30s, since=2026-11-22T01:02:03Z)`,
				"PRIORITY": "4", "KURED_NODE": "node-a", "KURED_CYCLE": "7", "KURED_PHASE": "draining", "KURED_POD": "default/web-1",
				"KURED_BUDGET": "web pdb", "KURED_WAITED": "1m30s", "KURED_SINCE": "2026-11-22T01:02:03Z",
				"MESSAGE_ID": "0123456789abcdef0123456789abcdef",
			},
		},
		"error": {
			func() { log.Error("cannot connect", "err", errors.New("one\ntwo"), "try", 2) },
			map[string]string{"MESSAGE": "cannot connect (try=2): one\ntwo", "PRIORITY": "3", "KURED_ERROR": "one\ntwo", "KURED_TRY": "2"},
		},
		"forged": {
			func() { log.Info("x", "pod", "a\nPRIORITY=0\nMESSAGE=y") },
			map[string]string{"MESSAGE": `x (pod="a\nPRIORITY=0\nMESSAGE=y")`, "PRIORITY": "6", "KURED_POD": "a\nPRIORITY=0\nMESSAGE=y"},
		},
		"keys": {
			func() { log.Debug("x", "höher-1", 1, strings.Repeat("k", 80), 2, "PRIORITY", 3, "empty", "") },
			map[string]string{
				"MESSAGE":  "x (höher-1=1, " + strings.Repeat("k", 80) + "=2, PRIORITY=3, empty=\"\")",
				"PRIORITY": "7", "KURED_H_HER_1": "1", "KURED_" + strings.Repeat("K", 58): "2", "KURED_PRIORITY": "3", "KURED_EMPTY": "",
			},
		},
		"list, replaced and group": {
			func() {
				log.With("pod", "old", "phase", "idle").WithGroup("drain").Info("x", "pod", []string{"a", "b"}, "none", []string{}, slog.Group("at", "zone", "z"))
			},
			map[string]string{
				"MESSAGE": `x (pod="a, b", none="", at.zone=z)`, "PRIORITY": "6",
				"KURED_POD": "old", "KURED_PHASE": "idle", "MESSAGE_ID": MessageID("idle"), "KURED_DRAIN_POD": "a, b", "KURED_DRAIN_AT_ZONE": "z",
			},
		},
		"replaced": {func() { log.With("reason", "old").Info("x", "reason", "new") }, map[string]string{"MESSAGE": "x (reason=new)", "PRIORITY": "6", "KURED_REASON": "new"}},
		"reason before phase": {
			func() { log.Info("x", "phase", status.Blocked, "reason", status.OutsideWindow) },
			map[string]string{
				"MESSAGE": "x (reason=outside-window)", "PRIORITY": "6", "KURED_PHASE": "blocked", "KURED_REASON": "outside-window",
				"MESSAGE_ID": MessageID("outside-window"),
			},
		},
		"phase without a reason": {
			func() { log.Info("x", "phase", status.Draining, "reason", status.Reason("")) },
			map[string]string{"MESSAGE": `x (reason="")`, "PRIORITY": "6", "KURED_PHASE": "draining", "KURED_REASON": "", "MESSAGE_ID": MessageID("draining")},
		},
		"message": {
			func() {
				log.Info("x", "message_id", status.MessageVerified, "phase", status.Returning, "reason", status.NotReady)
			},
			map[string]string{
				"MESSAGE": "x (reason=not-ready)", "PRIORITY": "6", "KURED_PHASE": "returning", "KURED_REASON": "not-ready",
				"MESSAGE_ID": MessageID("verified"),
			},
		},
		"words of others": {
			func() { log.Info("x", "phase", "dancing", "reason", "tired") },
			map[string]string{"MESSAGE": "x (reason=tired)", "PRIORITY": "6", "KURED_PHASE": "dancing", "KURED_REASON": "tired"},
		},
		"notice":   {func() { log.Log(context.Background(), slog.LevelInfo+2, "x") }, map[string]string{"MESSAGE": "x", "PRIORITY": "5"}},
		"critical": {func() { log.Log(context.Background(), slog.LevelError+4, "x") }, map[string]string{"MESSAGE": "x", "PRIORITY": "2"}},
	} {
		c.log()
		if rest.Len() > 0 {
			t.Fatalf("%s: beside the journal: %.300s", name, rest)
		}
		got := j.entry(t)
		c.want["SYSLOG_IDENTIFIER"] = "kured"
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %.2000q\nwant %.2000q", name, got, c.want)
		}
	}
}

// journald reads the unit of a line from the /proc of the process that wrote it, which for the last lines of a
// oneshot is gone. The name in the entry itself lets journalctl -u find them.
func TestUnit(t *testing.T) {
	j := &journald{t: t}
	o := j.options(io.Discard, "journal")
	o.Unit = "x.service"
	log, err := NewLogger(o)
	if err != nil {
		t.Fatal(err)
	}
	log.With("node", "n").Info("last words")
	want := map[string]string{
		"MESSAGE": "last words", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "kured",
		"KURED_NODE": "n", "OBJECT_SYSTEMD_UNIT": "x.service",
	}
	if got := j.entry(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The rules of slog for groups, attributes and values hold. The journal keeps
// the time itself, so the test adds it.
func TestSlogRules(t *testing.T) {
	j := &journald{t: t}
	var timed bool
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		log, _ := j.logger(t, "info")
		return clocked{log.Handler(), &timed}
	}, func(t *testing.T) map[string]any {
		result := map[string]any{}
		for name, value := range j.entry(t) {
			switch name {
			case "MESSAGE":
				result[slog.MessageKey], _, _ = strings.Cut(value, " (")
				continue
			case "PRIORITY":
				result[slog.LevelKey] = value
				continue
			case "SYSLOG_IDENTIFIER":
				continue
			}
			// KURED_G_A is {"G": {"a": …}} in the suite's own spelling.
			at := result
			path := strings.Split(strings.TrimPrefix(name, "KURED_"), "_")
			for _, group := range path[:len(path)-1] {
				if at[group] == nil {
					at[group] = map[string]any{}
				}
				at = at[group].(map[string]any)
			}
			at[strings.ToLower(path[len(path)-1])] = value
		}
		if timed {
			result[slog.TimeKey] = true
		}
		return result
	})
}

// clocked remembers whether the last record had a time.
type clocked struct {
	slog.Handler
	timed *bool
}

func (c clocked) Handle(ctx context.Context, r slog.Record) error {
	*c.timed = !r.Time.IsZero()
	return c.Handler.Handle(ctx, r)
}
func (c clocked) WithAttrs(a []slog.Attr) slog.Handler {
	return clocked{c.Handler.WithAttrs(a), c.timed}
}
func (c clocked) WithGroup(name string) slog.Handler {
	return clocked{c.Handler.WithGroup(name), c.timed}
}

func TestJournaldGoesAndComes(t *testing.T) {
	j := &journald{t: t}
	log, rest := j.logger(t, "info")
	log.Info("first")
	j.entry(t)
	j.fails = syscall.ECONNREFUSED
	log.With("node", "a").Info("nobody listens", "k", "v")
	if got := rest.String(); !strings.HasSuffix(got, " level=INFO msg=\"nobody listens\" node=a k=v\n") {
		t.Errorf("what the journal did not take: %q", got)
	}
	j.fails = nil
	log.Info("back")
	if got := j.entry(t)["MESSAGE"]; got != "back" {
		t.Errorf("got %q", got)
	}
}

// A journald that hangs must not make us hang, nor leave us with more than one
// entry under way. When it goes on, so do the entries.
func TestJournaldHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journald{t: t}
		var rest bytes.Buffer
		o := j.options(&rest, "journal")
		goOn := make(chan struct{})
		var calls atomic.Int32
		o.Journal.Send = func(message string, p journal.Priority, vars map[string]string) error {
			calls.Add(1)
			<-goOn
			return j.send(message, p, vars)
		}
		log, err := NewLogger(o)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i := range 3 {
			log.Info("hung", "try", i)
		}
		if took := time.Since(began); took != 3*sendLimit || calls.Load() != 1 || strings.Count(rest.String(), "msg=hung") != 3 {
			t.Errorf("three lines took %v, %d are under way, written %q", took, calls.Load(), &rest)
		}
		close(goOn)
		synctest.Wait()
		rest.Reset()
		log.Info("fine")
		if late, next := j.entry(t)["MESSAGE"], j.entry(t)["MESSAGE"]; late != "hung (try=0)" || next != "fine" || rest.Len() > 0 {
			t.Errorf("then %q and %q, written %q", late, next, &rest)
		}
	})
}

func TestFormats(t *testing.T) {
	j := &journald{t: t}
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	info, err := os.Stderr.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	stream := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)

	for name, c := range map[string]struct {
		format, stream string
		fails          error
		want           string // of the line written; "journal" for an entry
	}{
		"text":                           {"text", stream, nil, "level=INFO msg=hello k=v"},
		"json":                           {"json", "", nil, `"level":"INFO","msg":"hello","k":"v"}`},
		"journal":                        {"journal", "", nil, "journal"},
		"auto on a terminal":             {"auto", "", nil, "level=INFO msg=hello k=v"},
		"auto, another file's stream":    {"auto", "1:2", nil, "level=INFO msg=hello k=v"},
		"auto, damaged stream":           {"auto", "x", nil, "level=INFO msg=hello k=v"},
		"auto under systemd":             {"auto", stream, nil, "journal"},
		"auto under systemd, no journal": {"auto", stream, syscall.ENOENT, "level=INFO msg=hello k=v"},
	} {
		if err := out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		t.Setenv("JOURNAL_STREAM", c.stream)
		j.fails = c.fails
		log, err := NewLogger(j.options(out, c.format))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		log.Debug("hidden")
		log.Info("hello", "k", "v")
		written, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "journal" {
			if got := j.entry(t)["MESSAGE"]; got != "hello (k=v)" || len(written) > 0 {
				t.Errorf("%s: journal %q, written %q", name, got, written)
			}
		} else if strings.Count(string(written), "\n") != 1 || !strings.Contains(string(written), c.want) {
			t.Errorf("%s: written %q, want %q", name, written, c.want)
		}
	}
	j.fails = syscall.ENOENT
	level := j.options(out, "text")
	level.Level = "INFO+1"
	for name, o := range map[string]LogOptions{"no journal": j.options(out, "journal"), "level": level, "format": j.options(out, "syslog")} {
		if log, err := NewLogger(o); err == nil || log != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
