package sim

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/kured-host/kured/internal/cycle"
)

// told counts what each machine tells at info and above in all its boots.
type told struct {
	mu    sync.Mutex
	lines map[string][]string
}

// teller is the log of one process.
type teller struct {
	slog.Handler
	told *told
	m    *machine
}

func (h teller) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h teller) Handle(_ context.Context, r slog.Record) error {
	h.told.mu.Lock()
	defer h.told.mu.Unlock()
	h.told.lines[h.m.name] = append(h.told.lines[h.m.name], r.Message)
	return nil
}

func (h teller) WithAttrs([]slog.Attr) slog.Handler { return h }

// A person reads the journal of a cycle: also where a node waits behind others,
// daemon and kured-uncordon together tell it in few lines.
func TestLinesOfACycle(t *testing.T) {
	const most = 15 - 2 // the daemon itself says that it stops and starts
	for _, story := range []string{"01-plain-roll", "02-limit-of-two", "06-zones", "07-priority"} {
		t.Run(story, func(t *testing.T) {
			text, err := os.ReadFile("testdata/stories/" + story + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(text), "\n---\n")
			setup, err := readStory(head)
			if err != nil {
				t.Fatal(err)
			}
			all := told{lines: map[string][]string{}}
			setup.Mutate.Runner = func(p *process, r *cycle.Runner) {
				r.Log = slog.New(teller{r.Log.Handler(), &all, p.m})
			}
			tell(t, setup)
			if len(all.lines) == 0 {
				t.Error("nobody tells anything")
			}
			for name, lines := range all.lines {
				if len(lines) > most {
					t.Errorf("%s: %d lines, at most %d:\n  %s", name, len(lines), most, strings.Join(lines, "\n  "))
				}
			}
		})
	}
}
