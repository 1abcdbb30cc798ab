package cycle

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
)

// Settings are the Runner's numbers. Where nothing else is said, zero is: not at all.
type Settings struct {
	Lock          string        // its name, for those who are told
	ConfirmWithin time.Duration // PrepareForShutdown(true) must come this soon after Reboot
	Patience      time.Duration // a drained node waits this long for an inhibitor before it rolls back
	BackOff       time.Duration // after the first rolled back try; doubled after each
	BackOffMax    time.Duration
	Overdue       time.Duration // an accepted reboot that takes longer than this is told loudly
	WayBack       time.Duration // what the way back takes on purpose: it may take so much longer
	TooLong       time.Duration // a reboot that is wanted for longer is told

	Preflight     PreflightMode
	DryRun        bool
	Rehearse      bool   // the cordon shows more than itself: try that out first
	WaitingTaint  string // key of the taint while the node waits for its turn; "": none
	Conditions    bool   // shown on the Node
	Drain         drain.Options
	HoldOnTimeout bool          // a drain that did not end in time waits for a person
	DelayDrain    time.Duration // from the cordon to the first eviction
	Volumes       time.Duration // how long to wait for volumes to be detached
	DelayReboot   time.Duration // from the last pod's end to the reboot
	Announce      time.Duration // from the announcement to the reboot

	ReleaseDelay time.Duration // from the uncordon to the release
	GiveUpAt     time.Time     // a node that is not well by then releases the lock
	SilenceUntil time.Time     // alerts of a node that is not well by then are not silenced any more
}

// PreflightMode is what a drain that would be held up means before it begins.
type PreflightMode int

// The modes.
const (
	PreflightOff PreflightMode = iota
	PreflightWarn
	PreflightBlock
)

// Parts are what the configuration makes of the world around a Runner.
type Parts struct {
	Dial      func(ctx context.Context) (*Cluster, error) // connects and learns who we are
	Host      Host
	Demand    Demand
	Memory    Memory // nil: a restart begins the demand anew
	Gates     Gates  // those that need no cluster
	Budget    Budget
	Announcer Announcer // nil: nothing is announced
	Hooks     Hooks     // nil: none
	Settings  Settings
	Tell      func(status.Occurrence) // what people want to be told; must not block; nil: nobody
	Log       *slog.Logger
	// Flush waits until what was told has arrived, and Dismissed is called when
	// the Runner goes on with others. Either may be nil.
	Flush     func(ctx context.Context) error
	Dismissed func()
}

// Runner carries one node through the story. All fields are set before Do and
// not changed after it.
type Runner struct {
	Mode    Mode
	Boot    string              // this boot's id
	Parts                       // until others come from Reload
	Reload  <-chan Parts        // taken where no step is cut short by it; nil: none come
	Publish func(status.Status) // each change of the status; must not block
	Rest    func()              // called when a time with nothing to do begins; nil: nothing
	// Jitter returns a random part of d, 0 ≤ x < d; nil: math/rand/v2.
	Jitter func(d time.Duration) time.Duration

	once  sync.Once
	pings chan chan struct{}

	cluster    *Cluster // nil: not connected
	seen       Observation
	holder     *lock.Holder       // our entry as last read
	mark       string             // of what we put on the Node as last read, "" for none
	ownCordon  bool               // the cordon is ours
	note       *node.Release      // of an admin who released our lock, as last read on our Node
	lockLost   bool               // a write found that our lock is gone; the next look says who it was
	errors     int                // of effectors, in a row
	attempts   int                // rolled back tries in a row
	restTill   time.Time          // end of the back-off
	restFor    status.Reason      // of the back-off: how the try before it ended
	restWhy    string             // the same for people
	waitTill   time.Time          // end of the patience with a gate
	looked     time.Time          // when the gates were asked last
	gateStates []status.GateState // as looked at last
	farGate    bool               // the last verdict was that of a gate that needs a network
	demanded   sentinel.State
	standing   sentinel.Standing      // of this demand
	blank      bool                   // the memory holds nothing
	nagged     bool                   // it was told that this takes long
	enforced   *bool                  // as told last: whether the API server keeps the lock's rules
	uncounted  string                 // as told last: why nodes that are down are not counted
	shared     bool                   // the next Acquire starts at an instant that many share
	said       map[status.Reason]bool // reasons to wait that the log has told of this demand, or of this way back
	heldFor    status.Reason          // people were told that it is held for this
	heldTold   map[string]bool        // pods that the log has told of in this drain
	done       Verb                   // the last step that is done on the cordoned node; 0: none
	undone     int                    // how often the cordon was taken off in this try
	quiet      func()                 // ends the renewal of the silence, if there is one

	shown     signs // what others see of us on the Node, as far as we know
	chronicle chronicle

	uncordonedNow bool      // after the reboot, by this process
	inService     time.Time // the same: when all but the release was done; zero: it is not
	next          *Parts    // that have come, for the next round
	now           status.Status
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
	defer r.leaveSilence()
	for ctx.Err() == nil {
		r.adopt(ctx)
		o := r.observe(ctx)
		act := Decide(o)
		r.announce(act)
		r.showSigns(ctx, act)
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
		case r.Mode == Abandon && ReasonOf(err) == status.NoCredential:
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
		r.seen.GiveUp = !r.Settings.GiveUpAt.IsZero() && !time.Now().Before(r.Settings.GiveUpAt)
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
	if r.cluster == nil && (o.Want == WantReboot || o.Want == WantNothing && r.chronicle.outdated()) {
		o.Known = false // what happened in the cluster while we idled was not seen, or others see what is over
	}
	o.Resting, o.DryRun = time.Now().Before(r.restTill), r.Settings.DryRun
	o.Begun, o.Next = r.done >= Cordon, r.after(max(Cordon, r.done))
	if o.Want != WantReboot {
		o.Gates = gate.Verdict{}
		return *o
	}
	if !o.Known || o.Gates.Open && time.Since(r.looked) < time.Second {
		return *o // first what is ours is looked at; and a quick step changes nothing
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

// notice keeps track of the demand: a new one starts with a clean slate.
func (r *Runner) notice(s sentinel.State) {
	before := r.demanded
	r.demanded = s
	switch {
	case s.Wanted && !before.Wanted:
		r.log().Info("reboot required", "path", s.Path, "wanted_since", s.Since.UTC().Format(time.RFC3339), "packages", s.Reasons,
			"message_id", status.MessageRebootRequired)
		r.recall()
		r.said = nil
		r.rehearseAgain()
	case !s.Wanted && before.Wanted && s.Err == nil:
		r.log().Info("reboot not required any more", "path", before.Path, "message_id", status.MessageNotRequired)
	}
	if !s.Wanted && s.Err == nil {
		r.attempts, r.restTill, r.waitTill, r.standing = 0, time.Time{}, time.Time{}, sentinel.Standing{}
		r.forget()
	}
}

// trouble reports an error of an effector, forgets what was known of the
// cluster, and pauses; longer after each error in a row.
func (r *Runner) trouble(ctx context.Context, act Action, err error) {
	r.errors++
	r.seen.Known = false
	reason, phase := ReasonOf(err), act.Phase
	if act.Do == Learn && r.holder != nil && r.now.Phase != "" {
		phase = r.now.Phase // a look that fails in the midst of a cycle does not begin it anew
	}
	pause := min(30*time.Second, time.Second<<min(r.errors-1, 10))
	pause -= r.jitter(pause / 4)
	next := time.Now().Add(pause)
	if r.errors == 1 || r.now.Reason != reason {
		r.log().Warn("cannot go on, trying again: "+oneLine(err.Error()), "phase", phase, "reason", reason)
	}
	r.publish(func(s *status.Status) {
		s.Phase, s.Reason, s.Detail, s.Next = phase, reason, err.Error(), &next
	})
	if reason == status.APIUnreachable || reason == status.NoCredential || apierrors.IsUnauthorized(err) {
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
		r.chronicle.halt()
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
		r.log().Warn("could not leave the waiting room: " + err.Error())
	}
}
