// Package telemetry is how kured tells what it does: a slog handler for the
// journal with native fields, and the sd_notify protocol.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// JournalSocket is where journald listens (systemd-journald.service(8)).
const JournalSocket = "/run/systemd/journal/socket"

// LogOptions says what to log and where to.
type LogOptions struct {
	Writer        io.Writer // for text and JSON, and for what the journal does not take; standard error
	Level         string    // "debug", "info", "warn" or "error"
	Format        string    // "auto", "journal", "text" or "json"
	JournalStream string    // the value of $JOURNAL_STREAM
	JournalSocket string    // JournalSocket; another one in tests
	Unit          string    // the systemd unit that this process belongs to, if known
}

// NewLogger makes the logger of the process. "auto" is the journal if Writer is
// connected to it, as systemd does for its services, and text otherwise.
// "journal" fails if journald cannot be reached.
//
// In the journal each attribute is a field: key pod becomes KURED_POD, in group
// drain KURED_DRAIN_POD; a []string becomes one field for each item. message_id
// becomes MESSAGE_ID, err becomes KURED_ERROR. MESSAGE can be read alone: it has
// the record's message and error, and in brackets the attributes of the call,
// without those that are the same for many lines: what With added, node, cycle
// and phase.
func NewLogger(o LogOptions) (*slog.Logger, error) {
	var level slog.Level
	switch o.Level {
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(o.Level)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("log level %q is not known", o.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch o.Format {
	case "text":
		return slog.New(slog.NewTextHandler(o.Writer, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(o.Writer, options)), nil
	case "journal":
		socket, err := dialJournal(o.JournalSocket)
		if err != nil {
			return nil, err
		}
		return slog.New(newJournalHandler(socket, slog.NewTextHandler(o.Writer, options), level, o.Unit)), nil
	case "auto":
		text := slog.NewTextHandler(o.Writer, options)
		if isStream(o.Writer, o.JournalStream) {
			// Without journald's socket the lines still reach it as text.
			if socket, err := dialJournal(o.JournalSocket); err == nil {
				return slog.New(newJournalHandler(socket, text, level, o.Unit)), nil
			}
		}
		return slog.New(text), nil
	default:
		return nil, fmt.Errorf("log format %q is not known", o.Format)
	}
}

// isStream reports whether w is the very file that $JOURNAL_STREAM names by
// device and inode. The variable alone does not say it: it is inherited by
// children whose output goes elsewhere (systemd.exec(5)).
func isStream(w io.Writer, journalStream string) bool {
	f, ok := w.(*os.File)
	if !ok || journalStream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && fmt.Sprintf("%d:%d", stat.Dev, stat.Ino) == journalStream
}
