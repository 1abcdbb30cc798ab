package cycle

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/drain"
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
	Drain(ctx context.Context, o drain.Options, report func(drain.Progress)) drain.Result
	// Preflight tells what a drain would do now. It changes nothing.
	Preflight(ctx context.Context, o drain.Options) (drain.Report, error)
	// AwaitDetached waits until no volume is attached, at most so long, and tells what is left.
	AwaitDetached(ctx context.Context, limit time.Duration, report func(drain.Volumes)) (drain.Volumes, error)
}

// Signs is what others can see on our Node object.
type Signs interface {
	SetWaiting(ctx context.Context, taint string, on bool) error
	SetConditions(ctx context.Context, want []node.Condition) error
	// Rehearse tries out what Cordon would show, and changes nothing.
	Rehearse(ctx context.Context) error
}

// Chronicle shows others how far we are.
type Chronicle interface {
	// Announce says on our Node how it stands, or nothing if s has no phase. was is the text of that announcement as it is
	// known, is the text after it.
	Announce(ctx context.Context, s status.Status, rebooted time.Time, was string) (is string, err error)
	Record(ctx context.Context, s status.Status) error // an Event
}

// Proof shows after a boot that the node is well in one respect.
type Proof struct {
	Reason status.Reason // while it is not
	// Await returns when it is, and tells meanwhile what is missing.
	Await func(ctx context.Context, report func(missing string)) error
}

// Cluster is the API server as this node may use it. It exists only while
// there is something to do.
type Cluster struct {
	Node    string // our name
	UID     string // of our Node object
	Turn    Turn
	Entries Entries
	Self    Node
	Pods    Pods
	Signs   Signs // nil: nothing is shown

	Chronicle Chronicle // nil: none is kept

	Ready    []Proof  // after a boot, in their order, before the hooks
	Well     []Proof  // and after them
	Gates    Gates    // those that need a network; nil: none
	Silencer Silencer // nil: none
	Close    func()   // ends every connection
}

// Host is logind.
type Host interface {
	Reboot(ctx context.Context, confirmWithin time.Duration) error
	AwaitCancelled(ctx context.Context) error
	PreparingForShutdown(ctx context.Context) (bool, error)
}

// Announcer tells people of a reboot that comes, and hears whether they object.
type Announcer interface {
	Announce(ctx context.Context, at time.Time) error
	AwaitAnnounced(ctx context.Context, at time.Time) error // logind.ErrAnnouncementCancelled if somebody cancels it
	Withdraw(ctx context.Context) error
}

// Demand is the sentinel.
type Demand interface {
	State() sentinel.State
	Changed() <-chan struct{}
}

// Memory keeps how long a demand stands over a restart of the daemon.
type Memory interface {
	Recall() (sentinel.Standing, error) // zero: nothing was kept
	Keep(s sentinel.Standing) error
	Forget() error
}

// Gates say whether we may go now.
type Gates interface {
	Check(ctx context.Context, at gate.Moment) gate.Verdict
	Watch(ctx context.Context, last gate.Verdict) <-chan struct{}
	States(last gate.Verdict) []status.GateState // what each of them said then, as far as it was asked
}

// Budget records each reboot that is asked for.
type Budget interface {
	Spend() error
	Refund() error
}

// Hooks are programs of the node's owner.
type Hooks interface {
	// Run runs those of one phase. hook.ErrNotNow asks for another time.
	Run(ctx context.Context, phase string, env map[string]string) error
}

// Silencer keeps alerts of this node quiet while it is away.
type Silencer interface {
	Keep(ctx context.Context, reason string, report func(error)) // renews the silence until ctx ends, and leaves it
	Expire(ctx context.Context) error                            // ends it
}
