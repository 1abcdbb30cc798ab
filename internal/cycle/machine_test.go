package cycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// machine is a fake node on which the real Runner and the real lock run: a
// Node object, pods, logind and a sentinel, in virtual time.
type machine struct {
	t     *testing.T
	name  string
	store *locktest.Memory
	rules lock.Rules // nil: none

	mu          sync.Mutex
	boot        int
	reboots     int
	self        node.State
	wanted      bool
	changed     chan struct{}
	gates       gate.Verdict
	drainFor    time.Duration
	drainEnd    func() drain.Result // how the drain ends; nil: drained
	refuse      error               // of Reboot
	noBus       bool
	apiDown     bool
	dialError   error
	dials       int
	denied      error // what the API server answers; nil: what it is asked
	requests    int
	spent       int
	lines       []string
	statuses    []status.Status
	drains      int
	dress       bool // something comes with the cordon
	preflight   drain.Report
	attachedFor time.Duration
	notReady    bool                                          // after a boot, for now
	settings    Settings                                      // beyond those that every machine has
	hooks       func(ctx context.Context, phase string) error // nil: none
	hooked      []string
	announced   []string
	cancelled   bool // the announcement, by somebody
	silences    []string
	quiet       int // silences that are renewed
	conditions  []string
	shown       []string                    // "phase reason" as it was announced
	told        []string                    // the same of Events
	verified    time.Time                   // as announced
	mute        func(context.Context) error // of Announce and Record; nil: nothing is wrong
	unfit       error                       // what Cordon would show
	events      []status.Event
	reload      chan Parts
	standing    sentinel.Standing // as kept in /run
	forgetful   error             // of the memory
	writing     func(lock.Edit)   // called before each write of the lock; nil: nothing
	asking      func()            // called before each look at the gates; nil: nothing

	runner *Runner
	stop   context.CancelFunc
	done   chan struct{} // closed at the end of the command
	err    error         // of the command, after done
}

func newMachine(t *testing.T, name string, store *locktest.Memory) *machine {
	return &machine{t: t, name: name, store: store, boot: 1, changed: make(chan struct{}, 1), reload: make(chan Parts, 1),
		gates: gate.Verdict{Open: true}, drainFor: time.Minute, self: node.State{UID: "uid-" + name}}
}

func (m *machine) bootID() string { return fmt.Sprintf("%032x", m.boot) }

// start starts a command on the machine as it is now.
func (m *machine) start(mode Mode) {
	m.mu.Lock()
	r := &Runner{
		Mode: mode, Boot: m.bootID(), Parts: m.parts(),
		Reload: m.reload,
		Publish: func(s status.Status) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.statuses = append(m.statuses, s)
		},
	}
	if mode != Run { // as the command does it
		r.Demand, r.Gates, r.Budget = nil, nil, nil
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	m.runner, m.stop, m.done = r, cancel, make(chan struct{})
	m.mu.Unlock()
	go func() {
		defer close(m.done)
		m.err = r.Do(ctx)
	}()
}

// parts are what the configuration makes of the machine.
func (m *machine) parts() Parts {
	s := m.settings
	s.SilenceUntil = time.Now().Add(15 * time.Minute)
	s.ConfirmWithin, s.Patience, s.BackOff, s.BackOffMax, s.Overdue = 30*time.Second, 5*time.Minute, 5*time.Minute, time.Hour, 10*time.Minute
	p := Parts{
		Dial: m.dial, Host: (*host)(m), Demand: m, Memory: (*memory)(m), Gates: (*gates)(m), Budget: (*budget)(m), Announcer: (*announcer)(m),
		Tell: func(o status.Occurrence) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.events = append(m.events, o.Event)
		},
		Settings: s, Log: slog.New(slog.NewTextHandler((*journal)(m), nil)),
	}
	if m.hooks != nil {
		p.Hooks = (*hooks)(m)
	}
	return p
}

// kill ends the command without a word, as SIGKILL does: nothing that it
// would still send arrives.
func (m *machine) kill() {
	m.mu.Lock()
	down := m.apiDown
	m.apiDown = true
	m.mu.Unlock()
	m.stop()
	<-m.done
	m.mu.Lock()
	m.apiDown = down
	m.mu.Unlock()
}

// bootUp is what happens after the firmware: a new boot id, and the sentinel
// in /run is gone unless it stays.
func (m *machine) bootUp(sentinelStays bool) {
	m.mu.Lock()
	m.boot++
	m.wanted, m.standing = m.wanted && sentinelStays, sentinel.Standing{}
	m.mu.Unlock()
}

// afterBoot runs the oneshot to its end.
func (m *machine) afterBoot() error {
	m.start(Return)
	<-m.done
	return m.err
}

func (m *machine) want(wanted bool) {
	m.mu.Lock()
	m.wanted = wanted
	m.mu.Unlock()
	m.signal()
}

func (m *machine) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *machine) set(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	m.signal()
}

func (m *machine) rebooted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reboots
}

// asked is the number of requests so far.
func (m *machine) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests
}

func (m *machine) node() node.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self
}

func (m *machine) status() status.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.statuses) == 0 {
		return status.Status{}
	}
	return m.statuses[len(m.statuses)-1]
}

func (m *machine) log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines, "")
}

// await waits in virtual time until ok.
func (m *machine) await(what string, ok func() bool) {
	m.t.Helper()
	for range 100000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	m.t.Fatalf("never: %s; status %+v\n%s", what, m.status(), m.log())
}

func (m *machine) awaitPhase(p status.Phase) {
	m.t.Helper()
	m.await("phase "+string(p), func() bool { return m.status().Phase == p })
}

func (m *machine) awaitReboot() {
	m.t.Helper()
	synctest.Wait()
	before := m.rebooted()
	if m.boot == before {
		return // it is going down already
	}
	m.await("reboot", func() bool { return m.rebooted() > before })
}

// roll carries a started machine through one whole reboot.
func (m *machine) roll() {
	m.t.Helper()
	m.awaitReboot()
	m.kill()
	m.bootUp(false)
	if err := m.afterBoot(); err != nil {
		m.t.Fatalf("return: %v", err)
	}
	m.start(Run)
	m.awaitPhase(status.Idle)
}

func (m *machine) request(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	if m.apiDown {
		return errors.New("connection refused")
	}
	return cmp.Or(m.denied, ctx.Err())
}

func (m *machine) dial(ctx context.Context) (*Cluster, error) {
	m.mu.Lock()
	m.dials++
	m.mu.Unlock()
	if err := m.request(ctx); err != nil || m.dialError != nil {
		return nil, errors.Join(err, m.dialError)
	}
	uid := m.node().UID
	turn := &lock.Lock{Store: &line{m}, Rules: m.rules, Pace: lock.DefaultPace(), Node: m.name, UID: uid, Boot: m.bootID(), Max: intstr.FromInt32(1), Room: 8}
	self := (*self)(m)
	return &Cluster{Node: m.name, UID: uid, Turn: turn, Entries: turn, Self: self, Pods: self, Signs: (*signBoard)(m), Chronicle: (*scribe)(m),
		Ready: []Proof{{status.NotReady, self.AwaitReadyReport}}, Silencer: (*silencer)(m), Close: func() {}}, nil
}
