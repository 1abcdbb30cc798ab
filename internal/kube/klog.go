package kube

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// RouteKlog sends what client-go logs to logger, at debug level whatever its
// own level: the errors that matter come back from our calls. Call it once,
// before Connect; klog has one logger for the process.
func RouteKlog(logger *slog.Logger) {
	klog.SetSlogLogger(slog.New(demoted{logger.Handler()}))
}

// demoted gives every record the debug level.
type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	if !d.Enabled(ctx, r.Level) {
		return nil // logr does not ask before it hands over an error
	}
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}
func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
