package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/status"
)

// State checks the directory that outlives reboots: that a file can be made in
// it, and that the reboots of the last day can be read.
func State(ctx context.Context, dir string, budget gate.Budget) []Finding {
	f, err := os.CreateTemp(dir, ".doctor-*")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return one(warn("systemctl start kured.service", "%s does not exist yet: systemd makes it when kured.service starts", dir))
	case err != nil:
		return one(fail("run kured doctor as root; see whether the file system is read-only or full", "%s cannot be written: %v", dir, err))
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return one(fail("see whether the file system is read-only or full", "%s cannot be written: %v", dir, err))
	}
	if v := budget.Check(ctx, gate.Before); !v.Open {
		if v.Reason == status.BudgetUnreadable {
			return one(fail("remove "+budget.Path+" to start anew", "%s", v.Detail))
		}
		return one(warn("find out why the sentinel stands again after each reboot", "%s", v.Detail))
	}
	return one(ok("%s can be written, the reboots of the last day can be read", dir))
}

// Hooks checks the modes of the programs in PHASE.d of the directory: they run
// as root, so nobody but root may be able to change them, and what is not
// executable is no hook.
func (m Machine) Hooks(dir string) []Finding {
	var found []Finding
	count := 0
	if m.foreign(dir) {
		found = append(found, exposed(dir))
	}
	for _, phase := range hook.Phases() {
		hooks, err := hook.List(dir, phase)
		if err != nil {
			found = append(found, fail("remove what leads nowhere, or make it readable", "%v", err))
			continue
		}
		count += len(hooks)
		place := filepath.Join(dir, phase+".d")
		if m.foreign(place) {
			found = append(found, exposed(place))
		}
		for _, path := range hooks {
			if m.foreign(path) {
				found = append(found, exposed(path))
			}
		}
		found = append(found, idle(place)...)
	}
	if len(found) > 0 {
		return found
	}
	if count == 0 {
		return one(ok("there are none in %s", dir))
	}
	return one(ok("%d in %s, which only root can change", count, dir))
}

// exposed is the finding about a foreign path.
func exposed(path string) Finding {
	return fail("chown root: "+path+" && chmod go-w "+path, "%s can be changed by others than root, and hooks run as root", path)
}

// foreign reports whether somebody else than the owner of hooks can change a file or directory.
func (m Machine) foreign(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false // not there; hook.List says what else it is
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	return known && stat.Uid != m.Owner || info.Mode().Perm()&0o022 != 0
}

// idle names files that look like hooks and are none.
func idle(place string) []Finding {
	var found []Finding
	entries, _ := os.ReadDir(place) // hook.List has said why not
	for _, entry := range entries {
		path := filepath.Join(place, entry.Name())
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 == 0 && !hook.Ignored(entry.Name()) {
			found = append(found, warn("chmod +x "+path+", or remove it", "%s is not executable, so it is no hook", path))
		}
	}
	return found
}

// Daemon judges what the daemon says of itself, or that it says nothing.
func Daemon(s status.Status, err error, now time.Time) []Finding {
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return one(fail("systemctl start kured.service; journalctl -u kured.service", "the daemon does not run: no reboot is ever begun"))
	case errors.Is(err, control.ErrSilent):
		return one(fail("journalctl -u kured.service; systemctl restart kured.service", "the daemon runs and does not answer"))
	case err != nil:
		return one(warn("run kured doctor as root", "what the daemon does cannot be asked: %v", err))
	case s.Glance() == status.Failed:
		return one(fail("kured why", "this node is %s, and a person is needed: %s", s.Phase, cmp.Or(s.Detail, string(s.Reason))))
	}
	return one(ok("the daemon runs, %s for %s", s.Phase, max(0, now.Sub(s.Since)).Round(time.Second)))
}

// Validity judges the end of a credential that somebody else made and renews.
func Validity(v kube.Validity, err error, now time.Time) []Finding {
	remedy, what, end := "see why the kubelet does not renew it: journalctl -u kubelet", "client certificate", v.Ends.UTC().Format(time.RFC3339)
	if v.Kind == kube.BearerToken {
		remedy, what = "see why nobody renews the token in the kubeconfig", "token"
	}
	switch left := v.Ends.Sub(now); {
	case err != nil:
		return one(fail(remedy, "the credential cannot be read: %v", err))
	case v.Kind == "":
		return one(ok("the credential has no end that can be seen"))
	case left <= 0:
		return one(fail(remedy, "the %s ended at %s", what, end))
	case v.Late(now):
		return one(warn(remedy, "the %s ends at %s, in %s, and is not renewed", what, end, left.Round(time.Minute)))
	}
	return one(ok("the %s is good until %s", what, end))
}

// Identity judges the end of a credential that kured enroll made. due says that
// it should have been renewed by now, anew how that is done.
func Identity(what string, ends time.Time, due bool, anew string, now time.Time) []Finding {
	end := ends.UTC().Format(time.RFC3339)
	switch {
	case !ends.After(now):
		return one(fail(anew, "the %s ended at %s", what, end))
	case due:
		return one(warn(anew, "the %s ends at %s, in %s, and is not renewed", what, end, ends.Sub(now).Round(time.Minute)))
	}
	return one(ok("the %s is good until %s", what, end))
}

// Secret checks a file that holds the address of a notice, which is a secret:
// check says what is wrong with its content, without showing it.
func Secret(path string, check func(content string) error) Finding {
	text, err := Machine{Root: "/"}.read(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return warn("run kured doctor as root", "%v", err)
	case err != nil:
		return fail("write the address into the file, readable by root alone", "%v", err)
	}
	if err := check(strings.TrimSpace(text)); err != nil {
		return fail("correct the address in the file", "%s: %v", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return warn("chmod 600 "+path, "%s holds a secret, and others than root may read it (mode %04o)", path, info.Mode().Perm())
	}
	return ok("%s has an address in the right form", path)
}
