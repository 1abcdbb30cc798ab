// Package hook runs the administrator's own programs at four moments of the cycle, by way of systemd.
//
// The daemon executes nothing. It starts kured-hook@PHASE.service over D-Bus and waits for its end; that unit runs
// `kured hook PHASE`, which executes what is in PHASE.d one after the other ([Parts]). So hooks have limits, a journal
// and a time-out of their own, and the daemon keeps its sandbox.
//
// A hook says by its exit code what comes next: 0 go on, 75 (EX_TEMPFAIL of sysexits.h) not now, anything else: it
// failed. A daemon that lost sight of a finished unit runs the phase again, so a hook has to bear being run twice.
package hook

import (
	"errors"
	"fmt"

	"github.com/kured-host/kured/internal/status"
)

// The phases, in the order of the story. They are the names of the directories and the instances of the unit.
const (
	PreDrain     = "pre-drain"     // cordoned, before the first eviction
	PreReboot    = "pre-reboot"    // drained, before the reboot is announced
	PostBoot     = "post-boot"     // Ready again, before the uncordon
	PostUncordon = "post-uncordon" // uncordoned, before the lock is released
)

// Phases lists every phase in the order of the story.
func Phases() []string { return []string{PreDrain, PreReboot, PostBoot, PostUncordon} }

// DefaultDirectory is where the hooks of a phase are, in PHASE.d.
const DefaultDirectory = "/etc/kured/hooks"

// Exit codes of `kured hook`. A hook itself says the same with 0 and ExitNotNow; whatever else it says is ExitFailed.
const (
	ExitFailed = 1
	ExitNotNow = 75
)

// ErrNotNow is what a run ends with (errors.Is) in which a hook said "not now".
var ErrNotNow = errors.New("a hook says: not now")

// notNow is ErrNotNow with what is known about it.
type notNow struct{ unit, detail string }

func (e *notNow) Error() string {
	return fmt.Sprintf("a hook of %s says: not now%s", e.unit, colon(e.detail))
}
func (e *notNow) Is(target error) bool  { return target == ErrNotNow }
func (e *notNow) Reason() status.Reason { return status.HookDeferred }

// FailedError says that hooks ran, or should have, and did not end well.
type FailedError struct {
	Phase  string
	Unit   string // journalctl -u tells more
	Result string // of the unit, as systemd calls it: exit-code, signal, timeout, oom-kill, …; or not-started, not-run
	Code   int    // the exit code or, where a signal ended it, its number
	Detail string // for people: which hook and how, one line
}

func (e *FailedError) Error() string {
	what := e.Result
	if e.Code != 0 {
		what = fmt.Sprintf("%s %d", what, e.Code)
	}
	return fmt.Sprintf("hooks of %s failed (%s: %s)%s", e.Phase, e.Unit, what, colon(e.Detail))
}

// Reason is the failure's word in the vocabulary.
func (e *FailedError) Reason() status.Reason { return status.HookFailed }

func colon(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}

// maxText bounds what comes from hooks and is shown to people, in characters.
const maxText = 300
