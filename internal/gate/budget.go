package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// day is what the budget counts over.
const day = 24 * time.Hour

// maxBudget bounds the file, in bytes: almost 2000 reboots.
const maxBudget = 64 << 10

// Budget is open while fewer than Max reboots were asked for in the last 24
// hours: a sentinel that stands again after every reboot must not make a loop.
// What was spent lies in a file, because it must outlive the reboots that it
// counts.
type Budget struct {
	Path string // of the file; its directory exists
	Max  int    // reboots in 24 hours, 1 or more
	Now  func() time.Time
}

// ledger is the file's content.
type ledger struct {
	Reboots []time.Time `json:"reboots"` // when logind was asked, in UTC
}

// Name implements Gate.
func (Budget) Name() status.Gate { return status.GateBudget }

// Check is open while the budget lasts.
func (b Budget) Check(context.Context, Moment) Verdict {
	spent, err := b.read()
	if err != nil {
		return Verdict{Reason: status.BudgetUnreadable, Detail: err.Error(), Unsure: true}
	}
	if len(spent) < b.Max {
		return Verdict{Open: true}
	}
	next := spent[len(spent)-b.Max].Add(day)
	return Verdict{
		Reason: status.RebootBudget,
		Detail: fmt.Sprintf("%d reboots in 24 hours and the sentinel stands again: find out why; the next one is allowed at %s", len(spent), next.UTC().Format(time.RFC3339)),
		Next:   next,
	}
}

// Watch signals when the next reboot is allowed again.
func (b Budget) Watch(ctx context.Context) (<-chan struct{}, error) {
	return alarm(ctx, b.Now, func(time.Time) time.Time { return b.Check(ctx, Before).Next }), nil
}

// Spend records a reboot that is about to be asked for. Without a record on
// disk there must be no reboot.
func (b Budget) Spend() error {
	spent, err := b.read()
	if err != nil {
		return err
	}
	return b.write(append(spent, b.Now().UTC()))
}

// Refund takes back the last record, of a reboot that was refused.
func (b Budget) Refund() error {
	spent, err := b.read()
	if err != nil || len(spent) == 0 {
		return err
	}
	return b.write(spent[:len(spent)-1])
}

// read returns the reboots of the last 24 hours, oldest first. One that lies
// in the future counts: the clock was or is wrong, and that is no licence.
func (b Budget) read() ([]time.Time, error) {
	text, err := statefile.Read(b.Path, maxBudget)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read reboot budget: %w", err)
	}
	var l ledger
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("read reboot budget %s: %w (remove the file to start anew)", b.Path, err)
	}
	spent := slices.DeleteFunc(l.Reboots, func(t time.Time) bool { return b.Now().Sub(t) >= day })
	slices.SortFunc(spent, time.Time.Compare)
	return spent, nil
}

// write replaces the file in one step and brings it to disk: the machine is
// about to go down.
func (b Budget) write(spent []time.Time) error {
	text, err := json.Marshal(ledger{spent})
	if err != nil {
		return fmt.Errorf("encode reboot budget: %w", err)
	}
	if err := statefile.Replace(b.Path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write reboot budget: %w", err)
	}
	return nil
}
