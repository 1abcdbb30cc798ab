package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// Setup is all that a history follows from.
type Setup struct {
	Seed    uint64
	Configs []Config // one for each machine
	Storm   time.Duration
	Faults  Faults
	Plan    []Planned // what happens during the storm
	Policy  map[string]string
	Wall    bool // the admission policy is installed

	Zones            int  // how many there are
	Budget, MinReady bool // count_unavailable and min_ready are configured

	Strike func(p *process, nth int, what string, f *fate) // changes the fate of a request, the nth of its machine

	Short   bool                          // no calm phase: the history ends with the storm
	Journal bool                          // the log of each process is part of the history
	Watcher func(*process, status.Status) // sees each published status
	Mutate  Mutation                      // breaks a rule, to see that it is noticed
}

// Config is what kured.toml says on a machine, and what the machine is.
type Config struct {
	Max, MinReady    intstr.IntOrString
	CountUnavailable bool
	Room, Priority   int
	Zone             string
	ControlPlane     bool
	Skew             time.Duration // of the machine's wall clock
}

// Faults is how often what goes wrong while the storm lasts.
type Faults struct {
	Latency   time.Duration // of one way, at most
	Lag       time.Duration // of a watch, at most
	Skip      float64       // a version that a watch never shows
	Refused   float64       // nothing listens
	Lost      float64       // a request that never arrives
	ReplyLost float64       // done, and the answer is lost
	Forbidden float64       // 403
	Late      float64       // a request that its sender has given up arrives all the same
	Stale     time.Duration // how old a list of Nodes can be
	NoList    bool          // nodes may not list Nodes
	Crash     float64       // the process is killed, half before and half after the request
}

// Planned is something that happens at a time.
type Planned struct {
	At time.Duration
	Do func(w *World)
}

// Mutation breaks a rule of kured, for tests of the laws.
type Mutation struct {
	Cluster func(*process, *cycle.Cluster)
	Lock    func(*process, *lock.Lock)
	Runner  func(*process, *cycle.Runner)
}

// fate is what becomes of one request.
type fate struct {
	there, back             time.Duration
	refused, lost, hangs    bool
	replyLost, late         bool
	crashBefore, crashAfter bool
	refusal                 error
	before, after           func() // happens right before it is sent, right after it has taken effect
}

// fate draws what becomes of a request. mu is held.
func (w *World) fate(p *process) fate {
	if w.calm {
		return fate{there: p.between(forThere, time.Millisecond, 5*time.Millisecond), back: p.between(forBack, time.Millisecond, 5*time.Millisecond)}
	}
	s := w.Faults
	f := fate{there: p.between(forThere, time.Millisecond, s.Latency), back: p.between(forBack, time.Millisecond, s.Latency)}
	if w.outage || p.m.cut {
		f.refused = p.draw(forFate)%2 == 0
		f.lost = !f.refused
		return f
	}
	f.late = p.roll(forLate, s.Late)
	x := float64(p.draw(forFate)>>11) / (1 << 53)
	for _, c := range []struct {
		p   float64
		hit func()
	}{
		{s.Refused, func() { f.refused = true }},
		{s.Lost, func() { f.lost = true }},
		{s.ReplyLost, func() { f.replyLost = true; f.hangs = p.draw(forHang)%4 == 0 }},
		{s.Forbidden, func() { f.refusal = forbidden("RBAC is not there yet") }},
		{s.Crash / 2, func() { f.crashBefore = true }},
		{s.Crash / 2, func() { f.crashAfter = true }},
	} {
		if x -= c.p; x < 0 {
			c.hit()
			break
		}
	}
	return f
}

func (w *World) skips() float64 {
	if w.calm {
		return 0
	}
	return w.Faults.Skip
}

func (w *World) lag() time.Duration {
	if w.calm {
		return 20 * time.Millisecond
	}
	return w.Faults.Lag
}

// Weather draws a cluster and what happens to it from a seed.
func Weather(seed uint64) Setup {
	r := rand.New(rand.NewPCG(seed, 0x6b75726564))
	s := Setup{Seed: seed, Storm: time.Duration(20+r.IntN(160)) * time.Minute}
	pick := func(ds ...time.Duration) time.Duration { return ds[r.IntN(len(ds))] }
	rate := func(ps ...float64) float64 { return ps[r.IntN(len(ps))] }
	s.Faults = Faults{
		Latency:   pick(4*time.Millisecond, 30*time.Millisecond, 2*time.Second),
		Lag:       pick(10*time.Millisecond, time.Second, time.Minute),
		Skip:      rate(0, 0, 0.1, 0.5),
		Refused:   rate(0, 0, 0.05),
		Lost:      rate(0, 0, 0.02, 0.1),
		ReplyLost: rate(0, 0, 0.03, 0.15),
		Forbidden: rate(0, 0, 0.02),
		Late:      rate(0, 0, 0.5),
		Crash:     rate(0, 0, 0.01, 0.04),
	}
	s.Faults.Stale = pick(0, time.Second, 10*time.Second)
	s.Faults.NoList = r.IntN(6) == 0
	s.Wall = r.IntN(2) == 0
	n := 2 + r.IntN(6)
	controlPlane := r.IntN(3) == 0
	if r.IntN(3) == 0 {
		s.Zones = 2 + r.IntN(2)
	}
	s.Budget = r.IntN(3) > 0
	s.MinReady = n >= 4 && !s.Faults.NoList && r.IntN(3) == 0
	common := s.drawConfig(r)
	for i := range n {
		c := common
		if r.IntN(6) == 0 {
			c = s.drawConfig(r)
		}
		if s.Zones > 0 {
			c.Zone = fmt.Sprintf("zone-%d", 1+i%s.Zones)
		}
		c.Priority = r.IntN(2) * r.IntN(3)
		c.Skew = time.Duration(r.IntN(3)-1) * time.Duration(r.IntN(72)) * time.Hour
		c.ControlPlane = controlPlane && i < 3
		s.Configs = append(s.Configs, c)
	}
	s.plan(r, n)
	return s
}

// drawConfig draws what a person may have written.
func (s *Setup) drawConfig(r *rand.Rand) Config {
	c := Config{Max: intstr.FromInt32(1), Room: 1 + r.IntN(8), Priority: r.IntN(2) * r.IntN(3), CountUnavailable: s.Budget}
	switch r.IntN(6) {
	case 0, 1:
		c.Max = intstr.FromInt32(int32(2 + r.IntN(3)))
	case 2:
		c.Max = intstr.FromString([]string{"10%", "40%", "50%"}[r.IntN(3)])
	}
	if s.Zones > 0 && r.IntN(8) > 0 {
		c.Zone = fmt.Sprintf("zone-%d", 1+r.IntN(s.Zones))
	}
	if s.MinReady {
		c.MinReady = []intstr.IntOrString{{}, intstr.FromInt32(1), intstr.FromString("50%"), intstr.FromString(lock.Quorum)}[r.IntN(4)]
	}
	return c
}

// plan draws what people, package managers and power do.
func (s *Setup) plan(r *rand.Rand, n int) {
	within := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
	any := func() int { return r.IntN(n) }
	add := func(at time.Duration, do func(w *World)) { s.Plan = append(s.Plan, Planned{at, do}) }
	on := func(i int, at time.Duration, do func(m *machine)) {
		add(at, func(w *World) {
			if m := w.machines[i]; !m.gone {
				do(m)
			}
		})
	}
	together := within(s.Storm / 2) // many want at once
	var wants []time.Duration
	for i := range n {
		if r.IntN(8) == 0 {
			continue
		}
		at := together
		if r.IntN(2) == 0 {
			at = within(s.Storm)
		}
		wants = append(wants, at)
		stays := r.IntN(8) / 7
		on(i, at, func(m *machine) { m.stays = stays; m.want(true) })
	}
	for range r.IntN(8 + int(s.Storm/(3*time.Minute))) {
		i, at, last := any(), within(s.Storm), within(20*time.Minute)
		if len(wants) > 0 && r.IntN(4) > 0 { // while somebody goes through the story
			at = wants[r.IntN(len(wants))] + within(8*time.Minute)
		}
		kinds[r.IntN(len(kinds))](s, r, i, at, last, on, add)
	}
}
