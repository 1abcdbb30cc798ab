package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv"
)

// tale builds evidence second by second.
type tale struct {
	evidence
	start time.Time
	nodes map[string]*corev1.Node
	lock  map[string]string
}

// at records a change at a second after the start.
func (s *tale) at(second float64, change func()) {
	change()
	when := s.time(second)
	for _, m := range s.machines {
		s.history.Versions = append(s.history.Versions, cluster.Version{At: when, Node: s.nodes[m.name].DeepCopy()})
	}
	lock := &corev1.ConfigMap{Data: make(map[string]string)}
	for k, v := range s.lock {
		lock.Data[k] = v
	}
	s.history.Versions = append(s.history.Versions, cluster.Version{At: when, Lock: lock})
}

func (s *tale) time(second float64) time.Time {
	return s.start.Add(time.Duration(second * float64(time.Second)))
}

func (s *tale) hold(name string)           { s.lock["holder."+name] = "{}" }
func (s *tale) release(name string)        { delete(s.lock, "holder."+name) }
func (s *tale) cordon(name string, c bool) { s.nodes[name].Spec.Unschedulable = c }

func (s *tale) boot(name, id string) { s.nodes[name].Status.NodeInfo.BootID = id }

// reboots lets a node reboot in ten seconds: five to drain, two down.
func (s *tale) reboots(i int, from float64) {
	m := &s.machines[i]
	s.at(from, func() { s.hold(m.name); s.cordon(m.name, true) })
	s.at(from+7, func() { s.boot(m.name, m.after) })
	s.at(from+9.5, func() { s.cordon(m.name, false) })
	s.at(from+10, func() { s.release(m.name) })
	m.boots = []nodes.Boot{
		{ID: m.before, Start: s.time(-100), End: s.time(from + 5), Ending: nodes.Rebooted},
		{ID: m.after, Start: s.time(from + 6)},
	}
}

func newTale() *tale {
	s := &tale{start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), nodes: make(map[string]*corev1.Node), lock: make(map[string]string)}
	s.evidence = evidence{wanted: s.start, fewest: 4, budget: 4, idleFor: time.Second}
	s.history.Before.Nodes = make(map[string]*corev1.Node)
	for _, name := range []string{"a", "b"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.NodeInfo.BootID = name + "1"
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		s.nodes[name], s.history.Before.Nodes[name] = n, n.DeepCopy()
		s.machines = append(s.machines, machine{name: name, system: "Debian", before: name + "1", after: name + "2"})
	}
	return s
}

func TestProof(t *testing.T) {
	s := newTale()
	s.reboots(1, 1) // b first
	s.reboots(0, 11.02)
	s.requests = []testenv.Request{{Verb: "get", Resource: "nodes"}, {Verb: "create", Resource: "pods", Subresource: "eviction"}, {Verb: "get", Resource: "nodes"}}
	p := prove(s.evidence)
	if len(p.failures) > 0 {
		t.Fatalf("failures: %q", p.failures)
	}
	text := strings.Join(p.lines(s.evidence, false), "\n")
	for _, want := range []string{
		"b     Debian  b1              b2\na     Debian  a1              a2",
		"b     9.5 s           5.0 s                 2.0 s               2500 ms",
		"most that held the lock at once    1",
		"1 cordoned or not Ready; machines down: 1",
		"21.0 s from the sentinels",
		"20 ms (b → a)",
		"8, 4.0 for each reboot",
		"3, 1.5 for each reboot\n                                     get nodes 2, create pods/eviction 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the proof lacks %q:\n%s", want, text)
		}
	}
}

func TestProofFails(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(*tale)
		want string // in one of the failures
	}{
		"two holders": {func(s *tale) { s.at(0.5, func() { s.hold("b") }); s.reboots(0, 1); s.reboots(1, 12) }, "at most 2 held the lock"},
		"two out": {func(s *tale) {
			s.reboots(0, 1)
			s.at(12, func() { s.nodes["a"].Status.Conditions = nil })
			s.reboots(1, 13)
		}, "at most 2 were out of service"},
		"two down": {func(s *tale) {
			s.reboots(0, 1)
			s.reboots(1, 12)
			s.machines[1].boots[0].End = s.time(7)
		}, "at most 2 machines were off"},
		"nobody rebooted":        {func(*tale) {}, "the lock was taken 0 times"},
		"one did not":            {func(s *tale) { s.reboots(0, 1) }, `b reported the boot ids ["b1"]`},
		"the same boot id again": {func(s *tale) { s.reboots(0, 1); s.machines[1].after = "b1"; s.reboots(1, 12) }, "b reported the boot ids"},
		"rebooted twice": {func(s *tale) {
			s.reboots(0, 1)
			s.reboots(1, 12)
			s.machines[1].boots = append(s.machines[1].boots, nodes.Boot{ID: "b3"})
		}, "b was switched on 3 times"},
		"lost power": {func(s *tale) {
			s.reboots(0, 1)
			s.reboots(1, 12)
			s.machines[0].boots[0].Ending = nodes.Died
		}, "a was switched on 2 times"},
		"still cordoned": {func(s *tale) { s.reboots(0, 1); s.reboots(1, 12); s.at(30, func() { s.cordon("a", true) }) }, "a was cordoned 2 times"},
		"uncordoned too early": {func(s *tale) {
			s.reboots(0, 1)
			s.at(12, func() { s.hold("b"); s.cordon("b", true) })
			s.at(13, func() { s.cordon("b", false) })
			s.at(14, func() { s.boot("b", "b2"); s.release("b") })
			s.machines[1].boots = s.machines[0].boots
		}, "b was uncordoned before it was Ready"},
		"lock kept":     {func(s *tale) { s.reboots(0, 1); s.reboots(1, 12); s.at(30, func() { s.hold("b") }) }, "b still holds the lock"},
		"budget broken": {func(s *tale) { s.reboots(0, 1); s.reboots(1, 12); s.fewest = 3 }, "only 3 pods"},
		"not idle":      {func(s *tale) { s.reboots(0, 1); s.reboots(1, 12); s.idle = make([]testenv.Request, 2) }, "kured made 2 API requests"},
		"record broken": {func(s *tale) { s.reboots(0, 1); s.reboots(1, 12); s.history.Versions[3].Relisted = true }, "the record has a hole"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTale()
			c.tell(s)
			p := prove(s.evidence)
			if !slices.ContainsFunc(p.failures, func(f string) bool { return strings.Contains(f, c.want) }) {
				t.Errorf("failures %q, want one with %q", p.failures, c.want)
			}
			p.lines(s.evidence, true) // also of no proof
		})
	}
}
