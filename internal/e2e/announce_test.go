//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/logind"
)

// TestAnnouncements shows on the logind of each release that an announced reboot is seen, can be cancelled, and never
// happens by itself. kured's package for logind talks to the real ones; kured itself is not there.
func TestAnnouncements(t *testing.T) {
	alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	room := roomFor(ctx, t)
	room.DumpOnFailure(t, t.Name(), "systemd-logind")
	all, err := room.Add(ctx,
		nodes.Spec{Name: "bullseye", Image: nodes.Debian11},
		nodes.Spec{Name: "bookworm", Image: nodes.Debian12},
		nodes.Spec{Name: "trixie", Image: nodes.Debian13})
	if err != nil {
		t.Fatal(err)
	}
	each(t, all, func(n *nodes.Node) error { return n.WaitSystemState(ctx, "running") })
	t.Run("releases", func(t *testing.T) {
		for _, n := range all {
			t.Run(n.Name, func(t *testing.T) {
				t.Parallel()
				announcements(newHerald(ctx, t, n))
			})
		}
	})
}

// announcements is the story of one node.
func announcements(h *herald) {
	h.somebodyLogsIn()
	h.knowsMethods()
	h.isSeenAndDoesNothing()
	h.isCancelled()
	h.needsNoCapability()
	h.outlivesLogind()
	h.leavesAPersonAlone()
	h.leadsToAReboot()
}

// herald announces reboots of a node, from outside.
type herald struct {
	*testing.T
	ctx    context.Context
	node   *nodes.Node
	login  logind.Manager
	boot   string // which must not end before it is asked for
	newer  bool   // than systemd 250: shutdown --show, kexec, a schedule that outlives logind
	kernel string // a kexec_loaded of a kernel that can: that of the nodes cannot
}

const why = "kured installs a kernel"

func newHerald(ctx context.Context, t *testing.T, n *nodes.Node) *herald {
	t.Helper()
	h := &herald{T: t, ctx: ctx, node: n, newer: n.Image != nodes.Debian11, kernel: filepath.Join(t.TempDir(), "loaded")}
	if err := os.WriteFile(h.kernel, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.connect()
	return h
}

// connect finds the node as it runs now.
func (h *herald) connect() {
	h.Helper()
	address, err := h.node.BusAddress()
	h.must(err)
	leader, err := h.node.Leader()
	h.must(err)
	h.login = logind.Manager{
		Address:      address,
		ScheduleFile: fmt.Sprintf("/proc/%d/root/run/systemd/shutdown/scheduled", leader),
		KexecFile:    h.kernel,
	}
	h.boot, err = h.node.BootID()
	h.must(err)
}

func (h *herald) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%s: %v", h.node.Name, err)
	}
}

// sh runs a script on the node and returns all that it says.
func (h *herald) sh(script string) string {
	h.Helper()
	out, err := h.node.Exec(h.ctx, "sh", "-c", "{ "+script+"; } 2>&1")
	if err != nil {
		h.Fatalf("%s: %v\n%s", h.node.Name, err, out)
	}
	return out
}

func (h *herald) property(name string) string {
	h.Helper()
	return strings.TrimSpace(h.sh("busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager " + name))
}

func (h *herald) announce(in time.Duration) time.Time {
	h.Helper()
	at := time.Now().Add(in)
	h.must(h.login.Announce(h.ctx, at, why))
	return at
}

// await is AwaitAnnounced beside the test.
func (h *herald) await(at time.Time) <-chan error {
	result := make(chan error, 1)
	go func() { result <- h.login.AwaitAnnounced(h.ctx, at, why) }()
	return result
}

func (h *herald) seen(want bool) {
	h.Helper()
	if got := h.property("ScheduledShutdown"); strings.Contains(got, `"reboot"`) != want {
		h.Errorf("%s: ScheduledShutdown is %s", h.node.Name, got)
	}
	for path, want := range map[string]bool{"/run/nologin": want, "/run/systemd/shutdown/scheduled": false} {
		if there, err := h.node.Exists(path); err != nil || there != want {
			h.Errorf("%s: %s is there: %t, %v; want %t", h.node.Name, path, there, err, want)
		}
	}
}

func (h *herald) stillUp() {
	h.Helper()
	if id, err := h.node.BootID(); err != nil || id != h.boot {
		h.Fatalf("%s rebooted by itself: boot %s, %v, want %s", h.node.Name, id, err, h.boot)
	}
}

// awaitLogged waits until logind has logged something.
func (h *herald) awaitLogged(text string) {
	h.Helper()
	h.must(nodes.Poll(h.ctx, 200*time.Millisecond, func() (bool, error) {
		entries, err := h.node.Journal(h.ctx, h.boot, "systemd-logind")
		for _, e := range entries {
			if strings.Contains(e.Message, text) {
				return true, nil
			}
		}
		return false, err
	}))
}

// terminal is where the node keeps what the terminal of somebody who is logged in shows.
const terminal = "/run/e2e-terminal"

// somebodyLogsIn opens a session of root with a terminal of its own.
func (h *herald) somebodyLogsIn() {
	h.Helper()
	h.sh("systemd-run --quiet --unit=e2e-terminal script -qfc 'tty >/run/e2e-tty; echo ready; exec sleep infinity' " + terminal)
	h.awaitTold("ready")
	h.sh("systemd-run --quiet --unit=e2e-session -p PAMName=login -p User=root -p UtmpIdentifier=e2e -p UtmpMode=user" +
		" -p StandardInput=tty-force -p StandardOutput=tty -p TTYPath=$(cat /run/e2e-tty) sh -c 'echo welcome; exec sleep infinity'")
	h.awaitTold("welcome")
	if out := h.sh("loginctl --no-legend list-sessions"); !strings.Contains(out, "pts/") {
		h.Errorf("%s: sessions: %s", h.node.Name, out)
	}
}

// awaitTold waits until the terminal shows texts.
func (h *herald) awaitTold(texts ...string) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Second)
	defer cancel()
	var shown []byte
	err := nodes.Poll(ctx, 100*time.Millisecond, func() (_ bool, err error) {
		if shown, err = h.node.ReadFile(terminal); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		for len(texts) > 0 && strings.Contains(string(shown), texts[0]) {
			texts = texts[1:]
		}
		return len(texts) == 0, err
	})
	if err != nil {
		h.Errorf("%s: %v: the terminal shows %q, want %q", h.node.Name, err, shown, texts)
	}
}

func (h *herald) knowsMethods() {
	h.Helper()
	h.must(h.login.Supports(h.ctx, logind.Normal))
	err := h.login.Supports(h.ctx, logind.Kexec)
	if no, ok := errors.AsType[*logind.UnsupportedError](err); h.newer && err != nil || !h.newer && (!ok || !strings.Contains(no.Reason, "systemd 247")) {
		h.Errorf("%s: kexec: %v", h.node.Name, err)
	}
	if _, ok := errors.AsType[*logind.UnsupportedError](h.login.Supports(h.ctx, logind.SoftReboot)); !ok {
		h.Errorf("%s: soft-reboot is supported", h.node.Name)
	}
}

// Everybody sees it, its time passes, and nothing happens.
func (h *herald) isSeenAndDoesNothing() {
	h.Helper()
	at := h.announce(3 * time.Second)
	h.seen(true)
	h.awaitTold("Broadcast message", why, "reboot at ")
	if got := h.property("WallMessage"); !strings.Contains(got, why) {
		h.Errorf("%s: WallMessage is %s", h.node.Name, got)
	}
	if h.newer {
		if got := h.sh("shutdown --show"); !strings.Contains(got, "Reboot scheduled for") {
			h.Errorf("%s: shutdown --show: %s", h.node.Name, got)
		}
	}
	h.must(h.login.AwaitAnnounced(h.ctx, at, why))
	if early := time.Until(at); early > 0 {
		h.Errorf("%s: returned %s too early", h.node.Name, early)
	}
	h.seen(true)
	h.awaitLogged("suppressing action") // five seconds later
	h.seen(false)
	h.stillUp()
}

// A person cancels it.
func (h *herald) isCancelled() {
	h.Helper()
	result := h.await(h.announce(10 * time.Minute))
	h.sh("sleep 1; shutdown -c")
	if err := <-result; !errors.Is(err, logind.ErrAnnouncementCancelled) {
		h.Errorf("%s: after shutdown -c: %v", h.node.Name, err)
	}
	h.awaitTold("shutdown has been cancelled")
	h.seen(false)
}

// Root without any capability, in a sandbox that lets it write in one place, may do all that an announcement takes.
func (h *herald) needsNoCapability() {
	h.Helper()
	const call = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager "
	const script = call + "SetWallMessage sb \"" + why + "\" true && " +
		call + "ScheduleShutdown st dry-reboot $(date -d \"10 minutes\" +%s)271828 && " +
		"rm /run/systemd/shutdown/scheduled && " + call + "CancelScheduledShutdown"
	out := h.sh("mkdir -p /run/systemd/shutdown; systemd-run --quiet --pipe --wait --collect -p CapabilityBoundingSet= -p NoNewPrivileges=yes" +
		" -p ProtectSystem=strict -p ReadWritePaths=/run/systemd/shutdown sh -c '" + script + "'")
	if !strings.Contains(out, "b true") {
		h.Errorf("%s: in the sandbox: %s", h.node.Name, out)
	}
	h.seen(false)
}

// A restart of logind neither ends it nor makes it real.
func (h *herald) outlivesLogind() {
	h.Helper()
	at := h.announce(4 * time.Second)
	result := h.await(at)
	h.sh("sleep 1; systemctl restart systemd-logind.service")
	h.must(<-result)
	h.seen(true)
	h.must(h.login.Withdraw(h.ctx))
	h.seen(false)
	if got := h.property("WallMessage"); got != `s ""` {
		h.Errorf("%s: WallMessage is %s", h.node.Name, got)
	}
	// Nobody watches it, and logind is restarted: it is forgotten, and its time passes.
	at = h.announce(time.Second)
	h.sh("systemctl restart systemd-logind.service")
	if got := h.property("ScheduledShutdown"); strings.Contains(got, "reboot") {
		h.Errorf("%s: after a restart of logind, ScheduledShutdown is %s", h.node.Name, got)
	}
	time.Sleep(time.Until(at.Add(7 * time.Second)))
	h.stillUp()
}

// What a person has scheduled stays.
func (h *herald) leavesAPersonAlone() {
	h.Helper()
	h.must(h.login.MayReboot(h.ctx))
	for flag, kind := range map[string]string{"-r": "reboot", "-P": "poweroff"} {
		h.sh("shutdown " + flag + " +60")
		other, ok := errors.AsType[*logind.ScheduledError](h.login.MayReboot(h.ctx))
		if !ok || other.Type != kind || other.Reboots() != (kind == "reboot") || other.Begun || time.Until(other.At) < 59*time.Minute {
			h.Errorf("%s: may it reboot beside shutdown %s +60: %+v", h.node.Name, flag, other)
		}
		h.sh("shutdown -c")
		h.must(h.login.MayReboot(h.ctx))
	}
	h.sh("shutdown -r +60")
	err := h.login.Announce(h.ctx, time.Now().Add(time.Minute), why)
	if other, ok := errors.AsType[*logind.ScheduledError](err); !ok || other.Type != "reboot" || time.Until(other.At) < 59*time.Minute {
		h.Errorf("%s: beside shutdown -r +60: %v", h.node.Name, err)
	}
	h.must(h.login.Withdraw(h.ctx))
	if got := h.property("ScheduledShutdown"); !strings.Contains(got, `"reboot"`) {
		h.Errorf("%s: ScheduledShutdown is %s", h.node.Name, got)
	}
	h.sh("shutdown -c")
}

// The reboot itself. No kernel is loaded for kexec, so logind does a full one.
func (h *herald) leadsToAReboot() {
	h.Helper()
	at := h.announce(time.Second)
	h.must(h.login.AwaitAnnounced(h.ctx, at, why))
	err := h.login.RebootBy(h.ctx, logind.Kexec, 20*time.Second)
	if _, refused := errors.AsType[*logind.RefusedError](err); !h.newer {
		if !refused {
			h.Errorf("%s: kexec: %v", h.node.Name, err)
		}
		h.stillUp()
		err = h.login.Reboot(h.ctx, 20*time.Second)
	}
	if err != nil && !errors.Is(err, logind.ErrUnknown) {
		h.Fatalf("%s: %v", h.node.Name, err)
	}
	_, err = h.node.WaitBooted(h.ctx, h.boot)
	h.must(err)
	if entries, err := h.node.Journal(h.ctx, h.boot, "systemd-logind"); err != nil || !strings.Contains(fmt.Sprint(entries), "System is rebooting ("+why+")") {
		h.Errorf("%s: the journal does not tell why it rebooted: %v", h.node.Name, err)
	}
	h.connect()
	if got := h.property("ScheduledShutdown"); strings.Contains(got, "reboot") {
		h.Errorf("%s: after the reboot, ScheduledShutdown is %s", h.node.Name, got)
	}
}
