package metrics

import (
	"context"
	"log/slog"

	"github.com/kured-host/kured/internal/status"
)

// toolkitLog shows what the exporter toolkit logs only to whoever debugs: it
// tells at each start and at each scrape, and its errors quote configuration.
// What keeps the server from its work is the error of its end.
type toolkitLog struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h toolkitLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h toolkitLog) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, slog.LevelDebug, "exporter toolkit: "+status.Clean(r.Message, maxText), r.PC)
	return h.Handler.Handle(ctx, clean)
}

// WithAttrs implements slog.Handler.
func (h toolkitLog) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h toolkitLog) WithGroup(string) slog.Handler { return h }
