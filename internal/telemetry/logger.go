// Package telemetry is how kured tells what it does: a slog handler for the
// journal with native fields, and the sd_notify protocol.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/coreos/go-systemd/v22/journal"
)

// Journal is how to reach journald: SystemJournal, or another one in tests.
type Journal struct {
	Enabled  func() bool          // journald can be reached
	IsStderr func() (bool, error) // standard error is connected to it
	Send     func(message string, priority journal.Priority, vars map[string]string) error
}

// SystemJournal is the journal of this machine.
func SystemJournal() Journal {
	return Journal{journal.Enabled, journal.StderrIsJournalStream, journal.Send}
}

// LogOptions says what to log and where to.
type LogOptions struct {
	Writer  io.Writer // for text and JSON, and for what the journal does not take; standard error
	Level   string    // "debug", "info", "warn" or "error"
	Format  string    // "auto", "journal", "text" or "json"
	Journal Journal   // for "auto" and "journal"
	Unit    string    // the systemd unit that this process belongs to, if known
}

// NewLogger makes the logger of the process. "auto" is the journal if
// standard error is connected to it, as systemd does for its services, and text
// otherwise. "journal" fails if journald cannot be reached.
//
// In the journal each attribute is a field: key pod becomes KURED_POD, in group
// drain KURED_DRAIN_POD; the items of a []string are joined with ", ". err becomes
// KURED_ERROR. MESSAGE_ID is that of message_id, a status.Message or 32 hex
// digits, or else that of the word of reason or of phase: see MessageID. MESSAGE
// can be read alone: it has the record's message and error, and in brackets the
// attributes of the call, without those that are the same for many lines: what
// With added, node, cycle and phase.
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
	text := slog.NewTextHandler(o.Writer, options)
	switch o.Format {
	case "text":
		return slog.New(text), nil
	case "json":
		return slog.New(slog.NewJSONHandler(o.Writer, options)), nil
	case "journal":
		if !o.Journal.Enabled() {
			return nil, errors.New("journald cannot be reached")
		}
	case "auto":
		// A damaged $JOURNAL_STREAM names no stream.
		if is, err := o.Journal.IsStderr(); err != nil || !is {
			return slog.New(text), nil
		}
	default:
		return nil, fmt.Errorf("log format %q is not known", o.Format)
	}
	return slog.New(newJournalHandler(o, level, text)), nil
}
