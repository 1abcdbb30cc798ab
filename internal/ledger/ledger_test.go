package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/status"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// act is one published status, or a call that ends a cycle.
type act struct {
	after  time.Duration // since noon
	who    int           // which process
	phase  status.Phase
	reason status.Reason
	boot   string // of the machine; the cycle is of boot "a" unless the phase is idle
	call   func(*Ledger) error
}

func TestFollow(t *testing.T) {
	const daemon, uncordon, later = 0, 1, 2
	verified := func(l *Ledger) error { return l.Verified(noon.Add(time.Hour), "b") }
	gaveUp := func(l *Ledger) error { return l.GaveUp("b") }
	for name, c := range map[string]struct {
		acts   []act
		cycles map[Result]uint64
		sums   map[status.Phase]float64 // seconds
		well   string                   // the boot that was verified last
	}{
		"a good cycle": {
			acts: []act{
				{0, daemon, status.Idle, "", "a", nil},
				{0, daemon, status.Blocked, status.OutsideWindow, "a", nil},
				{10 * time.Second, daemon, status.Queued, "", "a", nil},
				{30 * time.Second, daemon, status.Queued, status.LockFull, "a", nil},
				{40 * time.Second, daemon, status.Locked, "", "a", nil},
				{41 * time.Second, daemon, status.Draining, "", "a", nil},
				{101 * time.Second, daemon, status.Rebooting, "", "a", nil},
				{140 * time.Second, later, status.Starting, "", "b", nil},
				{141 * time.Second, uncordon, status.Returning, status.NotReady, "b", nil},
				{142 * time.Second, later, status.Returning, status.AwaitingReturn, "b", nil},
				{151 * time.Second, uncordon, "", "", "", verified},
				{151 * time.Second, uncordon, "", "", "", verified}, // started again by systemd
				{151 * time.Second, uncordon, status.Idle, "", "b", nil},
				{165 * time.Second, later, status.Idle, "", "b", nil},
			},
			cycles: map[Result]uint64{ResultVerified: 1},
			sums: map[status.Phase]float64{
				status.Queued: 30, status.Locked: 1, status.Draining: 60, status.Rebooting: 40, status.Returning: 10,
			},
			well: "b",
		},
		"the daemon was killed while it drained, and a gate closed": {
			acts: []act{
				{0, daemon, status.Draining, "", "a", nil},
				{50 * time.Second, later, status.Starting, "", "a", nil},
				{51 * time.Second, later, status.Draining, "", "a", nil},
				{60 * time.Second, later, status.RollingBack, status.AlertsFiring, "a", nil},
				{70 * time.Second, later, status.RollingBack, status.APIUnreachable, "a", nil},
				{80 * time.Second, later, status.BackingOff, status.AlertsFiring, "a", nil},
				{90 * time.Second, later, status.Queued, "", "a", nil},
			},
			cycles: map[Result]uint64{ResultRolledBack: 1},
			sums:   map[status.Phase]float64{status.Draining: 60, status.RollingBack: 20},
		},
		"not wanted any more": {
			acts: []act{
				{0, daemon, status.RollingBack, status.SentinelGone, "a", nil},
				{time.Second, daemon, status.Idle, "", "a", nil},
			},
			cycles: map[Result]uint64{ResultAbandoned: 1},
			sums:   map[status.Phase]float64{status.RollingBack: 1},
		},
		"power cut while it drained: nobody knows for how long": {
			acts: []act{
				{0, daemon, status.Draining, "", "a", nil},
				{time.Hour, uncordon, status.Returning, status.NotReady, "b", nil},
				{time.Hour + time.Minute, uncordon, status.Idle, "", "b", nil},
			},
			sums: map[status.Phase]float64{status.Returning: 60},
		},
		"given up, and well later": {
			acts: []act{
				{0, uncordon, status.Returning, status.NotReady, "b", nil},
				{0, uncordon, "", "", "", gaveUp},
				{0, uncordon, "", "", "", gaveUp},
				{time.Hour, uncordon, "", "", "", verified},
			},
			cycles: map[Result]uint64{ResultGaveUp: 1},
			well:   "b",
		},
		"the clock was set back": {
			acts: []act{
				{time.Hour, daemon, status.Rebooting, "", "a", nil},
				{0, uncordon, status.Returning, status.NotReady, "b", nil},
			},
			sums: map[status.Phase]float64{status.Rebooting: 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			process := []*Ledger{New(path, nil), New(path, nil), New(path, nil)}
			for i, a := range c.acts {
				do := a.call
				if do == nil {
					s := status.Status{Phase: a.phase, Reason: a.reason, Boot: a.boot, Cycle: "a"}
					if a.phase == status.Idle || a.phase == status.Starting {
						s.Cycle = ""
					}
					do = func(l *Ledger) error { return l.Follow(noon.Add(a.after), s) }
				}
				if err := do(process[a.who]); err != nil {
					t.Fatalf("act %d: %v", i, err)
				}
			}
			b, err := New(path, nil).Read()
			if err != nil {
				t.Fatal(err)
			}
			for _, result := range Results() {
				if b.Cycles[result] != c.cycles[result] {
					t.Errorf("%s: %d, want %d", result, b.Cycles[result], c.cycles[result])
				}
			}
			if b.LastVerified.Boot != c.well {
				t.Errorf("last verified is boot %q, want %q", b.LastVerified.Boot, c.well)
			}
			for _, phase := range Phases() {
				d, got := b.Phases[phase]
				want, some := c.sums[phase]
				if got != some || got && (d.Sum != want || d.Count() != 1) {
					t.Errorf("%s: %+v, want one of %g s: %v", phase, d, want, some)
				}
			}
		})
	}
}

// What was sent is counted once, whoever writes it and whoever reads.
func TestEvictions(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	sent := map[string]uint64{"201": 3, "418x": 1}
	l := New(path, func() map[string]uint64 { return sent })
	look := func(want uint64) {
		t.Helper()
		b, err := l.Read()
		if err != nil || b.Evictions["201"] != want || len(b.Evictions) != 1 {
			t.Errorf("%v, %v, want %d", b.Evictions, err, want)
		}
	}
	follow := func(p status.Phase) {
		t.Helper()
		if err := l.Follow(noon, status.Status{Phase: p, Boot: "a", Cycle: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	look(3)
	follow(status.Draining)
	look(3)
	sent = map[string]uint64{"201": 5}
	look(5)
	follow(status.Rebooting)
	look(5)
	if b, err := New(path, nil).Read(); err != nil || b.Evictions["201"] != 5 {
		t.Errorf("on disk: %v, %v", b.Evictions, err)
	}
}

// Of phases that nobody counts the file is not written.
func TestIdleWritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	l := New(path, nil)
	for _, p := range []status.Phase{status.Starting, status.Idle, status.Blocked, status.Idle} {
		if err := l.Follow(noon, status.Status{Phase: p}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestDamage(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "cut": `{"v":1,"cyc`, "other version": `{"v":2}`, "label": `{"v":1,"cycles":{"won":1}}`,
		"code": `{"v":1,"evictions":{"9":1}}`, "buckets": `{"v":1,"phases":{"queued":{"sum":1,"buckets":[1]}}}`,
		"null": `{"v":1,"phases":{"queued":null}}`, "open": `{"v":1,"open":{"phase":"dancing"}}`,
		"long": `{"v":1}` + strings.Repeat(" ", sizeLimit),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			l := New(path, nil)
			if _, err := l.Read(); err == nil {
				t.Error("read without an error")
			}
			if err := l.Follow(noon, status.Status{Phase: status.Idle}); !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != content {
				t.Errorf("kept %q, %v", kept, err)
			}
			if err := l.Verified(noon, "b"); err != nil {
				t.Error(err)
			}
			if b, err := l.Read(); err != nil || b.Cycles[ResultVerified] != 1 {
				t.Error(b, err)
			}
		})
	}
}

// Whatever is wrong with the file or its lock, the cycle goes on at once and is told why.
func TestTroubleHoldsNothingUp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	lock, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l := New(path, nil)
	l.patience = 20 * time.Millisecond
	if err := l.Follow(noon, status.Status{Phase: status.Queued, Boot: "a"}); !errors.Is(err, errLocked) {
		t.Error(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	// The beginning of "queued" is lost, and with it its duration.
	l.patience = time.Minute
	for i, p := range []status.Phase{status.Locked, status.Draining} {
		if err := l.Follow(noon.Add(time.Duration(i)*time.Second), status.Status{Phase: p, Boot: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := l.Read(); err != nil || b.Phases[status.Queued] != nil || b.Phases[status.Locked].Sum != 1 {
		t.Error(b, err)
	}
	if err := New(filepath.Join(dir, "none", FileName), nil).Verified(noon, "b"); err == nil {
		t.Error("written into a directory that is not there")
	}
}

// Two processes write at once, and no count is lost.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	var all sync.WaitGroup
	const each = 20
	for i := range 2 {
		l := New(path, nil)
		l.patience = time.Minute // a machine under load
		all.Go(func() {
			for n := range each {
				if err := l.Verified(noon, string(rune('a'+i))+string(rune('a'+n))); err != nil {
					t.Error(err)
				}
				if _, err := l.Read(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if b, err := New(path, nil).Read(); err != nil || b.Cycles[ResultVerified] != 2*each {
		t.Error(b.Cycles, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"v":1,"cycles":{"verified":2},"phases":{"queued":{"sum":1.5,"buckets":[0,1,0,0,0,0,0,0,0,0,0,0,0,0]}},"evictions":{"201":3,"error":1},"last_verified":{"at":"2026-11-22T12:00:00Z","boot":"b"},"open":{"phase":"draining","since":"2026-11-22T12:00:00Z","cycle":"a","boot":"a"}}`))
	f.Add([]byte(`{"v":1,"cycles":null,"phases":null,"evictions":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := parse(text)
		if err != nil && !errors.Is(err, errFormat) {
			t.Fatalf("an error of no kind: %v", err)
		}
		// Whatever was read can be gone on with.
		b.follow(noon, status.Status{Phase: status.Returning, Boot: "z", Cycle: "y"}, "")
		b.follow(noon, status.Status{Phase: status.Idle, Boot: "z"}, status.Returning)
		path := filepath.Join(t.TempDir(), FileName)
		if err := write(path, b); err != nil {
			t.Skip(err) // a time that JSON cannot hold
		}
		if c, err := read(path); err != nil || !c.same(b) {
			t.Fatalf("%+v was read again as %+v, %v", b, c, err)
		}
	})
}
