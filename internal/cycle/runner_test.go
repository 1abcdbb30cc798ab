package cycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// story runs a test in virtual time with one machine.
func story(t *testing.T, tell func(m *machine)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "a", locktest.New(nil))
		tell(m)
		m.stop()
		<-m.done
	})
}

// back asserts that nothing of ours is left in the cluster.
func (m *machine) back() {
	m.t.Helper()
	if left := m.store.Data(); len(left) != 0 {
		m.t.Errorf("left in the lock: %v", left)
	}
	if m.node().Unschedulable || m.node().Mark != "" {
		m.t.Errorf("left on the Node: %+v", m.node())
	}
}

func TestOneReboot(t *testing.T) {
	story(t, func(m *machine) {
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.want(true)
		m.roll()
		m.back()
		if m.rebooted() != 1 || m.spent != 1 {
			t.Errorf("%d reboots, %d spent", m.reboots, m.spent)
		}
		if n := len(m.lines); n > 15 {
			t.Errorf("%d lines for one cycle:\n%s", n, m.log())
		}
		if w := m.store.Counts().Writes; w > 8 {
			t.Errorf("%d lock writes for one cycle", w)
		}
		t.Logf("requests %d, lock %+v, journal:\n%s", m.requests, m.store.Counts(), m.log())
	})
}

// LAW 7: idle costs nothing, also when the sentinel's directory is busy.
func TestIdleAsksNothing(t *testing.T) {
	story(t, func(m *machine) {
		m.start(Run)
		m.awaitPhase(status.Idle)
		before := m.asked()
		for range 100 {
			time.Sleep(time.Hour)
			m.signal()
			synctest.Wait()
		}
		if m.asked() != before {
			t.Errorf("%d requests while idle", m.asked()-before)
		}
	})
}

// The daemon is killed after each request in turn, and started again. It goes
// on and reboots exactly once; a restart is never taken for a reboot.
func TestKilledAnywhere(t *testing.T) {
	for after := range 25 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			story(t, func(m *machine) {
				m.wanted = true
				m.start(Run)
				m.await("enough requests", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return m.requests >= after || m.reboots > 0
				})
				if m.rebooted() == 0 {
					m.kill()
					if err := m.afterBoot(); err != nil { // somebody starts the oneshot by hand
						t.Fatal(err)
					}
					if held := lock.Parse(m.store.Data()).Holders["a"]; m.node().Mark != "" && held.Boot == "" {
						t.Error("the oneshot took a lock of this boot away")
					}
					m.start(Run)
					m.awaitReboot()
				}
				m.kill()
				m.bootUp(false)
				if err := m.afterBoot(); err != nil {
					t.Fatal(err)
				}
				m.back()
				if m.rebooted() != 1 || strings.Count(m.log(), "rebooted: the boot id changed") != 1 {
					t.Errorf("%d reboots\n%s", m.reboots, m.log())
				}
				m.start(Run)
				m.awaitPhase(status.Idle)
			})
		})
	}
}

// Power is cut at each point of the cycle: the node comes back and recovers.
func TestPowerCutAnywhere(t *testing.T) {
	for after := range 25 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			story(t, func(m *machine) {
				m.wanted = true
				m.start(Run)
				m.await("enough requests", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return m.requests >= after || m.reboots > 0
				})
				m.kill()
				m.bootUp(false)
				m.start(Run) // before the oneshot: it must wait for its word
				time.Sleep(time.Minute)
				synctest.Wait()
				if p := m.status().Phase; len(m.store.Data()) > 0 && p != status.Returning && p != status.Idle {
					t.Errorf("phase %s with %v", p, m.store.Data())
				}
				m.kill()
				if err := m.afterBoot(); err != nil {
					t.Fatal(err)
				}
				m.start(Run)
				m.awaitPhase(status.Idle)
				m.back()
			})
		})
	}
}

// Three machines want at once and share one lock: one at a time, all come back.
func TestThreeMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := locktest.New(nil)
		store.Latency = 10 * time.Millisecond
		var all []*machine
		for _, name := range []string{"a", "b", "c"} {
			m := newMachine(t, name, store)
			m.wanted = true
			m.start(Run)
			all = append(all, m)
		}
		done := make(chan bool)
		for _, m := range all {
			go func() {
				for m.rebooted() == 0 {
					time.Sleep(time.Second)
				}
				m.kill()
				time.Sleep(time.Minute)
				m.bootUp(false)
				if err := m.afterBoot(); err != nil {
					t.Error(err)
				}
				m.start(Run)
				done <- true
			}()
		}
		for range all {
			<-done
		}
		for _, data := range store.History() {
			if n := len(lock.Parse(data).Holders); n > 1 {
				t.Errorf("%d holders: %v", n, data)
			}
		}
		for _, m := range all {
			m.awaitPhase(status.Idle)
			m.back()
			m.stop()
			<-m.done
		}
	})
}

func TestSentinelVanishes(t *testing.T) {
	for _, phase := range []status.Phase{status.Queued, status.Draining} {
		t.Run(string(phase), func(t *testing.T) {
			story(t, func(m *machine) {
				if phase == status.Queued {
					m.store.Put(lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}})
				}
				m.wanted = true
				m.start(Run)
				m.awaitPhase(phase)
				m.want(false)
				m.awaitPhase(status.Idle)
				m.store.Put(lock.Edit{Remove: []string{"holder.other"}})
				m.back()
				if log := m.log(); strings.Contains(log, string(status.DrainFailed)) ||
					strings.Contains(log, string(status.SentinelGone)) != (phase == status.Draining) {
					t.Errorf("not the reason why it was rolled back:\n%s", log)
				}
				m.want(true) // and again, at once: a new demand is no retry
				m.roll()
			})
		})
	}
}

func TestDrainTimesOut(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.drainEnd = func() drain.Result {
			return drain.Result{Err: drain.ErrTimeout, Progress: drain.Progress{Total: 1}}
		}
		m.start(Run)
		for try := 1; try <= 3; try++ {
			m.awaitPhase(status.BackingOff)
			m.back()
			s := m.status()
			if s.Next == nil || m.drains != try {
				t.Fatalf("try %d: %d drains, next %v", try, m.drains, s.Next)
			}
			want := 5 * time.Minute << (try - 1)
			if rest := time.Until(*s.Next).Round(time.Minute); rest != want {
				t.Errorf("try %d: back-off of %s, want %s", try, rest, want)
			}
			m.await("the back-off ends", func() bool { return m.status().Phase != status.BackingOff })
		}
		m.set(func() { m.drainEnd = nil })
		m.roll()
		m.back()
		if !strings.Contains(m.log(), string(status.DrainTimeout)) {
			t.Error("the reason was not told")
		}
	})
}

func TestRebootThatDoesNotHappen(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason status.Reason
	}{
		{&logind.RefusedError{Name: "org.freedesktop.DBus.Error.AccessDenied", Message: "no"}, status.RebootRefused},
		{logind.ErrUnconfirmed, status.RebootUnconfirmed},
	} {
		t.Run(string(c.reason), func(t *testing.T) {
			story(t, func(m *machine) {
				m.wanted, m.refuse = true, c.err
				m.start(Run)
				m.awaitPhase(status.BackingOff)
				m.back()
				if m.spent != 0 {
					t.Errorf("%d reboots spent", m.spent)
				}
				if log := m.log(); !strings.Contains(log, string(c.reason)) || strings.Contains(log, "boot id changed") {
					t.Error(log)
				}
			})
		})
	}
}

// The bus is gone after the call: probably going down, so nothing is given back.
func TestRebootWithoutAnAnswer(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.refuse, m.noBus = true, logind.ErrUnknown, true
		m.start(Run)
		m.awaitPhase(status.Rebooting)
		m.await("asked", func() bool { return m.spent == 1 })
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if len(m.store.Data()) != 1 || m.node().Mark == "" {
			t.Errorf("gave back: %v %+v", m.store.Data(), m.node())
		}
		// logind is back and says that nothing goes down: now it is safe.
		m.set(func() { m.noBus = false })
		m.awaitPhase(status.BackingOff)
		m.back()
	})
}

// LAW 3: a person's cordon stays, through the reboot and through a failed drain.
func TestForeignCordonStays(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("drain fails: %v", fails), func(t *testing.T) {
			story(t, func(m *machine) {
				m.wanted, m.self.Unschedulable = true, true
				if fails {
					m.drainEnd = func() drain.Result { return drain.Result{Err: drain.ErrTimeout} }
				}
				m.start(Run)
				if fails {
					m.awaitPhase(status.BackingOff)
				} else {
					m.roll()
				}
				if !m.node().Unschedulable || m.node().Mark != "" {
					t.Errorf("Node %+v", m.node())
				}
				if len(m.store.Data()) != 0 {
					t.Errorf("left in the lock: %v", m.store.Data())
				}
			})
		})
	}
}

// An admin releases the lock while we drain: no reboot, uncordoned, not at once again.
func TestLockReleasedMidDrain(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.await("cordoned", func() bool { return m.node().Mark != "" })
		m.store.Put(lock.Edit{Remove: []string{"holder.a"}})
		m.awaitPhase(status.BackingOff)
		m.back()
		if m.rebooted() != 0 {
			t.Error("rebooted without the lock")
		}
	})
}

// The Node object is deleted and registers again while we drain: to the others
// our entry is one of a node that is gone. No reboot.
func TestNodeCreatedAnewMidDrain(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.await("cordoned", func() bool { return m.node().Mark != "" })
		m.set(func() { m.self = node.State{UID: "another"} })
		m.awaitPhase(status.BackingOff)
		m.back()
		if m.rebooted() != 0 {
			t.Error("rebooted with an entry that counts no more")
		}
		m.roll()
	})
}

// kured-uncordon takes a cordon off whose lock an admin has released. What the daemon of this boot has taken meanwhile
// stays.
func TestReturnBesideTheDaemon(t *testing.T) {
	story(t, func(m *machine) {
		m.self.Unschedulable, m.self.Mark = true, "of another boot"
		m.start(Return)
		time.Sleep(5 * time.Second) // it waits for Ready
		m.store.Put(lock.Edit{Set: map[string]string{"holder.a": fmt.Sprintf(`{"v":1,"boot":%q,"phase":"locked","max":1,"uid":"uid-a"}`, m.bootID())}})
		if <-m.done; m.err != nil {
			t.Error(m.err)
		}
		if len(m.store.Data()) != 1 {
			t.Error("released the lock that the daemon holds")
		}
		if m.node().Unschedulable {
			t.Error("still cordoned")
		}
	})
}

// The Node object is deleted and registers again while we wait for our turn. The entry that we then write is one of a
// node that is gone, so the next one may go, too: nothing on this node may begin.
func TestNodeCreatedAnewInTheQueue(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}})
		m.wanted = true
		m.start(Run)
		m.awaitPhase(status.Queued)
		m.mu.Lock()
		m.self = node.State{UID: "another"}
		m.mu.Unlock()
		m.store.Put(lock.Edit{Remove: []string{"holder.other"}})
		m.await("took the lock for the Node that was", func() bool { return strings.Contains(m.store.Data()["holder.a"], "uid-a") })
		m.await("gave it back", func() bool {
			if m.node().Mark != "" {
				t.Fatal("cordoned with an entry that counts no more")
			}
			return m.store.Data()["holder.a"] == ""
		})
		m.roll()
		m.back()
	})
}

// A person's cordon that is lifted while we wait for our turn does not stand in for ours.
func TestForeignCordonGoesInTheQueue(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}})
		m.wanted, m.self.Unschedulable = true, true
		m.start(Run)
		m.awaitPhase(status.Queued)
		m.mu.Lock()
		m.self.Unschedulable = false
		m.mu.Unlock()
		m.store.Put(lock.Edit{Remove: []string{"holder.other"}})
		m.awaitPhase(status.Draining)
		if m.node().Mark == "" {
			t.Error("drains a node that takes new pods")
		}
		m.roll()
		m.back()
	})
}

// A shutdown that was accepted and does not come is told, and nothing is given back.
func TestRebootOverdue(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.awaitReboot()
		m.await("told", func() bool { return m.status().Reason == status.RebootOverdue })
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if strings.Count(m.log(), string(status.RebootOverdue)) != 1 || m.node().Mark == "" || len(m.store.Data()) != 1 || !m.heard(status.EventHeld) {
			t.Errorf("%v %+v\n%s", m.store.Data(), m.node(), m.log())
		}
	})
}

// kured-uncordon.service does not run, for example because a health check has failed: people are told, once, and not while
// it may still settle.
func TestReturnOverdue(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.settings.WayBack = true, time.Hour
		m.start(Run)
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.start(Run)
		m.awaitPhase(status.Returning)
		time.Sleep(time.Hour)
		if m.heard(status.EventHeld) {
			t.Error("told of what is meant to be so")
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		m.mu.Lock()
		told := slices.Clone(m.events)
		m.mu.Unlock()
		if !slices.Equal(told, []status.Event{status.EventDrain, status.EventReboot, status.EventHeld}) ||
			strings.Count(m.log(), "is not back in service") != 1 || len(m.store.Data()) != 1 {
			t.Errorf("told %v, lock %v\n%s", told, m.store.Data(), m.log())
		}
	})
}

// kured-uncordon.service is ended between the uncordon and the release: what is said of the cordon stays true.
func TestReturnInTwoAttempts(t *testing.T) {
	for _, cordoned := range []bool{false, true} {
		story(t, func(m *machine) {
			m.wanted, m.self.Unschedulable = true, cordoned
			m.settings.ReleaseDelay = 10 * time.Minute
			m.start(Run)
			m.awaitReboot()
			m.kill()
			m.bootUp(false)
			m.start(Return)
			m.await("delay", func() bool { return m.status().Reason == status.ReleaseDelayed })
			m.kill()
			if err := m.afterBoot(); err != nil {
				t.Fatal(err)
			}
			if m.node().Unschedulable != cordoned || strings.Contains(m.log(), "cordoned by somebody else and stays so") != cordoned {
				t.Errorf("Node %+v\n%s", m.node(), m.log())
			}
		})
	}
}

// The API server is away when the release delay ends: the lock is released when it is back, and not a whole delay later.
func TestReleaseFailsAfterTheDelay(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.settings.ReleaseDelay = 10 * time.Minute
		m.start(Run)
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.start(Return)
		m.await("delay", func() bool { return m.status().Reason == status.ReleaseDelayed })
		begun := time.Now()
		m.set(func() { m.apiDown = true })
		time.Sleep(11 * time.Minute)
		if len(m.store.Data()) != 1 {
			t.Fatalf("lock %v", m.store.Data())
		}
		m.set(func() { m.apiDown = false })
		<-m.done
		if took := time.Since(begun); m.err != nil || took > 12*time.Minute {
			t.Errorf("released after %s, %v", took, m.err)
		}
		m.back()
	})
}

// A daemon that waits for kured-uncordon.service is not deaf: a demand of the new boot is served when that
// is done, not when the daemon would have looked anyway.
func TestDemandRightAfterReturn(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.start(Run)
		m.awaitPhase(status.Returning)
		m.store.Put(lock.Edit{Remove: []string{"holder.a"}}) // what kured-uncordon.service does
		m.mu.Lock()
		m.self.Unschedulable, m.self.Mark = false, ""
		m.mu.Unlock()
		asked := time.Now()
		m.want(true)
		m.awaitPhase(status.Draining)
		if took := time.Since(asked); took >= time.Second {
			t.Errorf("noticed after %s", took)
		}
		m.roll()
	})
}

// Nor does the daemon long claim to wait for kured-uncordon.service when that is done.
func TestReturnIsNoticed(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.start(Run)
		m.awaitPhase(status.Returning)
		begun, before := time.Now(), m.asked()
		time.Sleep(3 * time.Second)
		m.store.Put(lock.Edit{Remove: []string{"holder.a"}}) // what kured-uncordon.service does
		m.mu.Lock()
		m.self.Unschedulable, m.self.Mark = false, ""
		m.mu.Unlock()
		m.awaitPhase(status.Idle)
		if took, asked := time.Since(begun), m.asked()-before; took > 6*time.Second || asked > 8 {
			t.Errorf("noticed after %s and %d requests", took, asked)
		}
	})
}

// What this kured cannot read holds; when it is gone the node goes on.
func TestUnreadableEntryHolds(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.a": `{"v":9}`}})
		m.wanted = true
		m.start(Run)
		m.awaitPhase(status.Held)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if m.rebooted() != 0 || m.node().Unschedulable || len(m.store.Data()) != 1 {
			t.Errorf("did not hold: %v", m.store.Data())
		}
		m.store.Put(lock.Edit{Remove: []string{"holder.a"}})
		m.roll()
	})
}

// The oneshot holds as well, and says why when its time is up.
func TestUnreadableEntryHoldsTheReturn(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.a": `{"v":9}`}})
		m.start(Return)
		time.Sleep(2 * time.Minute)
		m.stop()
		if <-m.done; m.err == nil || !strings.Contains(m.err.Error(), "cannot be read") {
			t.Errorf("error %v", m.err)
		}
		if len(m.store.Data()) != 1 {
			t.Error("removed what it cannot read")
		}
	})
}

// A package that is removed from a machine of no cluster waits for nothing.
func TestAbandonWithoutACluster(t *testing.T) {
	story(t, func(m *machine) {
		m.dialError = status.Because(status.NoCredential, errors.New("kubeconfig not found"))
		begun := time.Now()
		m.start(Abandon)
		if <-m.done; m.err == nil || time.Since(begun) > 0 {
			t.Errorf("ended after %s with %v", time.Since(begun), m.err)
		}
	})
}

// The API server is away at the start, while draining, and after boot.
func TestOutages(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.apiDown = true, true
		m.start(Run)
		m.await("told", func() bool { return m.status().Reason == status.APIUnreachable })
		before := m.asked()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := m.asked() - before; n < 60 || n > 200 {
			t.Errorf("%d tries in an hour", n)
		}
		m.set(func() { m.apiDown = false })
		m.awaitPhase(status.Draining)
		m.set(func() { m.apiDown = true })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if m.rebooted() != 0 {
			t.Error("rebooted without the fence")
		}
		m.set(func() { m.apiDown = false })
		m.awaitReboot()
		m.kill()
		m.bootUp(false)
		m.set(func() { m.apiDown = true })
		m.start(Return)
		time.Sleep(2 * time.Minute)
		m.set(func() { m.apiDown = false })
		if <-m.done; m.err != nil {
			t.Fatal(m.err)
		}
		m.back()
	})
}

// The credential is not valid any more: it is read again, with a new connection.
func TestCredentialIsRefused(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.awaitPhase(status.Draining)
		m.set(func() { m.denied = apierrors.NewUnauthorized("expired") })
		m.await("told", func() bool { return m.status().Reason == status.APIForbidden })
		m.mu.Lock()
		dials := m.dials
		m.mu.Unlock()
		m.await("another connection", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.dials > dials })
		m.set(func() { m.denied = nil })
		m.roll()
	})
}

// The sentinel appears in the moment in which the node is announced idle, so that the announcement is written and the
// signal is taken for its end. It is not lost.
func TestDemandAtTheEndOfTheLastWord(t *testing.T) {
	story(t, func(m *machine) {
		m.mute = func(context.Context) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.wanted = true // and its signal is gone already
			return nil
		}
		m.start(Run)
		m.awaitReboot()
	})
}

// Another configuration that comes while a node only looks is not left until something happens.
func TestReloadWhileTheGatesAreAsked(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.gates = true, gate.Verdict{Reason: status.OutsideWindow, Detail: "closed"}
		var once sync.Once
		next := m.parts()
		next.Gates = gate.Set{}
		m.asking = func() {
			once.Do(func() {
				m.reload <- next
				time.Sleep(time.Second)
			})
		}
		m.start(Run)
		m.await("the lock", func() bool { return len(m.store.Data()) > 0 })
		m.set(func() { m.gates = gate.Verdict{Open: true} }) // the fake logind looks at them
		m.roll()
	})
}

// What others say is told in one line that moves no cursor.
func TestWordsOfOthers(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted, m.dialError = true, errors.New("no\n\x1b[31mway"+strings.Repeat(" in", 10000))
		m.start(Run)
		m.await("told", func() bool { return m.status().Reason == status.APIUnreachable })
		if s := m.status(); !strings.HasPrefix(s.Detail, "no [31mway in in") || len(s.Detail) > 2*maxDetail || len(m.log()) > 3*maxDetail {
			t.Errorf("%.200q, a log of %d bytes", s.Detail, len(m.log()))
		}
		m.set(func() {
			m.dialError, m.gates = nil, gate.Verdict{Reason: status.SentinelUnreadable, Detail: "one\nanother"}
		})
		m.await("told", func() bool { return m.status().Reason == status.SentinelUnreadable })
		if s := m.status(); s.Detail != "one another" || s.Gates[0].Detail != "one another" {
			t.Errorf("%+v", s)
		}
	})
}

// The oneshot's time is up before the API answers: an error that says so.
func TestReturnGivesUpWithAReason(t *testing.T) {
	story(t, func(m *machine) {
		m.apiDown = true
		m.start(Return)
		time.Sleep(2 * time.Minute)
		m.stop()
		if <-m.done; m.err == nil || !strings.Contains(m.err.Error(), "connection refused") {
			t.Errorf("error %v", m.err)
		}
	})
}

// A gate closes while we wait for our turn: we leave the room, and come back.
func TestGateClosesInTheQueue(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}})
		m.wanted = true
		m.start(Run)
		m.await("in the room", func() bool { return m.store.Data()["waiter.a"] != "" })
		m.set(func() { m.gates = gate.Verdict{Reason: status.Inhibited, Detail: "apt", Passing: true} })
		m.await("left the room", func() bool { return m.store.Data()["waiter.a"] == "" })
		m.awaitPhase(status.Blocked)
		m.set(func() { m.gates = gate.Verdict{Open: true} })
		m.await("in the room again", func() bool { return m.store.Data()["waiter.a"] != "" })
	})
}

// apt starts while we drain: wait for it; if it takes too long, roll back.
func TestInhibitorMidDrain(t *testing.T) {
	for _, long := range []bool{false, true} {
		t.Run(fmt.Sprintf("long: %v", long), func(t *testing.T) {
			story(t, func(m *machine) {
				m.wanted = true
				m.start(Run)
				m.awaitPhase(status.Draining)
				m.set(func() { m.gates = gate.Verdict{Reason: status.Inhibited, Detail: "apt", Passing: true} })
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if m.rebooted() != 0 || m.node().Mark == "" {
					t.Error("did not wait")
				}
				if long {
					m.await("rolled back", func() bool { return m.node().Mark == "" })
					m.back()
					m.await("told", func() bool { return m.status().Phase == status.BackingOff || m.status().Phase == status.Blocked })
					return
				}
				m.set(func() { m.gates = gate.Verdict{Open: true} })
				m.roll()
			})
		})
	}
}

// systemd stops the daemon: the waiting room is left, a lock is kept.
func TestStopped(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}})
		m.wanted = true
		m.start(Run)
		m.await("in the room", func() bool { return m.store.Data()["waiter.a"] != "" })
		m.stop()
		<-m.done
		if m.store.Data()["waiter.a"] != "" {
			t.Error("still in the room")
		}
		m.store.Put(lock.Edit{Remove: []string{"holder.other"}})
		m.start(Run)
		m.awaitPhase(status.Draining)
		m.stop()
		<-m.done
		if len(m.store.Data()) != 1 || m.node().Mark == "" {
			t.Error("gave back what the next start needs")
		}
		m.start(Abandon) // the package is removed
		if <-m.done; m.err != nil {
			t.Error(m.err)
		}
		m.back()
	})
}

// The lock is released while a drained node waits for apt, under a daemon that was restarted: no drain without the lock.
func TestLockReleasedWhileAnInhibitorIsWaitedFor(t *testing.T) {
	story(t, func(m *machine) {
		m.wanted = true
		m.start(Run)
		m.awaitPhase(status.Draining)
		m.kill()
		m.gates = gate.Verdict{Reason: status.Inhibited, Detail: "apt", Passing: true}
		m.start(Run)
		m.await("waits", func() bool { return m.status().Reason == status.Inhibited })
		m.store.Put(lock.Edit{Remove: []string{"holder.a"}})
		m.set(func() { m.gates = gate.Verdict{Open: true} })
		m.awaitPhase(status.BackingOff)
		if m.drains != 1 {
			t.Error("drained without the lock")
		}
		m.back()
		m.roll()
	})
}

// A node that rebooted while it stood in the waiting room, and has no demand
// any more, takes its name out.
func TestForgottenWaiter(t *testing.T) {
	story(t, func(m *machine) {
		m.store.Put(lock.Edit{Set: map[string]string{"waiter.a": `{"v":1}`}})
		m.start(Run)
		m.awaitPhase(status.Idle)
		m.await("left", func() bool { return len(m.store.Data()) == 0 })
	})
}

// The watchdog's question is answered in every phase.
func TestAlive(t *testing.T) {
	story(t, func(m *machine) {
		m.start(Run)
		alive := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
			defer cancel()
			if err := m.runner.Alive(ctx); err != nil {
				t.Errorf("phase %s: %v", m.status().Phase, err)
			}
		}
		for _, prepare := range []func(){
			func() { m.awaitPhase(status.Idle) },
			func() {
				m.set(func() { m.gates = gate.Verdict{Reason: status.Inhibited, Passing: true}; m.wanted = true })
				m.awaitPhase(status.Blocked)
			},
			func() {
				m.store.Put(lock.Edit{Set: map[string]string{"holder.other": `{"v":1,"boot":"1","phase":"draining","max":1,"uid":"u"}`}})
				m.set(func() { m.gates = gate.Verdict{Open: true} })
				m.awaitPhase(status.Queued)
			},
			func() {
				m.store.Put(lock.Edit{Remove: []string{"holder.other"}})
				m.awaitPhase(status.Draining)
			},
			func() { m.awaitReboot() },
		} {
			prepare()
			alive()
		}
		m.stop()
		<-m.done
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
		defer cancel()
		if err := m.runner.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a loop that ended answers: %v", err)
		}
	})
}
