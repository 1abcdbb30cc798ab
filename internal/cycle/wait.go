package cycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

// errChanged means that a step was ended because the demand or a gate changed.
var errChanged = errors.New("the demand or a gate changed")

// watching is what the loop looks at while a step runs.
type watching struct {
	demand  bool // a demand that goes ends the step
	gates   bool // a gate that closes ends the step
	whole   bool // nothing else ends it: no other configuration, no gate that closes only for a moment
	queue   <-chan lock.Report
	drain   <-chan drain.Progress
	missing <-chan missing
	words   <-chan gate.Verdict // the gates that are waited for, in other words
}

// missing is what a proof of health or a step of the way down waits for.
type missing struct {
	reason status.Reason
	what   string
}

// during runs a step beside the loop, so that the loop stays alive: it answers
// the watchdog, shows progress, and ends the step when the reason for it goes.
// It returns only when the step has returned.
func (r *Runner) during(ctx context.Context, step func(context.Context) error, w watching) error {
	if r.next != nil && w.demand && !w.whole {
		return errChanged // it would wait with what is void
	}
	stepping, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- step(stepping) }()
	var demand, gates <-chan struct{}
	var late <-chan time.Time
	if w.demand && r.Demand != nil { // the way back asks for none
		demand = r.Demand.Changed()
	}
	if w.gates {
		gates = r.watchGates(stepping, gate.Verdict{Open: true}, r.allGatesFar())
	}
	if t := r.tooLate(); t != nil {
		defer t.Stop()
		late = t.C
	}
	ended := false
	end := func() {
		ended = true
		r.looked = time.Time{}
		cancel(errChanged)
	}
	for {
		select {
		case err := <-done:
			select { // the step's last word, if it was not heard yet
			case report := <-w.queue:
				r.showQueue(report)
			default:
			}
			if ended && err != nil {
				return errChanged
			}
			return err
		case answer := <-r.pings:
			close(answer)
		case <-demand:
			// A step that only waits is ended by any change.
			if !w.gates || !r.goesOn(stepping, w) {
				end()
			}
		case <-gates:
			if !r.goesOn(stepping, w) {
				end()
			}
		case parts := <-r.Reload:
			r.receive(parts)
			if w.demand && !w.whole {
				end()
			}
		case <-late:
			late = nil
			r.sayLate()
		case report := <-w.queue:
			r.showQueue(report)
		case p := <-w.drain:
			r.showDrain(p)
		case v := <-w.words:
			r.showVerdict(v)
		case m := <-w.missing:
			if r.seen.gaveUp() {
				m.reason = status.GaveUp // that nobody waits for it any more says more than what it waits for
			}
			if (m.reason != r.now.Reason || r.now.Detail == "") && r.sayOnce(m.reason) {
				r.log().Info("waiting: "+oneLine(m.what), "phase", r.now.Phase, "reason", m.reason)
			}
			r.publish(func(s *status.Status) { s.Reason, s.Detail = m.reason, m.what })
		}
	}
}

// goesOn asks demand and gates, which can take long, and stays alive meanwhile.
func (r *Runner) goesOn(ctx context.Context, w watching) bool {
	answer := make(chan bool, 1)
	go func() { answer <- r.mayGoOn(ctx, w) }()
	for {
		select {
		case goOn := <-answer:
			return goOn
		case ping := <-r.pings:
			close(ping)
		}
	}
}

// pause waits, alive.
func (r *Runner) pause(ctx context.Context, d time.Duration) error {
	return r.during(ctx, func(ctx context.Context) error { return sleep(ctx, d) }, watching{})
}

func (r *Runner) showQueue(report lock.Report) {
	reason, detail := report.Reason, report.Detail
	if report.Err != nil {
		reason, detail = ReasonOf(report.Err), report.Err.Error()
	}
	r.tellOnce(report.Queue)
	phase := status.Queued
	switch reason {
	case status.Paused, status.Frozen, status.PolicyUnreadable:
		phase = status.Blocked // nobody may go, so there is no queue
	}
	if reason != "" && reason != r.now.Reason && r.sayOnce(reason) {
		message := "waiting for the lock: " + oneLine(detail)
		if report.Err != nil {
			r.log().Warn(message, "phase", phase, "reason", reason)
		} else {
			r.log().Info(message, "phase", phase, "reason", reason)
		}
	}
	r.publish(func(s *status.Status) {
		s.Phase = phase
		s.Reason, s.Detail, s.Next, s.Queue = reason, detail, nil, &report.Queue
		if !report.Next.IsZero() {
			s.Next = &report.Next
		}
	})
}

// sayOnce reports whether the log was not told yet of this reason to wait:
// reasons can change to and fro for as long as a queue lasts, and the status
// shows each change.
func (r *Runner) sayOnce(reason status.Reason) bool {
	if r.said[reason] {
		return false
	}
	if r.said == nil {
		r.said = map[status.Reason]bool{}
	}
	r.said[reason] = true
	return true
}

// tellOnce logs what is worth a line when it becomes known and not again.
func (r *Runner) tellOnce(q status.Queue) {
	if q.Enforced != nil && (r.enforced == nil || *r.enforced != *q.Enforced) {
		r.enforced = q.Enforced
		if *q.Enforced {
			r.log().Debug("the API server itself keeps the rules of the lock", "phase", r.now.Phase)
		} else {
			r.log().Warn("the API server does not keep the rules of the lock, only the nodes do: apply wall.yaml (Kubernetes 1.30 and later)", "phase", r.now.Phase)
		}
	}
	if q.Uncounted != "" && q.Uncounted != r.uncounted {
		r.log().Warn("nodes that are down are not counted: "+q.Uncounted, "phase", r.now.Phase)
	}
	r.uncounted = q.Uncounted
}

func (r *Runner) showDrain(p drain.Progress) {
	drain := status.Drain{Pods: p.Total, Gone: p.Gone}
	for _, h := range p.Held {
		drain.Held = append(drain.Held, h.String())
		r.sayHeld(h)
	}
	r.publish(func(s *status.Status) { s.Drain, s.Detail = &drain, p.String() })
}

// mostHeld is how many pods that hold up a drain are told of in the log.
const mostHeld = 3

// sayHeld logs a pod that holds up the drain, once.
func (r *Runner) sayHeld(h drain.HeldPod) {
	pod := h.Namespace + "/" + h.Name
	if r.heldTold[pod] || len(r.heldTold) >= mostHeld {
		return
	}
	if r.heldTold == nil {
		r.heldTold = map[string]bool{}
	}
	r.heldTold[pod] = true
	r.log().Info("pod holds up the drain: "+h.String(), "phase", status.Draining, "pod", pod, "message_id", status.MessagePodHeld)
}

// maxDetail bounds what is told of the words of others, in characters.
const maxDetail = 1000

// oneLine makes words fit to be told that may be of others: the API server's, a webhook's.
func oneLine(text string) string { return status.Clean(text, maxDetail) }

// announce publishes an action and logs when phase or reason changes to one
// that a person wants to know of.
func (r *Runner) announce(act Action) {
	act.Detail = oneLine(act.Detail)
	same := act.Phase == r.now.Phase && act.Reason == r.now.Reason
	switch {
	case act.Do == Learn:
	case act.Phase != status.Held:
		r.heldFor = ""
	case act.Reason != r.heldFor: // not again after a look that failed
		r.heldFor = act.Reason
		defer func() { r.tell(status.EventHeld, act.Reason, act.Detail) }()
	}
	if !same && act.Detail != "" {
		log := r.log().Info
		if act.Do == AwaitReturn {
			log = r.log().Debug // kured-uncordon.service tells the same
		}
		if act.Phase == status.Held || act.Phase == status.RollingBack {
			log = r.log().Warn
		}
		log(fmt.Sprintf("%s: %s", act.Phase, act.Detail), "phase", act.Phase, "reason", act.Reason)
	}
	if same && act.Do == Learn {
		return
	}
	r.publish(func(s *status.Status) {
		if act.Do == Learn && s.Phase != "" {
			return // a look in between is no phase
		}
		s.Phase, s.Reason, s.Detail, s.Next = act.Phase, act.Reason, act.Detail, nil
		if act.Do != Acquire && act.Do != Learn {
			s.Queue = nil
		}
		switch {
		case act.Do == WaitBackOff:
			next := r.restTill
			s.Reason, s.Next, s.Detail = r.restFor, &next, "next try at "+next.UTC().Format(time.RFC3339)
			if r.restWhy != "" {
				s.Detail = r.restWhy + "; " + s.Detail
			}
		case act.Do == WaitForGates && !r.seen.Gates.Next.IsZero():
			next := r.seen.Gates.Next
			s.Next = &next
		}
	})
}

// publish changes the status and shows it.
func (r *Runner) publish(change func(*status.Status)) {
	before := r.now
	change(&r.now)
	r.now.Detail = oneLine(r.now.Detail)
	r.now.Cycle, r.now.Gates, r.now.Held = r.cycleID(), nil, nil
	if r.holder != nil && !r.holder.Since.IsZero() {
		since := r.holder.Since
		r.now.Held = &since
	}
	r.now.Demand = nil
	if d := r.demanded; d.Wanted {
		r.now.Demand = &status.Demand{Since: d.Since, Path: d.Path, Reasons: d.Reasons}
		r.now.Gates = r.gateStates
	}
	if before.Phase != r.now.Phase || before.Reason != r.now.Reason || r.now.Since.IsZero() {
		r.now.Since = time.Now()
	}
	r.Publish(r.now)
	r.takeDown()
}

// cycleID names the cycle that runs by the boot in which it was begun, "" if
// none runs.
func (r *Runner) cycleID() string {
	switch {
	case r.holder != nil:
		return r.holder.Boot
	case r.mark != "":
		return r.mark
	case r.demanded.Wanted:
		return r.Boot
	}
	return ""
}

// log is the log with the cycle that runs.
func (r *Runner) log() *slog.Logger {
	if id := r.cycleID(); id != "" {
		return r.Log.With("cycle", id)
	}
	return r.Log
}

// newest leaves only the newest value in a channel of capacity one.
func newest[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

func round(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
