package telemetry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/slogtest"
	"time"

	"golang.org/x/sys/unix"
)

// journald receives datagrams in its place, never the machine's own.
type journald struct {
	path string
	conn *net.UnixConn
}

func newJournald(t *testing.T) *journald {
	t.Helper()
	j := &journald{path: filepath.Join(t.TempDir(), "socket")}
	j.listen(t)
	t.Cleanup(func() { j.conn.Close() })
	return j
}

func (j *journald) listen(t *testing.T) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	j.conn = conn
}

// entry is the next entry, decoded by the words of the protocol's document.
func (j *journald) entry(t *testing.T) map[string][]string {
	t.Helper()
	if err := j.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf, oob := make([]byte, 1<<18), make([]byte, 256)
	n, oobn, _, _, err := j.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	data := buf[:n]
	if n == 0 {
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			t.Fatalf("no data and %d messages: %v", len(messages), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), "entry")
		defer f.Close()
		seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
		if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL; err != nil || seals != want {
			t.Errorf("seals %x, %v", seals, err)
		}
		if data, err = io.ReadAll(io.NewSectionReader(f, 0, 1<<30)); err != nil {
			t.Fatal(err)
		}
	}
	fields := map[string][]string{}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		name, value, inline := strings.Cut(string(data[:end]), "=")
		data = data[end+1:]
		if !inline {
			size := int(binary.LittleEndian.Uint64(data))
			value, data = string(data[8:8+size]), data[8+size+1:]
		}
		fields[name] = append(fields[name], value)
	}
	return fields
}

func (j *journald) logger(t *testing.T, level string) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var rest bytes.Buffer
	log, err := NewLogger(LogOptions{Writer: &rest, Level: level, Format: "journal", JournalSocket: j.path})
	if err != nil {
		t.Fatal(err)
	}
	return log, &rest
}

func TestEntries(t *testing.T) {
	j := newJournald(t)
	log, rest := j.logger(t, "debug")
	since := time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)
	for name, c := range map[string]struct {
		log  func()
		want map[string][]string
	}{
		"plain": {func() { log.Info("started") }, map[string][]string{"MESSAGE": {"started"}, "PRIORITY": {"6"}}},
		"facts": {
			func() {
				log.With("node", "node-a", "cycle", 7).Warn("pod holds up the drain", "phase", "draining", "pod", "default/web-1",
					"budget", "web pdb", "waited", 90*time.Second, "since", since, "message_id", "0123456789abcdef0123456789abcdef")
			},
			map[string][]string{
				"MESSAGE":  {`pod holds up the drain (pod=default/web-1, budget="web pdb", waited=1m30s, since=2026-11-22T01:02:03Z)`},
				"PRIORITY": {"4"}, "KURED_NODE": {"node-a"}, "KURED_CYCLE": {"7"}, "KURED_PHASE": {"draining"}, "KURED_POD": {"default/web-1"},
				"KURED_BUDGET": {"web pdb"}, "KURED_WAITED": {"1m30s"}, "KURED_SINCE": {"2026-11-22T01:02:03Z"},
				"MESSAGE_ID": {"0123456789abcdef0123456789abcdef"},
			},
		},
		"error": {
			func() { log.Error("cannot connect", "err", errors.New("one\ntwo"), "try", 2) },
			map[string][]string{"MESSAGE": {"cannot connect (try=2): one\ntwo"}, "PRIORITY": {"3"}, "KURED_ERROR": {"one\ntwo"}, "KURED_TRY": {"2"}},
		},
		"forged": {
			func() { log.Info("x", "pod", "a\nPRIORITY=0\nMESSAGE=y") },
			map[string][]string{"MESSAGE": {`x (pod="a\nPRIORITY=0\nMESSAGE=y")`}, "PRIORITY": {"6"}, "KURED_POD": {"a\nPRIORITY=0\nMESSAGE=y"}},
		},
		"keys": {
			func() { log.Debug("x", "höher-1", 1, strings.Repeat("k", 80), 2, "PRIORITY", 3, "empty", "") },
			map[string][]string{
				"MESSAGE":  {"x (höher-1=1, " + strings.Repeat("k", 80) + "=2, PRIORITY=3, empty=\"\")"},
				"PRIORITY": {"7"}, "KURED_H_HER_1": {"1"}, "KURED_" + strings.Repeat("K", 58): {"2"}, "KURED_PRIORITY": {"3"}, "KURED_EMPTY": {""},
			},
		},
		"list, replaced and group": {
			func() {
				log.With("pod", "old", "phase", "idle").WithGroup("drain").Info("x", "pod", []string{"a", "b"}, "none", []string{}, slog.Group("at", "zone", "z"))
			},
			map[string][]string{
				"MESSAGE": {`x (pod="a, b", none="", at.zone=z)`}, "PRIORITY": {"6"},
				"KURED_POD": {"old"}, "KURED_PHASE": {"idle"}, "KURED_DRAIN_POD": {"a", "b"}, "KURED_DRAIN_AT_ZONE": {"z"},
			},
		},
		"replaced":    {func() { log.With("reason", "old").Info("x", "reason", "new") }, map[string][]string{"MESSAGE": {"x (reason=new)"}, "PRIORITY": {"6"}, "KURED_REASON": {"new"}}},
		"notice":      {func() { log.Log(context.Background(), slog.LevelInfo+2, "x") }, map[string][]string{"MESSAGE": {"x"}, "PRIORITY": {"5"}}},
		"critical":    {func() { log.Log(context.Background(), slog.LevelError+4, "x") }, map[string][]string{"MESSAGE": {"x"}, "PRIORITY": {"2"}}},
		"large entry": {func() { log.Info("x", "phase", strings.Repeat("long ", 1<<18)) }, map[string][]string{"MESSAGE": {"x"}, "PRIORITY": {"6"}, "KURED_PHASE": {strings.Repeat("long ", 1<<18)}}},
	} {
		c.log()
		if rest.Len() > 0 {
			t.Fatalf("%s: beside the journal: %.300s", name, rest)
		}
		got := j.entry(t)
		c.want["SYSLOG_IDENTIFIER"] = []string{"kured"}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %.2000q\nwant %.2000q", name, got, c.want)
		}
	}
}

// The rules of slog for groups, attributes and values hold. The journal keeps
// the time itself, so the test adds it.
// journald reads the unit of a line from the /proc of the process that wrote it, which for the last lines of a
// oneshot is gone. The name in the entry itself lets journalctl -u find them.
func TestUnit(t *testing.T) {
	j := newJournald(t)
	log, err := NewLogger(LogOptions{Writer: io.Discard, Level: "info", Format: "journal", JournalSocket: j.path, Unit: "x.service"})
	if err != nil {
		t.Fatal(err)
	}
	log.With("node", "n").Info("last words")
	want := map[string][]string{
		"MESSAGE": {"last words"}, "PRIORITY": {"6"}, "SYSLOG_IDENTIFIER": {"kured"},
		"KURED_NODE": {"n"}, "OBJECT_SYSTEMD_UNIT": {"x.service"},
	}
	if got := j.entry(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSlogRules(t *testing.T) {
	j := newJournald(t)
	var timed bool
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		log, _ := j.logger(t, "info")
		return clocked{log.Handler(), &timed}
	}, func(t *testing.T) map[string]any {
		result := map[string]any{}
		for name, values := range j.entry(t) {
			switch name {
			case "MESSAGE":
				result[slog.MessageKey], _, _ = strings.Cut(values[0], " (")
				continue
			case "PRIORITY":
				result[slog.LevelKey] = values[0]
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
			at[strings.ToLower(path[len(path)-1])] = values[0]
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
	j := newJournald(t)
	log, rest := j.logger(t, "info")
	log.Info("first")
	j.entry(t)
	j.conn.Close()
	log.With("node", "a").Info("nobody listens", "k", "v")
	if got := rest.String(); !strings.HasSuffix(got, " level=INFO msg=\"nobody listens\" node=a k=v\n") {
		t.Errorf("what the journal did not take: %q", got)
	}
	if err := os.Remove(j.path); err != nil {
		t.Fatal(err)
	}
	j.listen(t)
	log.Info("back")
	if got := j.entry(t)["MESSAGE"]; got[0] != "back" {
		t.Errorf("got %q", got)
	}
}

// A journald that hangs must not make us hang.
func TestJournaldHangs(t *testing.T) {
	j := newJournald(t)
	log, rest := j.logger(t, "info")
	for range 2000 {
		log.Info("x")
		if rest.Len() > 0 {
			return
		}
	}
	t.Error("the receiver's queue never filled")
}

func TestFormats(t *testing.T) {
	j := newJournald(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	info, err := out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	stream := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	missing := filepath.Join(t.TempDir(), "missing")

	for name, c := range map[string]struct {
		o    LogOptions
		want string // of the line written; "journal" for an entry
	}{
		"text":                          {LogOptions{Format: "text", JournalStream: stream, JournalSocket: j.path}, "level=INFO msg=hello k=v"},
		"json":                          {LogOptions{Format: "json"}, `"level":"INFO","msg":"hello","k":"v"}`},
		"auto on a terminal":            {LogOptions{Format: "auto", JournalSocket: j.path}, "level=INFO msg=hello k=v"},
		"auto, another file's stream":   {LogOptions{Format: "auto", JournalStream: "1:2", JournalSocket: j.path}, "level=INFO msg=hello k=v"},
		"auto, damaged stream":          {LogOptions{Format: "auto", JournalStream: "x", JournalSocket: j.path}, "level=INFO msg=hello k=v"},
		"auto under systemd":            {LogOptions{Format: "auto", JournalStream: stream, JournalSocket: j.path}, "journal"},
		"auto under systemd, no socket": {LogOptions{Format: "auto", JournalStream: stream, JournalSocket: missing}, "level=INFO msg=hello k=v"},
	} {
		if err := out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		c.o.Writer, c.o.Level = out, "info"
		log, err := NewLogger(c.o)
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
			if got := j.entry(t)["MESSAGE"]; got[0] != "hello (k=v)" || len(written) > 0 {
				t.Errorf("%s: journal %q, written %q", name, got, written)
			}
		} else if strings.Count(string(written), "\n") != 1 || !strings.Contains(string(written), c.want) {
			t.Errorf("%s: written %q, want %q", name, written, c.want)
		}
	}
	for name, o := range map[string]LogOptions{
		"journal without socket": {Level: "info", Format: "journal", JournalSocket: missing},
		"level":                  {Level: "INFO+1", Format: "text"},
		"format":                 {Level: "info", Format: "syslog"},
	} {
		if log, err := NewLogger(o); err == nil || log != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
