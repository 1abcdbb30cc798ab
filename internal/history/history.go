// Package history finds the past cycles of a node in the entries that kured
// wrote into the journal: when, why, how long each phase took, and what came of
// it. It is pure: where the entries come from is the caller's business.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Result is what came of a cycle. The set is closed.
type Result string

// The results.
const (
	Verified   Result = "verified"   // rebooted, which the boot id proves, and well
	GaveUp     Result = "gave-up"    // rebooted and not well in time: the lock was released
	Abandoned  Result = "abandoned"  // the reboot was not wanted any more, or kured was taken off
	Running    Result = "running"    // it goes on
	Unfinished Result = "unfinished" // the journal tells no end, and it does not go on: the machine went down without kured
)

// Cycle is one demand for a reboot, with all the tries that it took.
type Cycle struct {
	ID       string     // boot id in which it was begun, 32 hex digits
	Node     string     // "" if it never learned its name
	Began    time.Time  // of the first entry, UTC
	Wanted   *time.Time // since when the sentinel stood; nil: not known
	Last     time.Time  // of the last entry
	Phase    status.Phase
	Packages []string // that asked for the reboot
	Tries    int      // how often it got the lock
	Result   Result
	Setbacks []Setback // why tries were rolled back, the last maxSetbacks
	Spans    []Span    // how long in each phase, in the order of the story; without those that took no time, but for the present one

	machine string
	boot    string    // of the last entry
	seen    time.Time // the last entry
	newer   bool      // the machine has begun another cycle since
	spent   map[status.Phase]time.Duration
}

// Setback is a try that was rolled back, or a return that did not go well.
type Setback struct {
	At     time.Time     `json:"at"`
	Reason status.Reason `json:"reason"`
	Detail string        `json:"detail"`
}

// Span is how long all tries together were in a phase.
type Span struct {
	Phase status.Phase
	For   time.Duration
}

// Took is how long the cycle took as far as it is known: all phases together,
// because the clock may have been set in its midst.
func (c Cycle) Took() (d time.Duration) {
	for _, s := range c.Spans {
		d += s.For
	}
	return d
}

// In is how long the cycle was in these phases.
func (c Cycle) In(phases ...status.Phase) (d time.Duration) {
	for _, s := range c.Spans {
		if slices.Contains(phases, s.Phase) {
			d += s.For
		}
	}
	return d
}

// MarshalJSON gives durations in seconds.
func (c Cycle) MarshalJSON() ([]byte, error) {
	type span struct {
		Phase   status.Phase `json:"phase"`
		Seconds float64      `json:"seconds"`
	}
	spans := []span{}
	for _, s := range c.Spans {
		spans = append(spans, span{s.Phase, s.For.Seconds()})
	}
	return json.Marshal(struct {
		ID       string       `json:"cycle"`
		Node     string       `json:"node,omitempty"`
		Began    time.Time    `json:"began"`
		Wanted   *time.Time   `json:"wanted,omitempty"`
		Last     time.Time    `json:"last"`
		Seconds  float64      `json:"seconds"`
		Packages []string     `json:"packages,omitempty"`
		Tries    int          `json:"tries"`
		Result   Result       `json:"result"`
		Phase    status.Phase `json:"phase,omitempty"`
		Phases   []span       `json:"phases"`
		Setbacks []Setback    `json:"setbacks,omitempty"`
	}{c.ID, c.Node, c.Began, c.Wanted, c.Last, c.Took().Seconds(), c.Packages, c.Tries, c.Result, c.Phase, spans, c.Setbacks})
}

// Log is what Read has found.
type Log struct {
	Cycles []Cycle `json:"cycles"` // by their begin, the last ones
	Unread int     `json:"unread"` // lines that are no entry, or have no time
}

// maxLine bounds a line. journalctl leaves out fields that are longer than 4 KiB, unless it is told otherwise.
const maxLine = 1 << 20

// MaxCycles is how many cycles Read returns at most. At least minCycles are
// kept until the end, because a journal can be that of many machines.
const (
	MaxCycles = 10000
	minCycles = 1000
)

// Read reads entries as journalctl -o json writes them, one on each line, oldest
// first, and keeps the last cycles that have an entry at or after since. A line
// that it cannot read is counted and left out; an error is one of the reader, and
// comes with what was found before it.
func Read(r io.Reader, since time.Time, last int) (Log, error) {
	last = min(max(last, 1), MaxCycles)
	g := grouper{keep: max(last, minCycles), machines: map[string]string{}}
	var log Log
	in := bufio.NewReaderSize(r, 64<<10)
	var err error
	for err == nil {
		var line []byte
		var whole bool
		line, whole, err = readLine(in)
		if len(line) == 0 && whole {
			continue
		}
		e, bad := parse(line)
		if !whole || bad != nil {
			log.Unread++
			continue
		}
		g.add(e)
	}
	log.Cycles = g.finish(since, last)
	if errors.Is(err, io.EOF) {
		return log, nil
	}
	return log, fmt.Errorf("read the journal: %w", err)
}

// readLine reads a line without its end. Of one that is too long it keeps nothing.
func readLine(in *bufio.Reader) (line []byte, whole bool, err error) {
	whole = true
	for {
		part, err := in.ReadSlice('\n')
		if whole = whole && len(line)+len(part) <= maxLine; whole {
			line = append(line, part...)
		} else {
			line = nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return trim(line), whole, err
		}
	}
}

func trim(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}
