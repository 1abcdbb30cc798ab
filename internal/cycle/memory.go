package cycle

import (
	"time"

	"github.com/kured-host/kured/internal/sentinel"
)

// recall begins a demand where the daemon before this one left it, or anew. What is lost without a memory is a place in the
// queue, so its errors are told and hold nothing up.
func (r *Runner) recall() {
	now := time.Now()
	r.standing = sentinel.Standing{Known: now, Queued: now}
	if r.Memory == nil {
		return
	}
	before, err := r.Memory.Recall()
	r.doubt(err)
	// What lies in the future was written by a clock that was set since.
	if err == nil && !before.Known.IsZero() && !before.Queued.Before(before.Known) && !before.Queued.After(now) {
		r.standing = before
		return
	}
	r.keep()
}

// keep remembers the standing of the demand.
func (r *Runner) keep() {
	if r.Memory != nil {
		r.blank = false
		r.doubt(r.Memory.Keep(r.standing))
	}
}

// forget is called as long as nothing is wanted, and costs nothing but the first time.
func (r *Runner) forget() {
	if r.Memory != nil && !r.blank {
		r.blank = true
		r.doubt(r.Memory.Forget())
	}
}

func (r *Runner) doubt(err error) {
	if err != nil {
		r.log().Warn("a restart of the daemon may lose the place in the queue: " + err.Error())
	}
}
