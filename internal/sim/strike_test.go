package sim

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// strikes are what can happen at one request of a node that reboots. mu is held.
var strikes = map[string]func(p *process, f *fate){
	"the process is killed before it":   func(_ *process, f *fate) { f.crashBefore = true },
	"the process is killed, it arrives": func(_ *process, f *fate) { f.crashBefore, f.late = true, true },
	"the process is killed after it":    func(_ *process, f *fate) { f.crashAfter = true },
	"it is lost":                        func(_ *process, f *fate) { f.lost = true },
	"it is refused":                     func(_ *process, f *fate) { f.refusal = forbidden("RBAC is not there yet") },
	"its answer is lost":                func(_ *process, f *fate) { f.replyLost = true },
	"its answer hangs":                  func(_ *process, f *fate) { f.replyLost, f.hangs = true, true },
	"power is cut before it":            func(p *process, f *fate) { f.before = func() { p.m.powerOff(time.Minute) } },
	"power is cut after it":             func(p *process, f *fate) { f.after = func() { p.m.powerOff(time.Minute) } },
	"its Node is deleted before it":     func(p *process, f *fate) { f.before = renew(p) },
	"its Node is deleted after it":      func(p *process, f *fate) { f.after = renew(p) },
	"its lock is released before it":    func(p *process, f *fate) { f.before = func() { p.w.release(p.m, "so", 1) } },
	"its lock is released after it":     func(p *process, f *fate) { f.after = func() { p.w.release(p.m, "so", 1) } },
	"a person cordons the node":         func(p *process, f *fate) { f.before = func() { p.w.person(p.m, true) } },
	"a person uncordons the node":       func(p *process, f *fate) { f.after = func() { p.w.person(p.m, false) } },
	"the sentinel vanishes":             func(p *process, f *fate) { f.before = func() { p.m.want(false) } },
	pauses: func(p *process, f *fate) {
		f.before = func() {
			p.w.setPolicy(map[string]string{"paused": "a release is under way"})
			p.w.at(p.w.actor, 10*time.Minute, func() { p.w.setPolicy(nil) })
		}
	},
	"the API goes away for 10 minutes": func(p *process, f *fate) {
		f.before = func() {
			p.w.outage = true
			p.w.at(p.w.actor, 10*time.Minute, func() { p.w.outage = false })
		}
	},
}

// pauses is the one that the wall knows of before the node does.
const pauses = "the cluster is paused before it"

// renew deletes the Node; the kubelet registers it again after a while.
func renew(p *process) func() {
	return func() {
		p.w.deleteNode(p.m)
		p.w.at(p.m.actor, 20*time.Second, func() {
			if p.m.up {
				p.w.register(p.m)
			}
		})
	}
}

// TestEachRequest tells the story of two nodes that reboot in turn, again and
// again: each time something else happens at another request of the first one.
func TestEachRequest(t *testing.T) {
	for what, strike := range strikes {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			step, refused := 1, 0
			if *seeds < 1000 { // make sim goes through all
				step = 3
			}
			for nth, last := 0, 0; nth <= last; nth += step { // at request 0 nothing happens
				s := Setup{Seed: uint64(nth), Wall: true, Storm: time.Hour, Faults: Faults{Latency: 5 * time.Millisecond, Lag: 5 * time.Millisecond}}
				for range 2 {
					s.Configs = append(s.Configs, Config{Max: intstr.FromInt32(1), Room: 8})
				}
				for i := range 2 {
					s.Plan = append(s.Plan, Planned{time.Minute, func(w *World) { w.machines[i].want(true) }})
				}
				s.Strike = func(p *process, n int, request string, f *fate) {
					if p.m.i == 0 && n == nth {
						p.w.note(p.who, "*** %s: %s", what, request)
						strike(p, f)
					}
				}
				w := tell(t, s)
				if nth == 0 {
					last = w.machines[0].sent + 10
				}
				if broken := w.Broken(); len(broken) > 0 {
					s.Journal = true
					t.Fatalf("at request %d:\n%s\n%s", nth, broken, tell(t, s).History())
				}
				if w.machines[1].boot < 2 {
					t.Fatalf("at request %d: the second node never rebooted:\n%s", nth, fmt.Sprint(w.History()))
				}
				refused += w.Counts().Refused
			}
			if what == pauses && step == 1 && refused == 0 {
				t.Error("the wall refused nothing")
			}
		})
	}
}
