package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// version of the file's format. A file of another one is taken for damaged.
const version = 1

// Result is how a cycle ended. The set is closed.
type Result string

// The results.
const (
	ResultVerified   Result = "verified"    // rebooted, well, lock released
	ResultRolledBack Result = "rolled-back" // a try failed
	ResultGaveUp     Result = "gave-up"     // rebooted, not well in time, lock released
	ResultAbandoned  Result = "abandoned"   // ended without fault: not wanted any more, a dry run, kured is removed
)

// Results lists every result.
func Results() []Result {
	return []Result{ResultVerified, ResultRolledBack, ResultGaveUp, ResultAbandoned}
}

// Phases lists the phases whose durations are kept: those in which other nodes
// wait for this one, and the one in which it waits for them.
func Phases() []status.Phase {
	return slices.DeleteFunc(status.Phases(), func(p status.Phase) bool { return p != status.Queued && !p.Underway() })
}

// Bounds are the upper bounds of the buckets of durations, in seconds.
func Bounds() []float64 {
	return []float64{1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400}
}

// Book is the content of the file.
type Book struct {
	Version      int                            `json:"v"`
	Cycles       map[Result]uint64              `json:"cycles,omitempty"`
	Phases       map[status.Phase]*Distribution `json:"phases,omitempty"`
	Evictions    map[string]uint64              `json:"evictions,omitempty"`    // by HTTP status code, or "error"
	LastVerified Verified                       `json:"last_verified,omitzero"` // reboot
	GaveUp       string                         `json:"gave_up,omitempty"`      // boot id of the last time
	Open         *Open                          `json:"open,omitempty"`         // the phase that goes on
}

// Verified is a verified reboot.
type Verified struct {
	At   time.Time `json:"at"`
	Boot string    `json:"boot"` // that was verified
}

// Open is a phase that has begun.
type Open struct {
	Phase  status.Phase  `json:"phase"`
	Reason status.Reason `json:"reason,omitempty"` // at its beginning
	Since  time.Time     `json:"since"`
	Cycle  string        `json:"cycle,omitempty"` // status.Status.Cycle
	Boot   string        `json:"boot"`            // in which it began
}

// Distribution of durations.
type Distribution struct {
	Sum     float64  `json:"sum"`     // seconds
	Buckets []uint64 `json:"buckets"` // not cumulative, as Bounds; the last one is beyond them
}

// Count is the number of durations.
func (d Distribution) Count() uint64 {
	var n uint64
	for _, b := range d.Buckets {
		n += b
	}
	return n
}

func (d *Distribution) observe(took time.Duration) {
	seconds := max(0, took.Seconds()) // the clock may have been set back
	bucket, _ := slices.BinarySearch(Bounds(), seconds)
	d.Sum += seconds
	d.Buckets[bucket]++
}

func newBook() Book {
	b := Book{
		Version: version, Cycles: map[Result]uint64{}, Evictions: map[string]uint64{},
		Phases: map[status.Phase]*Distribution{},
	}
	return b
}

// follow notes a change of the phase. before is the one that this process was
// in, "" if it has just begun.
func (b *Book) follow(now time.Time, s status.Status, before status.Phase) {
	if o := b.Open; o != nil && o.Phase == s.Phase && o.Cycle == s.Cycle && o.Boot == s.Boot {
		return // begun by another process, or before a restart of this one
	}
	b.close(now, s, before)
	if slices.Contains(Phases(), s.Phase) {
		b.Open = &Open{Phase: s.Phase, Reason: s.Reason, Since: now.UTC(), Cycle: s.Cycle, Boot: s.Boot}
	}
}

// close ends the phase that goes on.
func (b *Book) close(now time.Time, s status.Status, before status.Phase) {
	o := b.Open
	b.Open = nil
	if o == nil {
		return
	}
	if o.Phase == status.RollingBack && s.Phase != status.Returning {
		b.Cycles[endOf(o.Reason)]++
	}
	// A way back that the daemon only looks at ends in another process, and a phase that this process did not see
	// begin may be one of which a change was lost.
	seen := before == "" || before == o.Phase || o.Phase == status.Returning
	// When a phase was cut off by the end of its boot nobody knows, except for the one that leads there.
	whole := o.Boot == s.Boot || o.Phase == status.Rebooting && s.Phase == status.Returning
	if !seen || !whole {
		return
	}
	if b.Phases[o.Phase] == nil {
		b.Phases[o.Phase] = &Distribution{Buckets: make([]uint64, len(Bounds())+1)}
	}
	b.Phases[o.Phase].observe(now.Sub(o.Since))
}

// endOf is the result of a cycle that was rolled back for this reason.
func endOf(reason status.Reason) Result {
	switch reason {
	case status.Abandoned, status.SentinelGone, status.DryRun:
		return ResultAbandoned
	}
	return ResultRolledBack
}

func (b Book) clone() Book {
	b.Cycles, b.Evictions, b.Phases = maps.Clone(b.Cycles), maps.Clone(b.Evictions), maps.Clone(b.Phases)
	for phase, d := range b.Phases {
		b.Phases[phase] = &Distribution{d.Sum, slices.Clone(d.Buckets)}
	}
	return b
}

func (b Book) same(c Book) bool {
	x, errX := json.Marshal(b)
	y, errY := json.Marshal(c)
	return errX == nil && errY == nil && string(x) == string(y)
}

// errFormat is the error of a file that does not hold a book.
var errFormat = errors.New("not a ledger of this version")

// parse reads the content of the file. What is not of the closed sets is damage:
// it would become a label.
func parse(text []byte) (Book, error) {
	b := newBook()
	bad := func(format string, args ...any) (Book, error) {
		return newBook(), fmt.Errorf("%w: "+format, append([]any{errFormat}, args...)...)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return bad("no JSON of it") // the error would quote the content
	}
	if b.Version != version {
		return bad("version %d, not %d", b.Version, version)
	}
	for result := range b.Cycles {
		if !slices.Contains(Results(), result) {
			return bad("an unknown result")
		}
	}
	for phase, d := range b.Phases {
		if !slices.Contains(Phases(), phase) || d == nil || len(d.Buckets) != len(Bounds())+1 || d.Sum < 0 || d.Sum > 1e12 {
			return bad("durations that are none")
		}
	}
	for code := range b.Evictions {
		if !validCode(code) {
			return bad("an unknown code")
		}
	}
	if o := b.Open; o != nil && (!slices.Contains(Phases(), o.Phase) || o.Since.IsZero()) {
		return bad("a phase that is none")
	}
	// JSON's null makes a map nil.
	fresh := newBook()
	if b.Cycles == nil {
		b.Cycles = fresh.Cycles
	}
	if b.Phases == nil {
		b.Phases = fresh.Phases
	}
	if b.Evictions == nil {
		b.Evictions = fresh.Evictions
	}
	return b, nil
}

// validCode: an HTTP status code, or "error" where there was no answer.
func validCode(code string) bool {
	if code == "error" {
		return true
	}
	n, err := strconv.Atoi(code)
	return err == nil && n >= 100 && n <= 599 && len(code) == 3
}
