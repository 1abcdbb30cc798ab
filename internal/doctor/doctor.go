// Package doctor looks at everything that kured needs on a node and in the
// cluster, and says of each whether it is there and what to do if not. It
// changes nothing: what it tries at the API server is a dry run, and in the
// state directory it makes and removes one file.
//
// Each check is a question to the machine or to others, and a judgement of the
// answer that asks nobody.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Level is how good or bad a finding is.
type Level string

// The levels, from good to bad.
const (
	OK      Level = "ok"
	Warning Level = "warning" // kured works, but less well or less safely than it could
	Fail    Level = "fail"    // kured does not work, or somebody else breaks what it keeps
)

// Levels are all of them, from good to bad.
func Levels() []Level { return []Level{OK, Warning, Fail} }

// Finding is one thing that was looked at.
type Finding struct {
	Check  string `json:"check"`            // the name of the check
	Level  Level  `json:"level"`            // how it is
	Text   string `json:"text"`             // what was found, one printable line
	Remedy string `json:"remedy,omitempty"` // what to do about it
}

// Check is one question with its judgement.
type Check struct {
	Name string
	// Ask returns at least one finding; their Check is set by Run. It has to
	// end with ctx, but Run does not rely on that.
	Ask func(ctx context.Context) []Finding
}

// Run makes all checks at the same time, each within the limit, and returns
// what they found in the order of the checks. A check that does not end in
// time is a failure, and its goroutine is left behind: a file can hang, and
// nothing ends that.
func Run(ctx context.Context, limit time.Duration, checks []Check) []Finding {
	answers := make([][]Finding, len(checks))
	var all sync.WaitGroup
	for i, check := range checks {
		all.Go(func() { answers[i] = check.run(ctx, limit) })
	}
	all.Wait()
	var found []Finding
	for _, answer := range answers {
		found = append(found, answer...)
	}
	return found
}

func (c Check) run(ctx context.Context, limit time.Duration) []Finding {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan []Finding, 1)
	go func() { done <- c.Ask(ctx) }()
	// What heeds ctx still says what it waited for.
	late := time.NewTimer(limit + limit/10)
	defer late.Stop()
	var found []Finding
	select {
	case found = <-done:
	case <-late.C:
		found = []Finding{fail("see what it waits for, and try again", "not finished after %s", limit)}
	}
	for i := range found {
		found[i].Check = c.Name
		found[i].Text = status.Clean(found[i].Text, longest)
		found[i].Remedy = status.Clean(found[i].Remedy, longest)
	}
	return found
}

// Worst is the worst level of the findings.
func Worst(found []Finding) Level {
	worst := 0
	for _, f := range found {
		for i, level := range Levels() {
			if f.Level == level {
				worst = max(worst, i)
			}
		}
	}
	return Levels()[worst]
}

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(format, args...)}
}

func warn(remedy, format string, args ...any) Finding {
	return Finding{Level: Warning, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(remedy, format string, args ...any) Finding {
	return Finding{Level: Fail, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

func one(f Finding) []Finding { return []Finding{f} }

// longest bounds a text, some of which others wrote, in characters.
const longest = 400
