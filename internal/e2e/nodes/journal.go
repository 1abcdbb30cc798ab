package nodes

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Entry is one message of a node's journal.
type Entry struct {
	Time    time.Time
	Boot    string // boot id, 32 hex digits
	Unit    string // that wrote it, or that pid 1 wrote about
	Message string
	Fields  map[string]string // all text fields (systemd.journal-fields(7))
}

// Journal reads, from the node's disk, the messages of the given units (all if there are none) in one boot,
// or in all boots if boot is empty. The node may be off. What was written just before a power cut may be
// missing, as on a real machine.
func (n *Node) Journal(ctx context.Context, boot string, units ...string) ([]Entry, error) {
	args := []string{"-D", filepath.Join(n.root(), "var/log/journal"), "-o", "json", "--all", "--no-pager", "--quiet"}
	for _, unit := range units {
		args = append(args, "-u", unit)
	}
	if boot != "" {
		args = append(args, "_BOOT_ID="+boot)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: journalctl: %w: %s", n.Name, err, strings.TrimSpace(stderr.String()))
	}
	var entries []Entry
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		e, err := decodeEntry(scanner.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s: journal: %w", n.Name, err)
		}
		entries = append(entries, e)
	}
	return entries, scanner.Err()
}

// decodeEntry reads the JSON form of journalctl(1): a value is a string, a list of bytes if it is not text,
// or a list of values if the field occurs more than once, of which the last is kept.
func decodeEntry(line []byte) (Entry, error) {
	var raw map[string]any
	if err := json.Unmarshal(line, &raw); err != nil {
		return Entry{}, err
	}
	e := Entry{Fields: make(map[string]string, len(raw))}
	for name, value := range raw {
		if text, ok := fieldText(value); ok {
			e.Fields[name] = text
		}
	}
	micros, err := strconv.ParseInt(e.Fields["__REALTIME_TIMESTAMP"], 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("timestamp: %w", err)
	}
	e.Time = time.UnixMicro(micros)
	e.Boot, e.Message = e.Fields["_BOOT_ID"], e.Fields["MESSAGE"]
	e.Unit = e.Fields["_SYSTEMD_UNIT"]
	for _, about := range []string{"OBJECT_SYSTEMD_UNIT", "UNIT"} {
		if unit := e.Fields[about]; unit != "" {
			e.Unit = unit
		}
	}
	return e, nil
}

func fieldText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case []any:
		var text []byte
		for i, item := range v {
			switch item := item.(type) {
			case float64:
				text = append(text, byte(item))
			default:
				if i == len(v)-1 {
					return fieldText(item)
				}
			}
		}
		return string(text), true
	default:
		return "", false
	}
}

func (n *Node) consolePath() string { return filepath.Join(n.dir, "console.log") }

// Console returns what all boots wrote to the console.
func (n *Node) Console() string {
	text, _ := os.ReadFile(n.consolePath())
	return string(text)
}

// TB is what a dump needs of a testing.TB.
type TB interface {
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
}

// dumpTail is how many journal lines of each node a failed test shows.
const dumpTail = 60

// DumpOnFailure makes a test that fails from here on show, per node, its boots and the end of the journal of
// the given units, and write console and whole journals to files outside of the namespaces.
func (r *Room) DumpOnFailure(t TB, name string, units ...string) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		dir := filepath.Join(os.Getenv(EnvLogs), strings.NewReplacer("/", "-", " ", "_").Replace(name))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Logf("cannot keep logs: %v", err)
		}
		for _, n := range r.Nodes() {
			n.dump(ctx, t, dir, units)
		}
		t.Logf("consoles and journals are in %s", dir)
	})
}

func (n *Node) dump(ctx context.Context, t TB, dir string, units []string) {
	var out strings.Builder
	fmt.Fprintf(&out, "node %s (%s)\n", n.Name, n.Image)
	for i, b := range n.Boots() {
		fmt.Fprintf(&out, "  boot %d %s from %s", i+1, b.ID, b.Start.Format("15:04:05.000"))
		if b.Ending != "" {
			fmt.Fprintf(&out, " to %s: %s", b.End.Format("15:04:05.000"), b.Ending)
		}
		out.WriteByte('\n')
	}
	entries, err := n.Journal(ctx, "", units...)
	if err != nil {
		fmt.Fprintf(&out, "  %v\n", err)
	}
	if skip := len(entries) - dumpTail; skip > 0 {
		fmt.Fprintf(&out, "  (%d earlier messages)\n", skip)
		entries = entries[skip:]
	}
	for _, e := range entries {
		fmt.Fprintf(&out, "  %s %.4s %s\n", e.Time.Format("15:04:05.000"), e.Boot, e)
	}
	t.Logf("%s", out.String())

	for file, text := range map[string]string{"console": n.Console(), "journal": n.wholeJournal(ctx)} {
		path := filepath.Join(dir, n.Name+"-"+file+".log")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Logf("cannot keep %s: %v", path, err)
		}
	}
}

func (n *Node) wholeJournal(ctx context.Context) string {
	entries, err := n.Journal(ctx, "")
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&out, "%s %s %s\n", e.Time.Format("15:04:05.000000"), e.Boot, e)
	}
	return out.String()
}

// String shows the message with its origin and, if any, kured's own fields.
func (e Entry) String() string {
	origin := e.Fields["SYSLOG_IDENTIFIER"]
	if origin == "" {
		origin = e.Unit
	}
	text := origin + ": " + e.Message
	for _, name := range []string{"KURED_PHASE", "KURED_REASON"} {
		if v := e.Fields[name]; v != "" {
			text += " " + name + "=" + v
		}
	}
	return text
}
