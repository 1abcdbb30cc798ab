package source

import (
	"context"
	"maps"
	"os"
	"time"
)

// Repeat makes a check again as long as what it looks at changes meanwhile. A path unit of systemd does not start a
// service anew that is still running, so a change during the check would go unnoticed.
type Repeat struct {
	Paths  []string      // whose change makes the check outdated; they need not exist
	Settle time.Duration // before each check, for a package manager that is at work
}

// Do calls check until nothing has changed since before it, or it fails, or ctx ends.
func (r Repeat) Do(ctx context.Context, check func(context.Context) (Finding, error)) (Finding, error) {
	for {
		timer := time.NewTimer(r.Settle)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Finding{}, context.Cause(ctx)
		}
		before := r.look()
		finding, err := check(ctx)
		if err != nil || maps.Equal(before, r.look()) {
			return finding, err
		}
	}
}

// stamp is what tells two states of a file apart.
type stamp struct {
	size     int64
	modified time.Time
}

func (r Repeat) look() map[string]stamp {
	seen := map[string]stamp{}
	for _, path := range r.Paths {
		if info, err := os.Stat(path); err == nil {
			seen[path] = stamp{info.Size(), info.ModTime()}
		}
	}
	return seen
}
