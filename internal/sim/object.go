package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
)

// object is the lock ConfigMap: versions, compare-and-swap, watches.
type object struct {
	w        *World
	missing  bool
	versions []version // the last one is the newest; revision = index + 1
	watches  []*watch
}

// version is the object at one revision. It is never changed.
type version struct {
	data   map[string]string
	snap   lock.Snapshot
	burial bool // carries the label
}

func (o *object) init(w *World) {
	o.w = w
	o.push(o.next(map[string]string{}, false))
}

func (o *object) newest() version { return o.versions[len(o.versions)-1] }

// next is the version that a write would make.
func (o *object) next(data map[string]string, burial bool) version {
	revision := strconv.Itoa(len(o.versions) + 1)
	return version{data, lock.Snapshot{State: lock.Parse(data), Revision: revision}, burial}
}

// push adds a version and sends it to those who watch.
func (o *object) push(v version) {
	o.versions = append(o.versions, v)
	for _, w := range o.watches {
		w.send(len(o.versions) - 1)
	}
}

// write is the API server's side of a patch by a node.
func (o *object) write(p *process, sent time.Time, revision string, e lock.Edit) (lock.Snapshot, error) {
	w := o.w
	w.count.Writes++
	if o.missing {
		return lock.Snapshot{}, lock.ErrMissing
	}
	before := o.newest()
	if revision != before.snap.Revision {
		w.count.Conflicts++
		w.note(p.who, "conflict: %s", edit(e))
		return lock.Snapshot{}, lock.ErrConflict
	}
	data := e.Apply(before.data)
	after := o.next(data, e.Burial)
	if maps.Equal(data, before.data) && after.burial == before.burial {
		// The API server makes no new version of a patch that changes nothing, but it compares.
		w.proved(p, after.snap.State)
		return before.snap, nil
	}
	if no := w.wall(p, before, after); no != nil {
		w.count.Refused++
		w.note(p.who, "refused by the wall: %s: %s", no.why, edit(e))
		if !no.race {
			w.breach(p.who, "LAW 6: the wall refuses an honest write: %s: %s", no.why, edit(e))
		}
		return lock.Snapshot{}, forbidden(no.why)
	}
	o.push(after)
	w.note(p.who, "%s", changes{before.data, data})
	w.judgeWrite(p, sent, before, after)
	return o.newest().snap, nil
}

// edit as a person reads it.
type edit lock.Edit

func (e edit) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(e.Set)) {
		parts = append(parts, "set "+key)
	}
	for _, key := range e.Remove {
		parts = append(parts, "remove "+key)
	}
	return strings.Join(parts, ", ")
}

// put writes as an admin does, without a precondition.
func (o *object) put(who, why string, e lock.Edit) {
	before := o.newest()
	data := e.Apply(before.data)
	if maps.Equal(data, before.data) {
		return
	}
	o.push(o.next(data, before.burial))
	o.w.note(who, "%s (%s)", changes{before.data, data}, why)
}

// watch is one client's stream of versions: in order, late, and with some left out.
type watch struct {
	p      *process
	ch     chan lock.Snapshot
	last   time.Time // when the last version that was sent arrives
	ended  bool
	missed bool
}

// watch begins a stream after the revision. It ends by itself within minutes.
func (o *object) watch(ctx context.Context, p *process, revision string) (<-chan lock.Snapshot, error) {
	if o.missing {
		return nil, lock.ErrMissing
	}
	from, err := strconv.Atoi(revision)
	if err != nil || from < 1 || from > len(o.versions) {
		o.w.breach(p.who, "watches from the revision %q, which never was", revision)
		from = len(o.versions)
	}
	v := &watch{p: p, ch: make(chan lock.Snapshot, 4096), last: time.Now()}
	o.watches = append(o.watches, v)
	for i := from; i < len(o.versions); i++ {
		v.send(i)
	}
	ends := p.between(forWatchEnd, 20*time.Second, 6*time.Minute)
	o.w.at(p.actor, ends, func() { o.end(v) })
	context.AfterFunc(ctx, func() {
		o.w.mu.Lock()
		defer o.w.mu.Unlock()
		o.end(v)
	})
	return v.ch, nil
}

func (o *object) end(v *watch) {
	if v.ended {
		return
	}
	v.ended = true
	close(v.ch)
	o.watches = slices.DeleteFunc(o.watches, func(x *watch) bool { return x == v })
}

// send lets a version arrive later, but not before those that were sent already.
func (v *watch) send(i int) {
	w := v.p.w
	if v.p.roll(forWatch+100*purpose(i+1), w.skips()) {
		v.missed = true
		return
	}
	lag := v.p.between(forWatch+100*purpose(i+1)+1, 0, w.lag())
	at := v.last.Add(grid)
	if t := time.Now().Add(lag); t.After(at) {
		at = t
	}
	d := v.p.align(time.Until(at))
	v.last = time.Now().Add(d)
	snap := w.object.versions[i].snap
	w.at(v.p.actor, d, func() {
		if !v.ended {
			v.ch <- snap
		}
	})
}

// changes shows what a write did, as a person reads it.
type changes struct{ before, after map[string]string }

func (c changes) String() string {
	keys := map[string]bool{}
	for k := range c.before {
		keys[k] = true
	}
	for k := range c.after {
		keys[k] = true
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		a, was := c.before[k]
		b, is := c.after[k]
		switch {
		case was && !is:
			parts = append(parts, "- "+k)
		case is && !was:
			parts = append(parts, "+ "+k+" "+brief(k, b))
		case a != b:
			parts = append(parts, "~ "+k+" "+brief(k, b))
		}
	}
	return strings.Join(parts, "; ")
}

// brief is an entry as a person reads it: what differs between nodes. What
// kured cannot read is shown as it is.
func brief(key, value string) string {
	s := lock.Parse(map[string]string{key: value})
	for _, h := range s.Holders {
		text := fmt.Sprintf("(%s, boot %s, max %d, %s", h.Phase, strings.TrimLeft(h.Boot, "0"), h.Max, h.UID)
		if h.Zone != "" {
			text += fmt.Sprintf(", %s since %s", h.Zone, h.Turn.Format(time.TimeOnly))
		}
		return text + ")"
	}
	for _, x := range s.Waiters {
		text := fmt.Sprintf("(since %s, priority %d, %s", x.Since.Format(time.TimeOnly), x.Priority, x.UID)
		if x.Zone != "" {
			text += ", " + x.Zone
		}
		return text + ")"
	}
	return value
}
