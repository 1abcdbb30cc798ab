package lock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/status"
)

// ErrNoEntry means that a node has no entry that could be released.
var ErrNoEntry = errors.New("has no entry in the lock, nothing to release")

// ErrChanged means that a node's entry is not any more the one that a person
// decided to release.
var ErrChanged = errors.New("changed meanwhile")

// Notices is where a release says who did it and why.
type Notices interface {
	// Leave writes it onto the Node, for the released node itself. boot is that
	// of the released entry. found is false when there is no such Node.
	Leave(ctx context.Context, node, by, why, boot string, at time.Time) (found bool, err error)
	// Withdraw takes away what Leave wrote.
	Withdraw(ctx context.Context, node string) error
	// Record writes it as an Event about the Node, for people.
	Record(ctx context.Context, node, message string, at time.Time) error
}

// Releaser takes a node out of the lock on a person's word, where no evidence
// says that it may go.
type Releaser struct {
	Store   Store
	Notices Notices
	Pace    Pace
	Lock    string           // the lock's name, for people
	By      string           // the person's
	Now     func() time.Time // the wall clock; nil: time.Now
}

// Entries are what the lock has of one node.
type Entries struct {
	Node    string
	Holder  *Holder // nil: none, or Damage
	Damage  string  // what is wrong with the holder entry; "": nothing
	Waiter  *Waiter // nil: none, or Damaged
	Damaged string  // what is wrong with the waiter entry; "": nothing
}

func entriesOf(s State, node string) Entries {
	e := Entries{Node: node, Damage: s.HolderDamage(node)}
	if h, ok := s.Holders[node]; ok {
		e.Holder = &h
	}
	if w, ok := s.Waiters[node]; ok {
		e.Waiter = &w
	}
	for _, d := range s.Damaged {
		if d.Key == waiterPrefix+node {
			e.Damaged = d.What
		}
	}
	return e
}

// holds reports whether the node counts as a holder.
func (e Entries) holds() bool { return e.Holder != nil || e.Damage != "" }

func (e Entries) waits() bool { return e.Waiter != nil || e.Damaged != "" }

// same reports whether a person who decided on e would decide on f just so:
// the node got no further and its holder entry is not of another boot.
func (e Entries) same(f Entries) bool {
	if e.holds() != f.holds() || e.Damage != f.Damage {
		return false
	}
	return e.Holder == nil || f.Holder != nil && encode(*e.Holder) == encode(*f.Holder)
}

// removal is the write that takes the entries out.
func (e Entries) removal() (removal Edit) {
	if e.holds() {
		removal.Remove = append(removal.Remove, holderPrefix+e.Node)
	}
	if e.waits() {
		removal.Remove = append(removal.Remove, waiterPrefix+e.Node)
	}
	return removal
}

// String says what the node's entry is, in one line for people.
func (e Entries) String() string {
	switch {
	case e.Damage != "":
		return fmt.Sprintf("%s counts as a holder: its entry cannot be read (%s)", e.Node, e.Damage)
	case e.Holder != nil:
		h := e.Holder
		s := fmt.Sprintf("%s holds: %s, since %s, boot %s", e.Node, h.Phase, h.Since.UTC().Format(time.RFC3339), h.Boot)
		if h.Reason != "" {
			s += ", for " + h.Reason
		}
		return s
	case e.Damaged != "":
		return fmt.Sprintf("%s takes a place in the waiting room: its entry cannot be read (%s)", e.Node, e.Damaged)
	}
	return fmt.Sprintf("%s waits since %s", e.Node, e.Waiter.Since.UTC().Format(time.RFC3339))
}

// Meaning says what a release leads to.
func (e Entries) Meaning() string {
	const word = "Released, it holds no more: on your word another node may go. But while it is not Ready, or cordoned, it still counts as down where lock.count_unavailable is set, as by default: to go on without it, delete its Node."
	switch {
	case e.Damage != "":
		return "kured cannot say whether " + e.Node + " is down. " + word
	case e.Holder == nil:
		return "If kured runs on " + e.Node + ", it comes back into the waiting room."
	case e.Holder.Phase == status.Locked:
		return e.Node + " has its turn and is not cordoned yet. " + word
	case e.Holder.Phase == status.Draining:
		return e.Node + " is in the midst of a drain. If kured runs on it, it stops before the reboot, uncordons it and tries again later; if not, it stays cordoned. " + word
	}
	return e.Node + " is about to reboot, or on its way back. If it comes back, kured uncordons it; if not, it stays as it is. " + word
}

// maxWhy bounds the reason of a release, in bytes.
const maxWhy = 200

// CheckWhy says what is wrong with a person's reason for a release.
func CheckWhy(why string) error {
	switch {
	case strings.TrimSpace(why) == "":
		return errors.New("is empty: say why, for those who ask later")
	case len(why) > maxWhy:
		return fmt.Errorf("has %d bytes, at most %d are kept", len(why), maxWhy)
	case !utf8.ValidString(why) || strings.ContainsFunc(why, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("is not one line of printable text")
	}
	return nil
}

// Find reads what there is to release. The error is ErrNoEntry if there is nothing.
func (r Releaser) Find(ctx context.Context, node string) (Entries, error) {
	snap, err := r.read(ctx)
	if err != nil {
		return Entries{}, err
	}
	e := entriesOf(snap.State, node)
	if !e.holds() && !e.waits() {
		return e, fmt.Errorf("node %q %w", node, ErrNoEntry)
	}
	return e, nil
}

// Release takes out the entries that Find has found, whatever state the node
// is in. First it says on the Node who did it and why, so that the node finds
// it as soon as its lock is gone; then it removes the entries by
// compare-and-swap; then it records the Event. tell is given each thing that
// was done, for people. An error says what was done before it and what not;
// it is ErrChanged, and nothing is released, when the entry is another one now.
func (r Releaser) Release(ctx context.Context, e Entries, why string, tell func(string)) error {
	at := time.Now
	if r.Now != nil {
		at = r.Now
	}
	noted := false
	if e.holds() { // who only waits has nothing to be told
		boot := ""
		if e.Holder != nil {
			boot = e.Holder.Boot
		}
		found, err := r.Notices.Leave(ctx, e.Node, r.By, why, boot, at())
		switch {
		case err != nil:
			return fmt.Errorf("nothing was released: %w", err)
		case found:
			tell(fmt.Sprintf("wrote who and why on the Node %s", e.Node))
		default:
			tell(fmt.Sprintf("there is no Node %s any more, so nothing was written on it", e.Node))
		}
		noted = found
	}
	if err := r.remove(ctx, e); err != nil {
		if errors.Is(err, errUnknown) {
			return fmt.Errorf("look at the lock: whether %s was released is not known: %w", e.Node, err)
		}
		if noted {
			if left := r.Notices.Withdraw(context.WithoutCancel(ctx), e.Node); left != nil {
				err = fmt.Errorf("%w; the note on the Node is still there: %w", err, left)
			}
		}
		return fmt.Errorf("nothing was released: %w", err)
	}
	tell(fmt.Sprintf("removed %s from the lock %s", strings.Join(e.removal().Remove, " and "), r.Lock))
	message := fmt.Sprintf("lock %s of this node released by %s: %s", r.Lock, r.By, why)
	if !e.holds() {
		message = fmt.Sprintf("this node taken out of the waiting room of the lock %s by %s: %s", r.Lock, r.By, why)
	}
	if err := r.Notices.Record(ctx, e.Node, message, at()); err != nil {
		return fmt.Errorf("%s is released, but no Event tells of it: %w", e.Node, err)
	}
	tell(fmt.Sprintf("recorded an Event about the Node %s", e.Node))
	return nil
}

// errUnknown means that a write may have happened and the lock cannot be read.
var errUnknown = errors.New("the write got no answer")

// maxTries bounds how often a removal is sent that gets no answer.
const maxTries = 4

// remove takes the entries out, unless they are others by now. Where an answer
// was lost, the lock itself tells whether they are out.
func (r Releaser) remove(ctx context.Context, e Entries) error {
	var lost error // of a write that may have happened
	for conflicts, tries := 0, 0; ; {
		snap, err := r.read(ctx)
		if err == nil {
			now := entriesOf(snap.State, e.Node)
			switch {
			case lost != nil && !now.holds() && (e.holds() || !now.waits()):
				return nil
			case !e.same(now) || !now.holds() && !now.waits():
				return fmt.Errorf("the entry of %s %w: %s", e.Node, ErrChanged, now.orNone())
			}
			snap, err = r.write(ctx, snap.Revision, now.removal())
			if after := entriesOf(snap.State, e.Node); err == nil && (after.holds() || after.waits()) {
				return fmt.Errorf("the entry of %s is not in the data of the lock %s: remove it there by hand", e.Node, r.Lock)
			}
			switch {
			case err == nil:
				return nil
			case errors.Is(err, ErrConflict) && conflicts < maxConflicts:
				conflicts++
				if err := sleep(ctx, r.Pace.part(r.Pace.Spread)); err != nil {
					return err
				}
				continue
			case errors.Is(err, ErrConflict), refusal(err):
				return err
			}
			lost = err
		} else if lost == nil && refusal(err) {
			return err
		}
		if tries++; tries == maxTries || ctx.Err() != nil || sleep(ctx, r.Pace.backoff(tries)) != nil {
			if lost != nil {
				return fmt.Errorf("%w: %w", errUnknown, lost)
			}
			return err
		}
	}
}

// orNone is String for entries that may be none.
func (e Entries) orNone() string {
	if !e.holds() && !e.waits() {
		return e.Node + " gave it back itself"
	}
	return e.String()
}

func (r Releaser) read(ctx context.Context) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Pace.Call)
	defer cancel()
	return r.Store.Read(ctx)
}

func (r Releaser) write(ctx context.Context, revision string, e Edit) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Pace.Call)
	defer cancel()
	return r.Store.Write(ctx, revision, e)
}
