package cycle

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// Turn is our turn in the cluster.
type Turn interface {
	Acquire(ctx context.Context, d lock.Demand, report func(lock.Report)) error
	Advance(ctx context.Context, phase status.Phase) error
	Release(ctx context.Context, boot string) error // the entry of that boot, and the place in the waiting room
}

// Entries is what the lock says of us.
type Entries interface {
	Read(ctx context.Context) (lock.Own, error)
}

// Node is our Node object.
type Node interface {
	Get(ctx context.Context) (node.State, error)
	Cordon(ctx context.Context) (marked bool, err error)
	Uncordon(ctx context.Context, mark string) (changed bool, err error)
}

// Pods moves the pods off our node.
type Pods interface {
	Drain(ctx context.Context, o node.DrainOptions, report func(node.Progress)) node.Result
}

// Readiness waits until our node is Ready in this boot.
type Readiness interface {
	AwaitReadyReport(ctx context.Context, report func(missing string)) error
}

// Cluster is the API server as this node may use it. It exists only while
// there is something to do.
type Cluster struct {
	Node      string // our name
	UID       string // of our Node object
	Turn      Turn
	Entries   Entries
	Self      Node
	Pods      Pods
	Readiness Readiness
	Close     func() // ends every connection
}

// Host is logind.
type Host interface {
	Reboot(ctx context.Context, confirmWithin time.Duration) error
	AwaitCancelled(ctx context.Context) error
	PreparingForShutdown(ctx context.Context) (bool, error)
}

// Demand is the sentinel.
type Demand interface {
	State() sentinel.State
	Changed() <-chan struct{}
}

// Gates say whether we may go now.
type Gates interface {
	Check(ctx context.Context, at gate.Moment) gate.Verdict
	Watch(ctx context.Context, last gate.Verdict) <-chan struct{}
}

// Budget records each reboot that is asked for.
type Budget interface {
	Spend() error
	Refund() error
}

// Settings are the Runner's numbers.
type Settings struct {
	ConfirmWithin time.Duration // PrepareForShutdown(true) must come this soon after Reboot
	Patience      time.Duration // a drained node waits this long for an inhibitor before it rolls back
	BackOff       time.Duration // after the first rolled back try; doubled after each
	BackOffMax    time.Duration
	Overdue       time.Duration // an accepted reboot that takes longer than this is told loudly
	Drain         node.DrainOptions
}

// Runner carries one node through the story. All fields are set before Do and
// not changed after it.
type Runner struct {
	Mode     Mode
	Boot     string                                      // this boot's id
	Dial     func(ctx context.Context) (*Cluster, error) // connects and learns who we are
	Host     Host
	Demand   Demand
	Gates    Gates
	Budget   Budget
	Settings Settings
	Log      *slog.Logger
	Publish  func(status.Status) // each change of the status; must not block
	Rest     func()              // called when a time with nothing to do begins; nil: nothing
	// Jitter returns a random part of d, 0 ≤ x < d; nil: math/rand/v2.
	Jitter func(d time.Duration) time.Duration

	once  sync.Once
	pings chan chan struct{}

	cluster   *Cluster // nil: not connected
	seen      Observation
	holder    *lock.Holder  // our entry as last read
	mark      string        // of our cordon as last read, "" for none
	note      *node.Release // of an admin who released our lock, as last read on our Node
	lockLost  bool          // a write found that our lock is gone; the next look says who it was
	errors    int           // of effectors, in a row
	attempts  int           // rolled back tries in a row
	restTill  time.Time     // end of the back-off
	restWhy   string        // for people, of a back-off that was somebody's doing
	waitTill  time.Time     // end of the patience with a gate
	demanded  sentinel.State
	queuedAt  time.Time // since when this demand asks for the lock
	nagged    bool      // it was told that the way back takes long
	enforced  *bool     // as told last: whether the API server keeps the lock's rules
	uncounted string    // as told last: why nodes that are down are not counted
	shared    bool      // the next Acquire starts at an instant that many share
	now       status.Status
}

func (r *Runner) init() {
	r.once.Do(func() { r.pings = make(chan chan struct{}) })
}

// Alive returns nil when the Runner's loop answers before ctx ends: the proof
// of life for systemd's watchdog.
func (r *Runner) Alive(ctx context.Context) error {
	r.init()
	answer := make(chan struct{})
	select {
	case r.pings <- answer:
		<-answer
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Do tells the story until ctx ends or, in the modes Return and Abandon, until
// there is nothing left to do. In those modes an error says what was in the
// way when ctx ended; a daemon that is told to stop has none. An error that
// says of itself that it is permanent ends every mode.
func (r *Runner) Do(ctx context.Context) error {
	r.init()
	r.seen.Mode = r.Mode
	r.now.Boot = r.Boot
	defer r.disconnect()
	for ctx.Err() == nil {
		o := r.observe(ctx)
		act := Decide(o)
		r.announce(act)
		if act.Do == Finish {
			return nil
		}
		err := r.perform(ctx, act)
		if ctx.Err() != nil {
			break
		}
		var fatal interface{ Permanent() bool }
		switch {
		case errors.As(err, &fatal) && fatal.Permanent():
			return err
		case r.Mode == Abandon && reasonOf(err) == status.NoCredential:
			return err // kured is being removed, perhaps from a machine that never joined a cluster
		case err != nil:
			r.trouble(ctx, act, err)
		case act.Do != Learn: // having looked is no success of what comes after
			r.errors = 0
		}
	}
	r.goodbye()
	if r.Mode == Run {
		return nil
	}
	return errors.New(r.now.Line())
}

// observe completes what is known with what is looked at anew each time.
func (r *Runner) observe(ctx context.Context) Observation {
	if r.Mode != Run {
		return r.seen
	}
	s := r.Demand.State()
	r.notice(s)
	o := &r.seen
	o.Want, o.WantDetail = WantNothing, ""
	switch {
	case s.Wanted: // one sentinel is enough, whatever another one hides
		o.Want = WantReboot
	case s.Err != nil:
		o.Want, o.WantDetail = WantUnknown, s.Err.Error()
	}
	if o.Want == WantReboot && r.cluster == nil {
		o.Known = false // what happened in the cluster while we idled was not seen
	}
	o.Resting = time.Now().Before(r.restTill)
	if o.Want != WantReboot {
		o.Gates = gate.Verdict{}
		return *o
	}
	o.Gates = r.checkGates(ctx)
	switch {
	case o.Gates.Open:
		r.waitTill = time.Time{}
	case r.waitTill.IsZero():
		r.waitTill = time.Now().Add(r.Settings.Patience)
	}
	o.Patient = time.Now().Before(r.waitTill)
	return *o
}

// gateTimeout bounds one look at all gates.
const gateTimeout = 20 * time.Second

// lookAtGates asks the gates once, in the time that they have.
func (r *Runner) lookAtGates(ctx context.Context) gate.Verdict {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	at := gate.Before
	if r.seen.Known && r.seen.Entry == ThisBootEntry {
		at = gate.Within
	}
	return r.Gates.Check(ctx, at)
}

func (r *Runner) checkGates(ctx context.Context) (v gate.Verdict) {
	err := r.during(ctx, func(ctx context.Context) error {
		v = r.lookAtGates(ctx)
		return nil
	}, watching{})
	if err != nil {
		return gate.Verdict{Reason: status.LogindUnavailable, Detail: err.Error()}
	}
	return v
}

// notice keeps track of the demand: a new one starts with a clean slate.
func (r *Runner) notice(s sentinel.State) {
	switch {
	case s.Wanted && !r.demanded.Wanted:
		r.Log.Info("reboot required", "path", s.Path, "wanted_since", s.Since.UTC().Format(time.RFC3339), "packages", s.Reasons)
		r.queuedAt = time.Now()
	case !s.Wanted && r.demanded.Wanted && s.Err == nil:
		r.Log.Info("reboot not required any more", "path", r.demanded.Path)
	}
	if !s.Wanted && s.Err == nil {
		r.attempts, r.restTill, r.waitTill = 0, time.Time{}, time.Time{}
	}
	r.demanded = s
}

// trouble reports an error of an effector, forgets what was known of the
// cluster, and pauses; longer after each error in a row.
func (r *Runner) trouble(ctx context.Context, act Action, err error) {
	r.errors++
	r.seen.Known = false
	reason, phase := reasonOf(err), act.Phase
	if act.Do == Learn && r.holder != nil && r.now.Phase != "" {
		phase = r.now.Phase // a look that fails in the midst of a cycle does not begin it anew
	}
	pause := min(30*time.Second, time.Second<<min(r.errors-1, 10))
	pause -= r.jitter(pause / 4)
	next := time.Now().Add(pause)
	if r.errors == 1 || r.now.Reason != reason {
		r.Log.Warn("cannot go on, trying again: "+err.Error(), "phase", phase, "reason", reason)
	}
	r.publish(func(s *status.Status) {
		s.Phase, s.Reason, s.Detail, s.Next = phase, reason, err.Error(), &next
	})
	if reason == status.APIUnreachable || reason == status.NoCredential {
		r.disconnect() // connect anew: credential or address may have changed
	}
	// Everything that may end the pause early is looked at in the next round.
	_ = r.pause(ctx, pause)
}

func (r *Runner) jitter(d time.Duration) time.Duration {
	if r.Jitter != nil {
		return r.Jitter(d)
	}
	return rand.N(d)
}

func (r *Runner) disconnect() {
	if c := r.cluster; c != nil {
		r.cluster = nil
		c.Close()
	}
	r.seen.Known = false
}

// goodbye runs when the daemon is told to stop. A lock, a cordon and a drain
// are kept: the next start goes on from them. Only a place in the waiting room
// is given up, if the API server answers quickly.
func (r *Runner) goodbye() {
	if r.cluster == nil || !r.seen.Known || r.seen.Entry != NoEntry || !r.seen.Waiting {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := r.cluster.Turn.Release(ctx, r.Boot); err != nil {
		r.Log.Warn("could not leave the waiting room: " + err.Error())
	}
}
