package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one attribute in the form of the journal; several values are as
// many fields of one name.
type field struct {
	name   string
	values []string
}

// journalHandler is a slog.Handler that writes journal entries.
type journalHandler struct {
	socket *journalSocket
	text   slog.Handler // for entries that journald does not take
	level  slog.Level
	prefix string  // of the open groups: "DRAIN_"
	with   []field // of With
}

func newJournalHandler(socket *journalSocket, text slog.Handler, level slog.Level, unit string) *journalHandler {
	h := &journalHandler{socket: socket, text: text, level: level}
	if unit != "" {
		// journald finds out by itself, but not of a process that has ended by the time that it reads the line.
		// journalctl -u looks at this field too, if root wrote it.
		h.with = []field{{"OBJECT_SYSTEMD_UNIT", []string{unit}}}
	}
	return h
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
	c.with = slices.Clip(h.with)
	for _, a := range attrs {
		c.with = appendFields(c.with, h.prefix, a)
	}
	c.text = h.text.WithAttrs(attrs)
	return &c
}

// Handle implements slog.Handler.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := slices.Clip(h.with)
	var s sentence
	r.Attrs(func(a slog.Attr) bool {
		fields = appendFields(fields, h.prefix, a)
		s.add("", a)
		return true
	})
	fields = append(fields,
		field{"MESSAGE", []string{s.text(r.Message)}},
		field{"PRIORITY", []string{strconv.Itoa(priority(r.Level))}},
		field{"SYSLOG_IDENTIFIER", []string{"kured"}})
	if err := h.socket.send(encode(fields)); err != nil {
		return h.text.Handle(ctx, r)
	}
	return nil
}

// priority is the syslog priority of a level.
func priority(level slog.Level) int {
	switch {
	case level < slog.LevelInfo:
		return 7 // debug
	case level < slog.LevelInfo+2:
		return 6 // info
	case level < slog.LevelWarn:
		return 5 // notice
	case level < slog.LevelError:
		return 4 // warning
	case level < slog.LevelError+4:
		return 3 // error
	default:
		return 2 // critical
	}
}

// appendFields adds the fields of an attribute below a prefix.
func appendFields(fields []field, prefix string, a slog.Attr) []field {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += fieldName(a.Key) + "_"
		}
		for _, member := range v.Group() {
			fields = appendFields(fields, prefix, member)
		}
		return fields
	}
	if a.Key == "" && v.Equal(slog.Value{}) {
		return fields
	}
	name := "KURED_" + prefix + fieldName(a.Key)
	switch {
	case prefix == "" && a.Key == "message_id":
		name = "MESSAGE_ID"
	case a.Key == "err":
		name = "KURED_" + prefix + "ERROR"
	}
	if len(name) > 64 {
		name = name[:64] // journald refuses longer ones
	}
	if list, ok := v.Any().([]string); ok {
		if len(list) == 0 {
			return fields
		}
		return append(fields, field{name, list})
	}
	return append(fields, field{name, []string{show(v)}})
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
