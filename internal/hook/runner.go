package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Runner runs the hooks of a phase by starting kured-hook@PHASE.service and waiting for its end.
type Runner struct {
	// Address is the D-Bus address of the unix socket on which systemd is, such as
	// unix:path=/run/dbus/system_bus_socket. There is no default.
	Address string
	// Directory is where the hooks are, in PHASE.d.
	Directory string
	// EnvDirectory is where hook-PHASE.env is written for the unit: /run/kured, as the unit says.
	EnvDirectory string
	// Timeout bounds all hooks of one phase together; zero: only the unit's own TimeoutStartSec= does.
	Timeout time.Duration

	reconnect time.Duration // zero: reconnectAfter
}

// Paces of the Runner.
const (
	reconnectAfter = time.Second            // after the connection to systemd is lost
	lookAgain      = 250 * time.Millisecond // at a unit whose end nobody tells us
	lookAnyway     = 5 * time.Second        // at one whose end we should be told
	stopWithin     = 15 * time.Second       // more than the unit's TimeoutStopSec=
)

// Run runs the hooks of the phase with env as their environment, beside what systemd sets; KURED_HOOK is the phase.
// Values become one line each. Without an executable hook it returns nil and asks nobody. What cannot be looked at from
// here, such as a link into a home that the sandbox hides, is left to the unit, which has none and tells if it cannot either.
//
// It returns nil if all hooks exited with 0, an error that is ErrNotNow if one said so, a *FailedError if one failed
// or took longer than Timeout, and another error with status.HookFailed if systemd could not be asked. A unit that
// runs already, started by a daemon that was killed, is awaited instead of started. If the connection to systemd is
// lost it is made anew and the unit looked at, until Timeout. When ctx ends the unit is stopped, and the error is
// that of ctx.
func (r Runner) Run(ctx context.Context, phase string, env map[string]string) error {
	if !slices.Contains(Phases(), phase) {
		return fmt.Errorf("run hooks: %q is no phase", phase)
	}
	if hooks, err := List(r.Directory, phase); err == nil && len(hooks) == 0 {
		return nil
	}
	limited := ctx
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	u := &unit{Runner: r, phase: phase, name: "kured-hook@" + phase + ".service", env: map[string]string{"KURED_HOOK": phase}}
	for name, value := range env {
		if name != "KURED_HOOK" {
			u.env[name] = value
		}
	}
	err := u.follow(limited)
	if limited.Err() == nil || verdict(err) {
		return err
	}
	stopped := u.stop(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return errors.Join(fmt.Errorf("hooks of %s stopped: %w", phase, ctx.Err()), stopped)
	}
	failed := &FailedError{Phase: phase, Unit: u.name, Result: "timeout", Detail: fmt.Sprintf("not done after %s", r.Timeout)}
	for _, more := range []error{u.trouble, stopped} {
		if more != nil {
			failed.Detail += "; " + status.Clean(more.Error(), maxText)
		}
	}
	return failed
}

// verdict tells whether err says how the unit ended.
func verdict(err error) bool {
	var failed *FailedError
	return err == nil || errors.Is(err, ErrNotNow) || errors.As(err, &failed)
}

// unit is one run of the unit, over all connections that it takes.
type unit struct {
	Runner
	phase, name string
	env         map[string]string

	asked   bool   // to start, or found running: it is ours to stop
	before  string // the invocation that was there when we asked
	joined  string // the invocation that was found running
	trouble error  // what the last connection ended with
}

// follow sees the unit through, on as many connections as it takes.
func (u *unit) follow(ctx context.Context) error {
	for {
		err := u.attempt(ctx)
		if ctx.Err() != nil || !errors.Is(err, errLost) {
			if err != nil && !verdict(err) {
				err = status.Because(status.HookFailed, fmt.Errorf("run hooks of %s: %w", u.phase, err))
			}
			return err
		}
		u.trouble = err
		timer := time.NewTimer(cmp.Or(u.reconnect, reconnectAfter))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// attempt is follow on one connection.
func (u *unit) attempt(ctx context.Context) error {
	s, err := open(ctx, u.Address)
	if err != nil {
		return err
	}
	defer s.close()
	// systemd forgets how a unit ended that nobody refers to.
	if err := s.ref(ctx, u.name); err != nil {
		return u.refused(ctx, err)
	}
	seen, err := s.look(ctx, u.name)
	if err != nil {
		return err
	}
	var done chan string
	switch {
	case u.ours(seen):
	case seen.active == "activating":
		u.asked, u.joined = true, seen.invocation
	default:
		if done, err = u.start(ctx, s, seen); err != nil {
			return err
		}
	}
	if seen, err = s.await(ctx, u.name, done); err != nil {
		return err
	}
	return u.judge(seen)
}

// ours tells whether what is seen is the run that we asked for or found.
func (u *unit) ours(seen look) bool {
	return seen.invocation != "" && (seen.invocation == u.joined || u.asked && u.joined == "" && seen.invocation != u.before)
}

// start asks systemd to start the unit. A start that is queued already is joined by systemd itself.
func (u *unit) start(ctx context.Context, s *session, seen look) (done chan string, err error) {
	path := filepath.Join(u.EnvDirectory, "hook-"+u.phase+".env")
	if err := writeEnvironment(path, u.env); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	u.asked, u.before, u.joined = true, seen.invocation, ""
	done = make(chan string, 1)
	err = s.call(ctx, "start "+u.name, func(ctx context.Context) error {
		_, err := s.systemd.StartUnitContext(ctx, u.name, "replace", done)
		return err
	})
	if err == nil || errors.Is(err, errLost) || ctx.Err() != nil { // or it may have started all the same
		return done, err
	}
	u.asked = false // there is nothing to stop
	return nil, u.refused(ctx, err)
}

// refused makes a failure of what systemd answers: that the unit is masked or missing, for instance.
func (u *unit) refused(ctx context.Context, err error) error {
	if errors.Is(err, errLost) || ctx.Err() != nil {
		return err
	}
	return &FailedError{Phase: u.phase, Unit: u.name, Result: "not-started", Detail: status.Clean(err.Error(), maxText)}
}

// judge reads from the unit how the run ended.
func (u *unit) judge(seen look) error {
	failed := &FailedError{Phase: u.phase, Unit: u.name, Result: seen.result, Code: int(seen.status), Detail: status.Clean(seen.text, maxText)}
	switch {
	case !u.ours(seen):
		failed.Result, failed.Code = "not-run", 0
		failed.Detail = fmt.Sprintf("systemd did not run it; it is %s", status.Clean(seen.active, maxText))
		return failed
	case seen.result != "success" && seen.result != "exit-code":
		return failed
	case seen.code != exited:
		if failed.Result == "success" { // systemd finds it all right that a signal ended what it was told to stop
			failed.Result = "signal"
		}
		return failed
	case seen.status == ExitNotNow:
		return &notNow{unit: u.name, detail: failed.Detail}
	case seen.result == "success" && seen.status == 0:
		return nil
	}
	return failed
}

// stop ends the unit, if it is ours, and waits for it.
func (u *unit) stop(ctx context.Context) error {
	if !u.asked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	s, err := open(ctx, u.Address)
	if err == nil {
		defer s.close()
		done := make(chan string, 1)
		err = s.call(ctx, "stop "+u.name, func(ctx context.Context) error {
			_, err := s.systemd.StopUnitContext(ctx, u.name, "replace", done)
			return err
		})
		if err == nil {
			_, err = s.await(ctx, u.name, done)
		}
	}
	if err != nil {
		return fmt.Errorf("%s may still run: %w", u.name, err)
	}
	return nil
}
