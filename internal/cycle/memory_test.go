package cycle

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// queuedSince waits until the machine stands in the room, and returns since when, as everybody sees it.
func (m *machine) queuedSince() time.Time {
	m.t.Helper()
	m.await("in the room", func() bool { return m.store.Data()["waiter.a"] != "" })
	var w lock.Waiter
	if err := json.Unmarshal([]byte(m.store.Data()["waiter.a"]), &w); err != nil {
		m.t.Fatal(err)
	}
	return w.Since
}

const busy = `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`

// Whoever restarts the daemon of a node that waits, as an upgrade does, does not send it to the end of the queue.
func TestRestartKeepsThePlace(t *testing.T) {
	for name, restart := range map[string]func(m *machine){
		"stopped": func(m *machine) { m.stop(); <-m.done },
		"killed":  (*machine).kill,
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(m *machine) {
				m.store.Put(lock.Edit{Set: map[string]string{"holder.other": busy}})
				m.settings.TooLong = 2 * time.Hour
				m.wanted = true
				m.start(Run)
				since := m.queuedSince()
				for range 3 {
					time.Sleep(time.Hour)
					restart(m)
					time.Sleep(time.Minute)
					m.start(Run)
					if again := m.queuedSince(); !again.Equal(since) {
						t.Errorf("it waits since %s and says %s", since, again)
					}
				}
				if told := strings.Count(m.log(), "the reboot is wanted for"); told != 1 {
					t.Errorf("told %d times that this takes long:\n%s", told, m.log())
				}
				// Another demand is another one.
				m.want(false)
				m.awaitPhase(status.Idle)
				restart(m)
				m.want(true)
				m.start(Run)
				if again := m.queuedSince(); !again.After(since.Add(3 * time.Hour)) {
					t.Errorf("a new demand stands since %s, when the old one began", again)
				}
			})
		})
	}
}

// A demand that went away while no daemon ran is over.
func TestDemandThatEndedUnseenIsForgotten(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.other": busy}})
		m.wanted = true
		m.start(Run)
		since := m.queuedSince()
		m.stop()
		<-m.done
		m.wanted = false
		m.start(Run)
		m.awaitPhase(status.Idle)
		time.Sleep(time.Minute)
		m.want(true)
		if again := m.queuedSince(); !again.After(since) {
			t.Errorf("it waits since %s", again)
		}
	})
}

// A try that was rolled back stands behind those who wait, also after a restart.
func TestRestartAfterARollBackKeepsTheEndOfTheQueue(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.drainEnd = true, func() drain.Result { return drain.Result{Err: drain.ErrTimeout} }
		begun := time.Now()
		m.start(Run)
		m.awaitPhase(status.BackingOff)
		m.store.Put(lock.Edit{Set: map[string]string{"holder.other": busy}})
		m.stop()
		<-m.done
		m.start(Run)
		if since := m.queuedSince(); since.Before(begun.Add(time.Minute)) {
			t.Errorf("it waits since %s, and began at %s", since, begun)
		}
	})
}

// Without a memory, or with one that lies, a place is lost and nothing else.
func TestMemoryHoldsNothingUp(t *testing.T) {
	for name, spoil := range map[string]func(m *machine){
		"fails": func(m *machine) { m.forgetful = errors.New("read-only file system") },
		"future": func(m *machine) {
			m.standing.Known, m.standing.Queued = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
		},
		"reversed": func(m *machine) {
			m.standing.Known, m.standing.Queued = time.Now(), time.Now().Add(-time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(m *machine) {
				m.store.Put(lock.Edit{Set: map[string]string{"holder.other": busy}})
				spoil(m)
				m.wanted = true
				begun := time.Now()
				m.start(Run)
				if since := m.queuedSince(); since.Before(begun.Truncate(time.Second)) || since.After(begun.Add(time.Minute)) {
					t.Errorf("it waits since %s, and began at %s", since, begun)
				}
				if said := strings.Contains(m.log(), "may lose the place in the queue: read-only"); said != (m.forgetful != nil) {
					t.Errorf("the log:\n%s", m.log())
				}
				m.store.Put(lock.Edit{Remove: []string{"holder.other"}})
				m.roll()
			})
		})
	}
}
