package gate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
)

// fixed is a gate with a set answer and, if it has one, a channel of signals.
type fixed struct {
	verdict Verdict
	asked   int
	events  chan struct{}
	err     error
	watched int
}

func (*fixed) Name() status.Gate { return status.GateInhibitors }

func (f *fixed) Check(context.Context, Moment) Verdict { f.asked++; return f.verdict }

func (f *fixed) Watch(context.Context) (<-chan struct{}, error) {
	f.watched++
	return f.events, f.err
}

func TestSetIsOpenWhenAllAre(t *testing.T) {
	open := &fixed{verdict: Verdict{Open: true}}
	first := &fixed{verdict: Verdict{Reason: status.Inhibited}}
	second := &fixed{verdict: Verdict{Reason: status.RebootBudget}}
	if v := (Set{Gates: []Gate{open, open}}).Check(t.Context(), Before); !v.Open || v.Reason != "" {
		t.Errorf("all open: %+v", v)
	}
	if v := (Set{Gates: []Gate{open, first, second}}).Check(t.Context(), Before); v.Open || v.Reason != status.Inhibited {
		t.Errorf("the first closed gate answers: %+v", v)
	}
	if second.asked != 0 {
		t.Error("a gate behind a closed one was asked")
	}
	if (Verdict{}).Open {
		t.Error("no verdict is no permission")
	}
}

// half is a Jitter that changes nothing.
func half(d time.Duration) time.Duration { return d / 2 }

func TestSetWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := &fixed{events: make(chan struct{})}
		broken := &fixed{err: errors.New("no bus")}
		begun := time.Now()
		changed := Set{Gates: []Gate{g, broken}, Recheck: 30 * time.Second, Jitter: half}.Watch(ctx, Verdict{Open: true})

		<-changed // what changed before the watch began must not be missed
		g.events <- struct{}{}
		if <-changed; time.Since(begun) != 0 {
			t.Error("a gate's signal came late")
		}
		if <-changed; time.Since(begun) != 30*time.Second {
			t.Errorf("looked again after %s", time.Since(begun))
		}
		close(g.events) // the watch is lost, and tried again
		time.Sleep(time.Minute)
		synctest.Wait()
		if g.watched < 2 || broken.watched < 2 || broken.watched > 4 {
			t.Errorf("watches were tried %d and %d times in 90 s", g.watched, broken.watched)
		}
		cancel()
		synctest.Wait() // the bubble fails if a goroutine stays
	})
}

// polled is a gate that does not notice changes by itself.
type polled struct{ verdict Verdict }

func (polled) Name() status.Gate { return status.GateUptime }

func (p polled) Check(context.Context, Moment) Verdict { return p.verdict }

// quiet is a gate that would notice changes, and has none.
type quiet struct{ fixed }

func (q *quiet) Watch(ctx context.Context) (<-chan struct{}, error) {
	q.watched++
	events := make(chan struct{})
	context.AfterFunc(ctx, func() { close(events) })
	return events, nil
}

// count counts the signals of the next while.
func count(changed <-chan struct{}, d time.Duration) (n int) {
	for end := time.After(d); ; {
		select {
		case <-changed:
			n++
		case <-end:
			return n
		}
	}
}

// Behind a closed gate nobody is asked, watched or looked at again, and a gate
// that notices its changes by itself is not looked at without one.
func TestSetWatchesOnlyWhatMatters(t *testing.T) {
	shut := Verdict{Reason: status.Paused}
	for _, c := range []struct {
		name    string
		first   Gate
		signals int // in a day, with a look about every minute
		behind  int // watches on the gate behind
	}{
		{"closed, notices by itself", &quiet{fixed{verdict: shut}}, 1, 0},
		{"closed, does not notice", polled{shut}, 24*60 - 1, 0},
		{"closed, could not find out", &quiet{fixed{verdict: Verdict{Reason: status.LogindUnavailable, Unsure: true}}}, 24 * 60, 0},
		{"open, notices by itself", &quiet{fixed{verdict: Verdict{Open: true}}}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				behind := &quiet{fixed{verdict: shut}}
				set := Set{Gates: []Gate{c.first, behind}, Recheck: time.Minute, Jitter: half}
				last := set.Check(ctx, Before)
				asked := behind.asked
				changed := set.Watch(ctx, last)
				synctest.Wait() // the first signals, of what changed before the watches, are one
				if n := count(changed, 24*time.Hour); n != c.signals {
					t.Errorf("%d signals in a day, want %d", n, c.signals)
				}
				if asked != c.behind || behind.asked != asked || behind.watched != c.behind {
					t.Errorf("the gate behind was asked %d times and watched %d times", behind.asked, behind.watched)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// Equal verdicts are the same: a cycle goes on waiting where nothing is new.
func TestSetVerdictsCompare(t *testing.T) {
	at := time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)
	check := func(zone *time.Location) Verdict {
		return Set{Gates: []Gate{polled{Verdict{Reason: status.Paused, Next: at.In(zone)}}}}.Check(t.Context(), Before)
	}
	if a, b := check(time.FixedZone("", 3600)), check(time.FixedZone("", 3600)); a != b {
		t.Errorf("%+v is not %+v", a, b)
	}
}

// An alarm goes by the wall clock, whichever way it is set meanwhile.
func TestAlarm(t *testing.T) {
	for _, c := range []struct {
		name string
		none bool          // is ahead
		set  time.Duration // of the clock, after ten minutes
		want []time.Duration
	}{
		{"left alone", false, 0, []time.Duration{3 * time.Hour, 5 * time.Hour}},
		{"forth, past the first", false, 4 * time.Hour, []time.Duration{time.Hour}},
		{"forth, past both", false, 9 * time.Hour, []time.Duration{time.Hour}},
		{"forth, before the first", false, 2 * time.Hour, []time.Duration{time.Hour, 3 * time.Hour}},
		{"back", false, -2 * time.Hour, []time.Duration{5 * time.Hour, 7 * time.Hour}},
		{"back, where another is next", false, -9 * time.Hour, []time.Duration{time.Hour, 2 * time.Hour, 12 * time.Hour, 14 * time.Hour}},
		{"none, left alone", true, 0, nil},
		{"none, and back", true, -9 * time.Hour, []time.Duration{time.Hour, 2 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begun := time.Now()
				var skew atomic.Int64
				now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
				marks := []time.Duration{-7 * time.Hour, 3 * time.Hour, 5 * time.Hour}
				if c.none {
					marks = marks[:1]
				}
				ring := alarm(ctx, now, func(now time.Time) time.Time {
					for _, m := range marks {
						if at := begun.Add(m); at.After(now) {
							return at
						}
					}
					return time.Time{}
				})
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				skew.Store(int64(c.set))
				var got []time.Duration
				for end := time.After(24 * time.Hour); ; {
					select {
					case <-ring:
						got = append(got, time.Since(begun))
						continue
					case <-end:
					}
					break
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("rang after %v, want %v", got, c.want)
				}
				cancel()
				if _, ok := <-ring; ok {
					t.Error("the channel stays open")
				}
			})
		})
	}
}

func TestSentinel(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "reboot-required")
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if v := (Sentinel{Paths: []string{path}}).Check(t.Context(), Before); v.Open || v.Reason != status.SentinelGone {
		t.Errorf("no file: %+v", v)
	}
	if v := (Sentinel{Paths: []string{loop}}).Check(t.Context(), Before); v.Open || v.Reason != status.SentinelUnreadable || !strings.Contains(v.Detail, loop) {
		t.Errorf("unreadable: %+v", v)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if v := (Sentinel{Paths: []string{path}}).Check(t.Context(), Before); !v.Open {
		t.Errorf("file is there: %+v", v)
	}
	if v := (Sentinel{Paths: []string{loop, path}}).Check(t.Context(), Before); !v.Open {
		t.Errorf("one is there, another is unreadable: %+v", v)
	}
}

type login struct {
	no   error // to a reboot
	held []logind.Inhibitor
	err  error
}

func (l login) MayReboot(context.Context) error { return l.no }
func (l login) BlockInhibitors(context.Context) ([]logind.Inhibitor, error) {
	return l.held, l.err
}
func (l login) WatchInhibitors(context.Context) (<-chan struct{}, error) { return nil, l.err }

func TestInhibitors(t *testing.T) {
	apt := logind.Inhibitor{What: "shutdown", Who: "apt", Why: "upgrading", Mode: "block", PID: 4711}
	at := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	poweroff, reboot := &logind.ScheduledError{Type: "poweroff", At: at}, &logind.ScheduledError{Type: "reboot", At: at}
	begun := &logind.ScheduledError{Type: "poweroff", Begun: true}
	for _, c := range []struct {
		name      string
		login     login
		announced bool
		at        Moment
		reason    status.Reason // "": open
		detail    string
	}{
		{"nothing", login{}, false, Before, "", ""},
		{"apt", login{held: []logind.Inhibitor{apt}}, false, Before, status.Inhibited, "4711"},
		{"five", login{held: []logind.Inhibitor{apt, apt, apt, apt, apt}}, false, Before, status.Inhibited, "and 2 more"},
		{"apt, and a power-off", login{held: []logind.Inhibitor{apt}, no: poweroff}, false, Before, status.Inhibited, "4711"},
		{"power-off", login{no: poweroff}, false, Before, status.ShutdownScheduled, "scheduled a poweroff at 2026-11-23T18:00:00Z"},
		{"power-off, holding the lock", login{no: poweroff}, false, Within, status.ShutdownScheduled, "poweroff"},
		{"power-off has begun", login{no: begun}, false, Before, status.ShutdownScheduled, "shuts this machine down (poweroff)"},
		{"power-off has begun, holding the lock", login{no: begun}, false, Within, "", ""},
		{"reboot", login{no: reboot}, false, Before, "", ""},
		{"reboot in the announcement's place", login{no: reboot}, true, Before, status.ShutdownScheduled, "scheduled a reboot at 2026-11-23T18:00:00Z"},
		{"cannot", login{no: errors.New("cannot")}, false, Before, status.LogindUnavailable, "cannot"},
		{"no bus", login{err: errors.New("no bus")}, false, Before, status.LogindUnavailable, "no bus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Inhibitors{c.login, c.announced}.Check(t.Context(), c.at)
			if v.Open != (c.reason == "") || v.Reason != c.reason || v.Passing != (c.reason == status.Inhibited) ||
				v.Unsure != (c.reason == status.LogindUnavailable || c.reason == status.ShutdownScheduled) || !strings.Contains(v.Detail, c.detail) {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	b := Budget{Path: filepath.Join(t.TempDir(), "reboots.json"), Max: 2, Now: func() time.Time { return now }}
	check := func(when string, open bool) Verdict {
		t.Helper()
		v := b.Check(t.Context(), Before)
		if v.Open != open || !open && v.Reason != status.RebootBudget {
			t.Errorf("%s: %+v", when, v)
		}
		return v
	}
	spend := func() {
		t.Helper()
		if err := b.Spend(); err != nil {
			t.Fatal(err)
		}
	}
	check("new", true)
	spend()
	now = now.Add(time.Hour)
	check("one of two", true)
	spend()
	if v := check("two of two", false); !v.Next.Equal(now.Add(23 * time.Hour)) {
		t.Errorf("next at %s", v.Next)
	}
	if err := b.Refund(); err != nil {
		t.Fatal(err)
	}
	check("one given back", true)
	spend()
	now = now.Add(23 * time.Hour)
	check("the first is a day old", true)
	now = now.Add(-100 * 24 * time.Hour)
	check("the clock went back: no licence", false)
}

// A ledger that cannot be read blocks, by name, and nothing can be spent.
func TestBudgetUnreadable(t *testing.T) {
	for name, text := range map[string]string{"garbage": "{", "wrong type": `{"reboots":["yesterday"]}`} {
		t.Run(name, func(t *testing.T) {
			b := Budget{Path: filepath.Join(t.TempDir(), "reboots.json"), Max: 2, Now: time.Now}
			if err := os.WriteFile(b.Path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if v := b.Check(t.Context(), Before); v.Open || v.Reason != status.BudgetUnreadable || !v.Unsure || !strings.Contains(v.Detail, b.Path) {
				t.Errorf("%+v", v)
			}
			if err := b.Spend(); err == nil {
				t.Error("spent without a ledger")
			}
		})
	}
	b := Budget{Path: filepath.Join(t.TempDir(), "reboots.json"), Max: 2, Now: time.Now}
	if err := syscall.Mkfifo(b.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if v := b.Check(t.Context(), Before); v.Open || v.Reason != status.BudgetUnreadable { // and nobody is waited for
		t.Errorf("a named pipe: %+v", v)
	}
	b.Path = filepath.Join(t.TempDir(), "missing", "reboots.json")
	if err := b.Spend(); err == nil {
		t.Error("spent without a directory to write to")
	}
}

func FuzzBudget(f *testing.F) {
	f.Add(`{"reboots":["2026-11-22T12:00:00Z"]}`)
	f.Add(`{"reboots":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		b := Budget{Path: filepath.Join(t.TempDir(), "reboots.json"), Max: 1, Now: time.Now}
		if err := os.WriteFile(b.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := b.Check(t.Context(), Before); v.Open != (v.Reason == "") {
			t.Errorf("%+v", v)
		}
	})
}

// named is a gate by a name of its own.
type named struct {
	status.Gate
	Verdict
}

func (n named) Name() status.Gate                     { return n.Gate }
func (n named) Check(context.Context, Moment) Verdict { return n.Verdict }

func TestStates(t *testing.T) {
	next := time.Date(2026, 11, 22, 2, 0, 0, 0, time.FixedZone("CET", 3600))
	utc := next.UTC()
	open := Verdict{Open: true}
	closed := Verdict{Reason: status.OutsideWindow, Detail: "the window opens at 02:00", Next: next}
	s := Set{Gates: []Gate{
		named{status.GateBudget, open}, named{status.GateSchedule, closed}, named{status.GatePause, open},
		named{status.GatePrometheus, open}, named{status.GatePrometheus, Verdict{Reason: status.AlertsFiring}},
	}}
	budget := status.GateState{Gate: status.GateBudget, Open: true}
	schedule := status.GateState{Gate: status.GateSchedule, Reason: status.OutsideWindow, Detail: "the window opens at 02:00", Next: &utc}
	if got, want := s.States(s.Check(t.Context(), Before)), []status.GateState{budget, schedule}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want := []status.GateState{
		budget, schedule, {Gate: status.GatePause, Open: true}, {Gate: status.GatePrometheus, Reason: status.AlertsFiring},
	}
	if got := s.Ask(t.Context(), Before); !reflect.DeepEqual(got, want) {
		t.Errorf("all: got %+v, want %+v", got, want)
	}
	all := Set{Gates: []Gate{named{status.GateBudget, open}, named{status.GatePause, open}}}
	if got := all.States(all.Check(t.Context(), Before)); len(got) != 2 || !got[0].Open || !got[1].Open {
		t.Errorf("all open: %+v", got)
	}
}
