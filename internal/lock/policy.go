package lock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// Rules is what the cluster says about the lock.
type Rules interface {
	// Policy reads the policy; no policy is the zero Policy and no error.
	Policy(ctx context.Context) (Policy, error)
	// Enforced reports whether the API server itself keeps the lock's rules.
	Enforced(ctx context.Context, node string) (bool, error)
}

// Policy is what the policy ConfigMap says. Nodes only read it.
type Policy struct {
	Max     *intstr.IntOrString // holders at the same time; nil: not said
	Room    int                 // size of the waiting room; 0: not said
	Paused  string              // why nobody may go; "": go on
	Freezes []Freeze
	// Problems are what cannot be understood. A policy with problems lets
	// nobody go: it may have been meant to stop them.
	Problems []string
}

// Freeze is a time in which nobody reboots.
type Freeze struct {
	From, Until time.Time // from inclusive, until exclusive
	Reason      string
}

// Keys of the policy. Each may be followed by "." and the name of a lock: then
// it is for that lock alone.
const (
	policyMax    = "max"
	policyRoom   = "waiting_room"
	policyPaused = "paused"
	policyFreeze = "freeze"
)

// Bounds that the admission policy has, too.
const (
	MaxHolders = 9999 // holders at the same time
	MaxRoom    = 16   // waiters; keeps the lock object within 4 KB
)

// ParsePolicy reads the data of the policy ConfigMap for one lock. It never
// fails: what it cannot read is in Problems.
func ParsePolicy(data map[string]string, lock string) Policy {
	var p Policy
	problem := func(key, format string, args ...any) {
		p.Problems = append(p.Problems, fmt.Sprintf("%s: ", key)+fmt.Sprintf(format, args...))
	}
	known := []string{policyMax, policyRoom, policyPaused, policyFreeze}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		name, of, specific := strings.Cut(key, ".")
		value := strings.TrimSpace(data[key])
		_, replaced := data[name+"."+lock]
		switch {
		case !slices.Contains(known, name):
			problem(key, "unknown, expected one of %s", strings.Join(known, ", "))
		case specific && of != lock:
			// another pool's
		case name == policyMax && (specific || !replaced):
			v := intstr.Parse(value)
			if n, err := percentOf(v); err != nil || value[0] == '+' || value[0] == '0' || n < 1 || v.Type == intstr.String && n > 100 || n > MaxHolders {
				problem(key, "%q is not a number of nodes such as \"2\" (1 to %d) or a percent such as \"10%%\"", clip(value), MaxHolders)
				continue
			}
			p.Max = &v
		case name == policyRoom && (specific || !replaced):
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > MaxRoom {
				problem(key, "%q is not a number from 1 to %d", clip(value), MaxRoom)
				continue
			}
			p.Room = n
		case name == policyPaused && value != "":
			p.Paused = clip(value)
		case name == policyFreeze:
			for line := range strings.Lines(value) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				f, err := parseFreeze(line)
				if err != nil {
					problem(key, "%v", err)
					continue
				}
				p.Freezes = append(p.Freezes, f)
			}
		}
	}
	return p
}

// percentOf is the number in an amount, with or without the percent sign. It
// takes only what the admission policy takes, which knows one form of a number.
func percentOf(v intstr.IntOrString) (int, error) {
	if v.Type == intstr.Int {
		return v.IntValue(), nil
	}
	digits, ok := strings.CutSuffix(v.StrVal, "%")
	if !ok {
		return 0, fmt.Errorf("no percent sign")
	}
	return strconv.Atoi(digits)
}

// parseFreeze reads "FROM/UNTIL [reason]". FROM and UNTIL are times as in
// RFC 3339 or dates in UTC; a date as UNTIL includes that day.
func parseFreeze(line string) (Freeze, error) {
	span, reason, _ := strings.Cut(line, " ")
	from, until, ok := strings.Cut(span, "/")
	if !ok {
		return Freeze{}, fmt.Errorf("%q is not FROM/UNTIL, such as 2026-12-20/2027-01-02", clip(span))
	}
	f := Freeze{Reason: clip(strings.TrimSpace(reason))}
	var err error
	if f.From, _, err = parseMoment(from); err != nil {
		return Freeze{}, err
	}
	var date bool
	if f.Until, date, err = parseMoment(until); err != nil {
		return Freeze{}, err
	}
	if date {
		f.Until = f.Until.AddDate(0, 0, 1)
	}
	if !f.From.Before(f.Until) {
		return Freeze{}, fmt.Errorf("%q ends before it begins", clip(span))
	}
	return f, nil
}

func parseMoment(text string) (at time.Time, date bool, err error) {
	if at, err = time.Parse(time.DateOnly, text); err == nil {
		return at, true, nil
	}
	if at, err = time.Parse(time.RFC3339, text); err == nil {
		return at, false, nil
	}
	return time.Time{}, false, fmt.Errorf("%q is neither a date such as 2026-12-20 nor a time such as 2026-12-20T22:00:00+01:00", clip(text))
}

// Closed says why nobody may go now; the reason is empty if they may. until is
// when that changes by itself, zero if it does not or is not known.
func (p Policy) Closed(now time.Time) (reason status.Reason, detail string, until time.Time) {
	switch {
	case len(p.Problems) > 0:
		return status.PolicyUnreadable, "the policy cannot be understood, so nobody reboots: " + list(p.Problems), time.Time{}
	case p.Paused != "":
		return status.Paused, "paused for the whole cluster: " + p.Paused, time.Time{}
	}
	for _, f := range p.Freezes {
		if now.Before(f.From) || !now.Before(f.Until) || f.Until.Before(until) {
			continue
		}
		until = f.Until
		reason, detail = status.Frozen, "frozen until "+f.Until.UTC().Format(time.RFC3339)
		if f.Reason != "" {
			detail += ": " + f.Reason
		}
	}
	return reason, detail, until
}
