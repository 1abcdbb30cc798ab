package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/kured-host/kured/internal/status"
)

// sendLimit bounds how long a full or hung journald can hold up a line, because
// journal.Send has no limit. The line then goes to the writer too.
const sendLimit = time.Second

var errBusy = errors.New("journald takes no entries")

// journalHandler is a slog.Handler that writes journal entries.
type journalHandler struct {
	send   func(message string, priority journal.Priority, vars map[string]string) error
	turn   chan struct{} // full while an entry is under way: at most one is stuck
	text   slog.Handler  // for entries that journald does not take
	level  slog.Level
	prefix string            // of the open groups: "DRAIN_"
	with   map[string]string // of every entry and of With
}

func newJournalHandler(o LogOptions, level slog.Level, text slog.Handler) *journalHandler {
	with := map[string]string{"SYSLOG_IDENTIFIER": "kured"}
	if o.Unit != "" {
		// journald finds out by itself, but not of a process that has ended by the time that it reads the line.
		// journalctl -u looks at this field too, if root wrote it.
		with["OBJECT_SYSTEMD_UNIT"] = o.Unit
	}
	return &journalHandler{send: o.Journal.Send, turn: make(chan struct{}, 1), text: text, level: level, with: with}
}

// Enabled implements slog.Handler.
func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// WithGroup implements slog.Handler.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += fieldName(name) + "_"
	c.text = h.text.WithGroup(name)
	return &c
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.with = maps.Clone(h.with)
	for _, a := range attrs {
		addField(c.with, h.prefix, a)
	}
	c.text = h.text.WithAttrs(attrs)
	return &c
}

// Handle implements slog.Handler.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := maps.Clone(h.with)
	var s sentence
	r.Attrs(func(a slog.Attr) bool {
		addField(fields, h.prefix, a)
		s.add("", a)
		return true
	})
	identify(fields)
	if h.deliver(s.text(r.Message), priority(r.Level), fields) != nil {
		return h.text.Handle(ctx, r)
	}
	return nil
}

// deliver sends an entry, and waits for sendLimit at most. An entry that was
// given up may still arrive.
func (h *journalHandler) deliver(message string, p journal.Priority, fields map[string]string) error {
	limit := time.NewTimer(sendLimit)
	defer limit.Stop()
	select {
	case h.turn <- struct{}{}:
	case <-limit.C:
		return errBusy
	}
	sent := make(chan error, 1)
	go func() {
		sent <- h.send(message, p, fields)
		<-h.turn
	}()
	select {
	case err := <-sent:
		return err
	case <-limit.C:
		return errBusy
	}
}

// priority is the syslog priority of a level.
func priority(level slog.Level) journal.Priority {
	switch {
	case level < slog.LevelInfo:
		return journal.PriDebug
	case level < slog.LevelInfo+2:
		return journal.PriInfo
	case level < slog.LevelWarn:
		return journal.PriNotice
	case level < slog.LevelError:
		return journal.PriWarning
	case level < slog.LevelError+4:
		return journal.PriErr
	default:
		return journal.PriCrit
	}
}

// addField adds an attribute below a prefix; a later one replaces an earlier one.
func addField(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += fieldName(a.Key) + "_"
		}
		for _, member := range v.Group() {
			addField(fields, prefix, member)
		}
		return
	}
	if list, ok := v.Any().([]string); ok && len(list) == 0 || a.Key == "" && v.Equal(slog.Value{}) {
		return
	}
	name := "KURED_" + prefix + fieldName(a.Key)
	switch {
	case prefix == "" && a.Key == "message_id":
		if word, ok := v.Any().(status.Message); ok {
			v = slog.StringValue(MessageID(string(word)))
		}
		name = "MESSAGE_ID"
	case a.Key == "err":
		name = "KURED_" + prefix + "ERROR"
	}
	if len(name) > 64 {
		name = name[:64] // journald refuses longer ones
	}
	fields[name] = show(v)
}

// fieldName is a key in the letters that journald accepts.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		default:
			return '_'
		}
	}, key)
}

// show is a value as text.
func show(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339)
	case slog.KindAny:
		if list, ok := v.Any().([]string); ok {
			return strings.Join(list, ", ")
		}
		return fmt.Sprint(v.Any())
	default:
		return v.String()
	}
}

// sentence collects what the attributes of a call add to its message.
type sentence struct {
	facts []string
	err   string
}

func (s *sentence) add(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			s.add(prefix, member)
		}
	case a.Key == "":
	case prefix == "" && slices.Contains([]string{"message_id", "node", "cycle", "phase"}, a.Key):
	case prefix == "" && (a.Key == "err" || a.Key == "error") && s.err == "":
		s.err = show(v)
	default:
		text := show(v)
		if text == "" || strings.ContainsAny(text, " ,()=\"\n\r\t") {
			text = strconv.Quote(text)
		}
		s.facts = append(s.facts, prefix+a.Key+"="+text)
	}
}

func (s *sentence) text(message string) string {
	if len(s.facts) > 0 {
		message += " (" + strings.Join(s.facts, ", ") + ")"
	}
	if s.err != "" {
		message += ": " + s.err
	}
	return message
}
