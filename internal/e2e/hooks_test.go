//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/status"
)

// hooked is a node whose hooks are run from outside, by the code that is in the daemon.
type hooked struct {
	*story
	n      *nodes.Node
	runner hook.Runner
}

// TestHookUnit runs hooks of every kind in the unit, on each systemd.
func TestHookUnit(t *testing.T) {
	s := begin(t, 5*time.Minute)
	for _, n := range s.Room.Nodes() {
		t.Run(n.Name, func(t *testing.T) {
			t.Parallel()
			own := *s
			own.t = t
			h := &hooked{story: &own, n: n}
			leader, err := n.Leader()
			own.must(err)
			h.runner.Address, err = n.BusAddress()
			own.must(err)
			root := fmt.Sprintf("/proc/%d/root", leader)
			h.runner.Directory, h.runner.EnvDirectory, h.runner.Timeout = root+hook.DefaultDirectory, root+"/run/kured", time.Minute
			for _, part := range []struct {
				name string
				test func()
			}{
				{"endings", h.endings},
				{"environment", h.environment},
				{"limits of time", h.limits},
				{"joined", h.joined},
				{"not run", h.notRun},
				{"from the sandbox", h.sandboxed},
			} {
				t.Run(part.name, func(t *testing.T) { own.t = t; part.test() })
			}
			own.t = t
		})
	}
}

// hook puts a shell script among the hooks until the end of the test.
func (h *hooked) hook(phase, name, script string) {
	h.t.Helper()
	file := path.Join(hook.DefaultDirectory, phase+".d", name)
	h.afterwards("remove "+file, func(context.Context) error { return h.n.Remove(file) })
	h.must(h.n.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func unitOf(phase string) string { return "kured-hook@" + phase + ".service" }

// reset lets systemd forget a failure.
func (h *hooked) reset(phase string) {
	h.t.Helper()
	_, err := h.n.Exec(h.ctx, "systemctl", "reset-failed", unitOf(phase))
	h.must(err)
}

func (h *hooked) run(phase string) error { return h.runner.Run(h.ctx, phase, nil) }

// fails checks how a phase fails.
func (h *hooked) fails(phase, result string, code int, detail string) {
	h.t.Helper()
	err := h.run(phase)
	failed, ok := errors.AsType[*hook.FailedError](err)
	if !ok || failed.Phase != phase || failed.Unit != unitOf(phase) || failed.Result != result || failed.Code != code ||
		!strings.Contains(failed.Detail, detail) {
		h.t.Errorf("%s, %s: got %+v, want result %s %d with %q", h.n.Name, phase, err, result, code, detail)
	}
}

func (h *hooked) endings() {
	h.hook(hook.PreDrain, "10-e2e", "exit 0")
	if err := h.run(hook.PreDrain); err != nil {
		h.t.Error(err)
	}
	h.hook(hook.PreDrain, "20-e2e", "exit 75")
	h.hook(hook.PreDrain, "30-e2e", "echo >/run/e2e-third")
	err := h.run(hook.PreDrain)
	if !errors.Is(err, hook.ErrNotNow) || !strings.Contains(err.Error(), "20-e2e: exit code 75") {
		h.t.Errorf("%s: got %v, want not now", h.n.Name, err)
	}
	if state, err := h.n.UnitState(h.ctx, unitOf(hook.PreDrain)); state != "inactive" {
		h.t.Errorf("%s: after \"not now\" the unit is %s, %v", h.n.Name, state, err)
	}

	h.hook(hook.PreDrain, "20-e2e", "exit 3")
	h.fails(hook.PreDrain, "exit-code", 1, "20-e2e: exit code 3")
	h.hook(hook.PreDrain, "20-e2e", "kill -9 $$")
	h.fails(hook.PreDrain, "exit-code", 1, "20-e2e: killed by signal 9")
	h.hook(hook.PreDrain, "20-e2e", "kill -9 $PPID; sleep 60")
	h.fails(hook.PreDrain, "signal", int(syscall.SIGKILL), "")
	h.must(h.n.WriteFile(hook.DefaultDirectory+"/pre-drain.d/20-e2e", []byte("#!/no/such/interpreter\n"), 0o755))
	h.fails(hook.PreDrain, "exit-code", 1, "20-e2e: cannot be run")
	h.reset(hook.PreDrain)
	if there, err := h.n.Exists("/run/e2e-third"); there || err != nil {
		h.t.Errorf("%s: the third hook ran: %v", h.n.Name, err)
	}
	// Without the second the third runs; not executable is not there.
	h.must(h.n.WriteFile(hook.DefaultDirectory+"/pre-drain.d/20-e2e", []byte("#!/bin/sh\nexit 1\n"), 0o644))
	if err := h.run(hook.PreDrain); err != nil {
		h.t.Error(err)
	}
	h.must(h.n.Remove("/run/e2e-third"))
	journal, err := h.n.Journal(h.ctx, "", unitOf(hook.PreDrain))
	h.must(err)
	var text strings.Builder
	for _, entry := range journal {
		text.WriteString(entry.Message + "\n")
	}
	contains(h.t, "the journal of the unit", text.String(), "10-e2e begins", "10-e2e: exit code 0", "20-e2e: exit code 75, not now", "20-e2e: exit code 3")
}

// environment shows that systemd reads just what was written.
func (h *hooked) environment() {
	h.hook(hook.PostUncordon, "env", "env >/run/e2e-env")
	const odd = `"it's" $HOME ${HOME} %n \ \\ ` + "`id`" + ` # ; = ü` + "\ttab\nline "
	for range 2 { // anew each time
		h.must(h.runner.Run(h.ctx, hook.PostUncordon, map[string]string{
			"KURED_NODE": h.n.Name, "KURED_PHASE": "returning", "KURED_REASON": odd, "KURED_LOCK": "",
		}))
	}
	text, err := h.n.ReadFile("/run/e2e-env")
	h.must(err)
	h.must(h.n.Remove("/run/e2e-env"))
	contains(h.t, "the environment", "\n"+string(text), "\nKURED_NODE="+h.n.Name+"\n", "\nKURED_PHASE=returning\n", "\nKURED_LOCK=\n",
		"\nKURED_HOOK=post-uncordon\n", "\nKURED_REASON="+strings.NewReplacer("\t", " ", "\n", " ").Replace(odd)+"\n")
}

func (h *hooked) limits() {
	alive := func() string {
		h.t.Helper()
		out, err := h.n.Exec(h.ctx, "sh", "-c", "pgrep -f '[e]2e-lasts-long' || true")
		h.must(err)
		return out
	}
	h.hook(hook.PreReboot, "long", "sh -c 'sleep 600; : e2e-lasts-long' & sh -c 'sleep 600; : e2e-lasts-long'")
	quick := h.runner
	quick.Timeout = time.Second
	err := quick.Run(h.ctx, hook.PreReboot, nil)
	if failed, ok := errors.AsType[*hook.FailedError](err); !ok || failed.Result != "timeout" || failed.Detail != "not done after 1s" {
		h.t.Errorf("%s: got %v", h.n.Name, err)
	}
	if left := alive(); left != "" {
		h.t.Errorf("%s: still there after the time-out: %s", h.n.Name, left)
	}
	ctx, cancel := context.WithTimeout(h.ctx, time.Second)
	defer cancel()
	if err := h.runner.Run(ctx, hook.PreReboot, nil); !errors.Is(err, context.DeadlineExceeded) {
		h.t.Errorf("%s: got %v", h.n.Name, err)
	}
	if left := alive(); left != "" {
		h.t.Errorf("%s: still there after the end of the context: %s", h.n.Name, left)
	}
	h.dropIn("[Service]\nTimeoutStartSec=1s\n")
	h.fails(hook.PreReboot, "timeout", 1, "long: killed by signal 15")
	h.reset(hook.PreReboot)
	h.hook(hook.PreReboot, "long", "nice >/run/e2e-nice")
	h.dropIn("")
	if err := h.run(hook.PreReboot); err != nil {
		h.t.Error(err)
	}
	nice, err := h.n.ReadFile("/run/e2e-nice")
	if err != nil || string(nice) != "5\n" {
		h.t.Errorf("%s: nice is %q, %v", h.n.Name, nice, err)
	}
	h.must(h.n.Remove("/run/e2e-nice"))
	for name, want := range map[string]uint64{"TasksMax": 256, "MemoryMax": 512 << 20} {
		var got uint64
		if err := h.n.UnitProperty(h.ctx, unitOf(hook.PreReboot), name, &got); err != nil || got != want {
			h.t.Errorf("%s: %s is %d, %v, want %d", h.n.Name, name, got, err, want)
		}
	}
}

// dropIn changes the unit until the end of the test.
func (h *hooked) dropIn(text string) {
	h.t.Helper()
	const file = "/run/systemd/system/kured-hook@.service.d/e2e.conf"
	h.must(h.n.WriteFile(file, []byte(text), 0o644))
	h.afterwards("remove the drop-in", func(ctx context.Context) error {
		_, err := h.n.Exec(ctx, "sh", "-c", "rm -f "+file+"; systemctl daemon-reload")
		return err
	})
	_, err := h.n.Exec(h.ctx, "systemctl", "daemon-reload")
	h.must(err)
}

// joined: who asked for the unit first is gone; what runs is awaited, not run twice.
func (h *hooked) joined() {
	h.hook(hook.PostBoot, "slow", "echo x >>/run/e2e-runs; sleep 3")
	_, err := h.n.Exec(h.ctx, "systemctl", "start", "--no-block", unitOf(hook.PostBoot))
	h.must(err)
	h.must(h.n.WaitUnit(h.ctx, unitOf(hook.PostBoot), "activating"))
	began := time.Now()
	if err := h.run(hook.PostBoot); err != nil {
		h.t.Error(err)
	}
	runs, err := h.n.ReadFile("/run/e2e-runs")
	h.must(err)
	h.must(h.n.Remove("/run/e2e-runs"))
	if string(runs) != "x\n" || time.Since(began) < time.Second {
		h.t.Errorf("%s: ran %d times, awaited for %s", h.n.Name, strings.Count(string(runs), "x"), time.Since(began))
	}
}

func (h *hooked) notRun() {
	phase := hook.PostBoot
	h.hook(phase, "fine", "echo >/run/e2e-fine")
	h.mask(h.n, unitOf(phase))
	h.fails(phase, "not-started", 0, "masked")
	_, err := h.n.Exec(h.ctx, "systemctl", "unmask", "--runtime", "--quiet", unitOf(phase))
	h.must(err)
	h.dropIn("[Unit]\nConditionPathExists=/no/such/file\n")
	h.fails(phase, "not-run", 0, "did not run it")
	if there, err := h.n.Exists("/run/e2e-fine"); there || err != nil {
		h.t.Errorf("%s: the hook ran: %v", h.n.Name, err)
	}
}

// sandboxed: uid 0 without a capability, in the daemon's own sandbox, may start, refer to and stop the unit.
func (h *hooked) sandboxed() {
	h.hook(hook.PreDrain, "mark", "id -u >/run/e2e-mark; grep CapEff /proc/self/status >>/run/e2e-mark")
	const unit = "e2e-sandbox.service"
	text, err := h.n.ReadFile("/usr/lib/systemd/system/kured.service")
	h.must(err)
	var lines []string
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(line, "=")
		switch key {
		case "Type", "NotifyAccess", "Restart", "WatchdogSec", "WantedBy":
			continue
		case "ExecStart":
			line = `Type=oneshot
ExecStart=/bin/grep CapEff:.0000000000000000 /proc/self/status
ExecStart=/usr/bin/busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager RefUnit s kured-hook@pre-drain.service
ExecStart=/usr/bin/busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartUnit ss kured-hook@pre-drain.service replace
`
		}
		lines = append(lines, line)
	}
	file := "/run/systemd/system/" + unit
	h.must(h.n.WriteFile(file, []byte(strings.Join(lines, "")), 0o644))
	h.afterwards("remove "+unit, func(ctx context.Context) error {
		_, err := h.n.Exec(ctx, "sh", "-c", "rm -f "+file+" /run/e2e-mark; systemctl reset-failed "+unit+" 2>/dev/null; systemctl daemon-reload")
		return err
	})
	_, err = h.n.Exec(h.ctx, "systemctl", "daemon-reload")
	h.must(err)
	if _, err := h.n.Exec(h.ctx, "systemctl", "start", unit); err != nil {
		h.t.Fatalf("%s: in the sandbox: %v", h.n.Name, err)
	}
	h.awaitFile(h.n, "/run/e2e-mark", true)
	h.must(h.n.WaitUnit(h.ctx, unitOf(hook.PreDrain), "inactive"))
	mark, err := h.n.ReadFile("/run/e2e-mark")
	h.must(err)
	if uid, caps, _ := strings.Cut(string(mark), "\n"); uid != "0" || strings.Contains(caps, "0000000000000000") {
		h.t.Errorf("%s: the hook ran with %q: not as root outside the sandbox", h.n.Name, mark)
	}
}

// inCycle prepares a node of which every hook tells what it sees, in a file on its disk.
func inCycle(t *testing.T, limit time.Duration, name string) *hooked {
	s := begin(t, limit)
	h := &hooked{story: s, n: s.Node(name)}
	h.afterwards("forget what the hooks did", func(ctx context.Context) error {
		_, err := h.n.Exec(ctx, "sh", "-c", "rm -f "+diary+"; systemctl reset-failed 'kured-hook@*.service'")
		return err
	})
	for _, phase := range hook.Phases() {
		h.hook(phase, "10-diary", `echo "$KURED_HOOK $KURED_PHASE $KURED_NODE $KURED_LOCK $KURED_BOOT_ID $KURED_REASON" >>`+diary)
	}
	return h
}

// diary is where the hooks write.
const diary = "/var/lib/e2e-diary"

// ran are the phases whose hooks ran, in order, and a line for each.
func (h *hooked) ran() (phases, lines []string) {
	h.t.Helper()
	text, err := h.n.ReadFile(diary)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		phase, _, _ := strings.Cut(line, " ")
		phases, lines = append(phases, phase), append(lines, strings.TrimSpace(line))
	}
	return phases, lines
}

// All hooks of a cycle run once, in order, and know where they are.
func TestHooksOfACycle(t *testing.T) {
	h := inCycle(t, 2*time.Minute, "node-a")
	before := h.bootIDs()
	h.want(h.n)
	h.awaitBack(h.from, h.n, before[h.n.Name])
	h.atRest()
	h.rebootedOnce(before, h.n)
	after := h.bootIDs()[h.n.Name]
	_, lines := h.ran()
	tail := h.n.Name + " kube-system/kured-lock "
	want := []string{
		"pre-drain draining " + tail + before[h.n.Name] + " linux-image-e2e",
		"pre-reboot draining " + tail + before[h.n.Name] + " linux-image-e2e",
		"post-boot returning " + tail + after + " linux-image-e2e",
		"post-uncordon returning " + tail + after + " linux-image-e2e",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("hooks ran:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// A hook fails in every way, before the drain and before the reboot: the node gives all back and tries again. Another
// says that it is not the time. In the end the hooks go well.
func TestHooksHoldTheNodeBack(t *testing.T) {
	h := inCycle(t, 4*time.Minute, "node-b")
	h.configure(h.n, "[retry]\ninitial = \"3s\"\nmax = \"6s\"", "[hooks]\ntimeout = \"2s\"\n[retry]\ninitial = \"1s\"\nmax = \"1s\"")
	script := func(phase string) string { return hook.DefaultDirectory + "/" + phase + ".d/20-script" }
	h.afterwards("remove the scripts", func(context.Context) error {
		return errors.Join(h.n.Remove(script(hook.PreDrain)), h.n.Remove(script(hook.PreReboot)))
	})
	before, at := h.bootIDs(), h.from
	old := ""
	for _, test := range []struct {
		phase, script string
		reason        status.Reason
		detail        string
	}{
		{hook.PreDrain, "exit 1", status.HookFailed, "exit code 1"},
		{hook.PreDrain, "kill -9 $$", status.HookFailed, "killed by signal 9"},
		{hook.PreDrain, "exec sleep 600", status.HookFailed, "not done after 2s"},
		{hook.PreDrain, "exit 75", status.HookDeferred, "not now"},
		{hook.PreReboot, "exit 75", status.HookDeferred, "not now"},
		{hook.PreReboot, "exit 3", status.HookFailed, "exit code 3"},
	} {
		file, began := script(test.phase), time.Now()
		h.must(h.n.WriteFile(file, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755))
		if old == "" {
			h.want(h.n)
		} else if old != file { // one of the two is always there
			h.must(h.n.Remove(old))
		}
		old = file
		h.awaitEntry(h.n, test.phase+": "+test.script, func(e nodes.Entry) bool {
			return e.Time.After(began) && e.Fields["KURED_REASON"] == string(test.reason) &&
				strings.Contains(e.Message, test.phase) && strings.Contains(e.Message, test.detail)
		})
		at = h.awaitGivenBack(at, h.n, before[h.n.Name])
	}
	h.must(h.n.Remove(old))
	h.awaitBack(at, h.n, before[h.n.Name])
	h.atRest()
	h.rebootedOnce(before, h.n)
}

// After the reboot a hook finds the node sick: it stays cordoned and holds the lock, and nobody else reboots. The same
// after the uncordon, but for the cordon.
func TestHooksAfterTheReboot(t *testing.T) {
	h := inCycle(t, 4*time.Minute, "node-c")
	const sick, busy = "/etc/e2e-sick", "/etc/e2e-busy"
	h.afterwards("cure", func(context.Context) error { return errors.Join(h.n.Remove(sick), h.n.Remove(busy)) })
	h.must(errors.Join(h.n.Touch(sick), h.n.Touch(busy)))
	h.hook(hook.PostBoot, "20-health", "test ! -e "+sick)
	h.hook(hook.PostUncordon, "20-health", "test ! -e "+busy+" || exit 75")
	before := h.bootIDs()
	h.want(h.n)
	up := h.await(h.from, "the new boot", func(c cluster.State) bool {
		return c.BootID(h.n.Name) != before[h.n.Name] && c.IsReady(h.n.Name)
	})
	h.awaitTold(h.n, status.HookFailed)
	h.must(h.Recorder.Sync(h.ctx))
	if c := h.Recorder.State(); !c.Holds(h.n.Name) || !c.IsCordoned(h.n.Name) {
		t.Errorf("not held and cordoned: %s", c)
	}
	h.must(h.n.Remove(sick))
	uncordoned := h.await(up, "the uncordon", func(c cluster.State) bool { return !c.IsCordoned(h.n.Name) })
	h.awaitTold(h.n, status.HookDeferred)
	h.must(h.Recorder.Sync(h.ctx))
	if c := h.Recorder.State(); !c.Holds(h.n.Name) {
		t.Errorf("the lock was released before the hooks went well: %s", c)
	}
	h.must(h.n.Remove(busy))
	h.await(uncordoned, "the release", func(c cluster.State) bool { return !c.Holds(h.n.Name) })
	h.atRest()
	h.rebootedOnce(before, h.n)
}

// The daemon is killed while hooks run: the next one awaits them and does not run them again.
func TestDaemonKilledWhileHooksRun(t *testing.T) {
	h := inCycle(t, 2*time.Minute, "node-b")
	o := &ordeal{story: h.story, boots: map[string]int{}}
	h.hook(hook.PreDrain, "20-slow", "sleep 8")
	before := h.bootIDs()
	h.want(h.n)
	h.must(h.n.WaitUnit(h.ctx, unitOf(hook.PreDrain), "activating"))
	o.killDaemon(h.n)
	h.awaitBack(h.from, h.n, before[h.n.Name])
	h.atRest()
	h.rebootedOnce(before, h.n)
	if phases, _ := h.ran(); !slices.Equal(phases, hook.Phases()) {
		t.Errorf("ran %q, want each once", phases)
	}
}
