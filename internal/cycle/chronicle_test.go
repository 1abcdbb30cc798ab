package cycle

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// scribe is the Chronicle of a machine: what others read.
type scribe machine

func (w *scribe) begin(ctx context.Context) error {
	m := (*machine)(w)
	if err := m.request(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	mute := m.mute
	m.mu.Unlock()
	if mute != nil {
		return mute(ctx)
	}
	return nil
}

func (w *scribe) Announce(ctx context.Context, s status.Status, rebooted time.Time, was string) (string, error) {
	w.mu.Lock()
	is := w.self.Announced
	w.mu.Unlock()
	a, _ := node.ParseAnnouncement(is)
	if was == is && a.Phase == s.Phase && a.Reason == s.Reason && a.Boot == s.Boot && rebooted.IsZero() {
		return was, nil
	}
	if err := w.begin(ctx); err != nil {
		return was, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Phase == "" {
		w.self.Announced = ""
		return "", nil
	}
	text, err := json.Marshal(node.Announcement{V: 1, Phase: s.Phase, Reason: s.Reason, Boot: s.Boot, Since: s.Since, Rebooted: rebooted})
	if err != nil {
		return was, err
	}
	w.self.Announced = string(text)
	w.shown = append(w.shown, strings.TrimSpace(string(s.Phase)+" "+string(s.Reason)))
	if !rebooted.IsZero() {
		w.verified = rebooted
	}
	return w.self.Announced, nil
}

func (w *scribe) Record(ctx context.Context, s status.Status) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, strings.TrimSpace(string(s.Phase)+" "+string(s.Reason)))
	return nil
}

// reads asserts what others have read since the last time.
func (m *machine) reads(announced, told []string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.shown, announced) {
		m.t.Errorf("announced %q, want %q", m.shown, announced)
	}
	if !slices.Equal(m.told, told) {
		m.t.Errorf("told %q, want %q", m.told, told)
	}
	m.shown, m.told = nil, nil
}

func TestChronicle(t *testing.T) {
	story(t, func(m *machine) {
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.reads([]string{"idle"}, nil) // a node that was not seen before
		m.want(true)
		m.awaitReboot()
		m.reads([]string{"draining", "rebooting"}, []string{"locked", "draining", "rebooting"})
		m.kill()
		m.bootUp(false)
		m.start(Run) // the daemon is there before the way back
		m.awaitPhase(status.Returning)
		if err := m.afterBootBeside(); err != nil {
			t.Fatal(err)
		}
		m.awaitPhase(status.Idle)
		m.reads([]string{"returning not-ready", "idle"}, []string{"returning not-ready", "idle"})
		if m.verified.IsZero() {
			t.Error("nobody reads of the reboot")
		}
		// Idle costs nothing, and a restart tells nothing that is told already.
		before := m.asked()
		time.Sleep(48 * time.Hour)
		if n := m.asked() - before; n > 0 {
			t.Errorf("%d requests in two idle days", n)
		}
		m.stop()
		<-m.done
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.reads(nil, nil)
	})
}

// afterBootBeside runs the oneshot to its end, beside the daemon.
func (m *machine) afterBootBeside() error {
	r := &Runner{Mode: Return, Boot: m.bootID(), Parts: m.parts(), Publish: func(status.Status) {}}
	r.Demand, r.Gates, r.Budget = nil, nil, nil
	return r.Do(m.t.Context())
}

// An announcement of a boot that is over is corrected as soon as there is a connection.
func TestChronicleOfAnotherBoot(t *testing.T) {
	story(t, func(m *machine) {
		m.self.Announced = `{"v":1,"phase":"draining","boot":"0","since":"2026-11-22T12:00:00Z"}`
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.reads([]string{"idle"}, []string{"idle"})
	})
}

func TestChronicleOfWaiting(t *testing.T) {
	story(t, func(m *machine) {
		m.gates = gate.Verdict{Reason: status.OutsideWindow, Detail: "closed"}
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.want(true)
		m.awaitPhase(status.Blocked)
		synctest.Wait()
		m.reads([]string{"idle", "blocked outside-window"}, []string{"blocked outside-window"})
		other := newMachine(m.t, "b", m.store)
		other.drainFor = time.Hour
		other.start(Run)
		other.awaitPhase(status.Idle)
		other.want(true)
		other.awaitPhase(status.Draining)
		time.Sleep(2 * time.Second)
		other.reads([]string{"idle", "draining"}, []string{"locked", "draining"})
		m.set(func() { m.gates = gate.Verdict{Open: true} })
		m.awaitPhase(status.Queued)
		time.Sleep(20 * time.Second)
		m.reads([]string{"queued lock-full"}, []string{"queued lock-full"})
		// In the midst of a drain a new daemon tells nothing twice.
		other.kill()
		other.start(Run)
		other.awaitPhase(status.Draining)
		time.Sleep(5 * time.Second)
		other.reads(nil, nil)
		other.want(false)
		other.await("the end", func() bool { return other.status().Phase == status.Idle })
		other.reads([]string{"idle"}, []string{"rolling-back sentinel-gone", "idle"})
		other.stop()
		<-other.done
	})
}

// It is for others: whatever is wrong with it, the node reboots, and says once that nobody sees it.
func TestChronicleThatFails(t *testing.T) {
	story(t, func(m *machine) {
		m.mute = func(context.Context) error { return errors.New("forbidden") }
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.want(true)
		m.roll()
		m.back()
		if n := strings.Count(m.log(), "others do not see how far this node is: forbidden"); n != 3 { // by three processes
			t.Errorf("told %d times:\n%s", n, m.log())
		}
		m.reads(nil, nil)
	})
}

// An API server that takes these writes and never answers holds up nothing for long.
func TestChronicleThatHangs(t *testing.T) {
	story(t, func(m *machine) {
		m.mute = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.want(true)
		m.awaitReboot()
		if took := time.Since(began) - m.drainFor; took > 30*time.Second {
			t.Errorf("the reboot came %s late", took)
		}
		m.kill()
		m.bootUp(false)
		m.mute = nil
		if err := m.afterBoot(); err != nil {
			t.Fatal(err)
		}
		m.back()
		m.reads([]string{"returning not-ready", "idle"}, []string{"returning not-ready", "idle"})
	})
}

// A demand that comes while the node is announced idle is not kept waiting, nor lost.
func TestDemandDuringTheLastWord(t *testing.T) {
	story(t, func(m *machine) {
		writing := make(chan struct{})
		var first sync.Once
		m.mute = func(ctx context.Context) (err error) {
			first.Do(func() {
				close(writing)
				<-ctx.Done()
				err = ctx.Err()
			})
			return err
		}
		m.start(Run)
		<-writing
		began := time.Now()
		m.want(true)
		m.await("the lock", func() bool { return len(m.store.Data()) > 0 })
		if took := time.Since(began); took > time.Second {
			t.Errorf("the lock is taken after %s", took)
		}
		m.roll()
		m.back()
		if m.verified.IsZero() {
			t.Error("not announced")
		}
	})
}

func TestAbandonRetracts(t *testing.T) {
	story(t, func(m *machine) {
		m.drainFor = time.Hour
		m.start(Run)
		m.want(true)
		m.awaitPhase(status.Draining)
		time.Sleep(5 * time.Second)
		m.kill()
		m.start(Abandon)
		<-m.done
		if m.err != nil || m.node().Announced != "" {
			t.Errorf("left: %s, %v", m.node().Announced, m.err)
		}
		m.back()
	})
}
