package kube

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestKlogIsRoutedAtDebugLevel(t *testing.T) {
	t.Cleanup(klog.ClearLogger)
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var out bytes.Buffer
		RouteKlog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})).With("node", "a"))
		klog.Warning("old style")
		klog.ErrorS(errors.New("boom"), "new style", "k", "v")
		lines := strings.Count(out.String(), "level=DEBUG") + strings.Count(out.String(), "\n")
		if level == slog.LevelDebug && (lines != 4 || !strings.Contains(out.String(), "node=a")) || level == slog.LevelInfo && lines != 0 {
			t.Errorf("at %s:\n%s", level, out.String())
		}
	}
}
