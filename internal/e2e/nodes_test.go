//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kured-host/kured/internal/e2e/nodes"
)

// TestNodes shows that the nodes of the other tests are what they claim to be, without kured.
func TestNodes(t *testing.T) {
	alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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

	t.Run("commands and files", func(t *testing.T) { testCommands(ctx, t, all) })
	t.Run("reboot through logind", func(t *testing.T) { testReboot(ctx, t, all) })
	t.Run("kill a service", func(t *testing.T) { testKill(ctx, t, all[1]) })
	t.Run("hold off and power cut", func(t *testing.T) { testPower(ctx, t, all[0]) })
	t.Run("freeze", func(t *testing.T) { testFreeze(ctx, t, all[1]) })
	t.Run("partition", func(t *testing.T) { testPartition(ctx, t, all[2]) })
}

// each does the same with all nodes at once.
func each(t *testing.T, all []*nodes.Node, do func(*nodes.Node) error) {
	t.Helper()
	var group errgroup.Group
	for _, n := range all {
		group.Go(func() error { return do(n) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func testCommands(ctx context.Context, t *testing.T, all []*nodes.Node) {
	each(t, all, func(n *nodes.Node) error {
		if got, err := n.Exec(ctx, "sh", "-c", "echo out; echo err >&2; . /etc/os-release; echo ${VERSION_CODENAME}; hostname"); err != nil {
			return err
		} else if want := "out\n" + string(n.Image) + "\n" + n.Name + "\n"; got != want {
			t.Errorf("%s: got %q, want %q", n.Name, got, want)
		}
		_, err := n.Exec(ctx, "sh", "-c", "echo why >&2; exit 7")
		if exit, ok := errors.AsType[*nodes.ExitError](err); !ok || exit.Code != 7 || exit.Stderr != "why\n" {
			t.Errorf("%s: got %v, want exit code 7 with stderr", n.Name, err)
		}
		if err := n.WriteFile("/run/e2e/x", []byte("volatile"), 0o600); err != nil {
			return err
		}
		if err := n.WriteFile("/etc/e2e/x", []byte("on disk"), 0o640); err != nil {
			return err
		}
		got, err := n.Exec(ctx, "sh", "-c", "cat /run/e2e/x; stat -c ' %a' /run/e2e/x; cat /etc/e2e/x; stat -c ' %a' /etc/e2e/x")
		if want := "volatile 600\non disk 640\n"; err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", n.Name, got, err, want)
		}
		return nil
	})
}

func testReboot(ctx context.Context, t *testing.T, all []*nodes.Node) {
	each(t, all, func(n *nodes.Node) error {
		before, err := n.BootID()
		if err != nil {
			return err
		}
		if err := errors.Join(n.Touch("/var/lib/persistent"), n.Touch("/run/volatile")); err != nil {
			return err
		}
		// From inside; the answer may or may not arrive before the bus is gone.
		if _, err := n.Exec(ctx, "busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1",
			"org.freedesktop.login1.Manager", "Reboot", "b", "false"); err != nil {
			t.Logf("%s: %v", n.Name, err)
		}
		after, err := n.WaitBooted(ctx, before)
		if err != nil {
			return err
		}
		if err := n.WaitSystemState(ctx, "running"); err != nil {
			return err
		}
		boots := n.Boots()
		if len(boots) != 2 || boots[0].ID != before || boots[0].Ending != nodes.Rebooted || boots[1].ID != after {
			t.Errorf("%s: boots %+v, want %s rebooted and then %s", n.Name, boots, before, after)
		}
		if inside, err := n.Exec(ctx, "sh", "-c", "tr -d - </proc/sys/kernel/random/boot_id"); err != nil || strings.TrimSpace(inside) != after {
			t.Errorf("%s: boot id inside %q, %v, outside %q", n.Name, inside, err, after)
		}
		for path, want := range map[string]bool{"/var/lib/persistent": true, "/run/volatile": false} {
			if got, err := n.Exists(path); err != nil || got != want {
				t.Errorf("%s: %s exists: %v, %v, want %v", n.Name, path, got, err, want)
			}
		}
		for _, boot := range []string{before, after} {
			entries, err := n.Journal(ctx, boot, "systemd-logind")
			if err != nil {
				return err
			}
			if len(entries) == 0 || entries[0].Boot != boot {
				t.Errorf("%s: no journal of boot %s", n.Name, boot)
			}
			rebooting := false
			for _, e := range entries {
				rebooting = rebooting || strings.Contains(e.Message, "System is rebooting")
			}
			if rebooting != (boot == before) {
				t.Errorf("%s: journal of boot %s tells of a reboot: %v", n.Name, boot, rebooting)
			}
		}
		return nil
	})
}

func testKill(ctx context.Context, t *testing.T, n *nodes.Node) {
	const unit = "systemd-logind.service"
	var before, after uint32
	if err := n.UnitProperty(ctx, unit, "MainPID", &before); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(ctx, unit, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := nodes.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		err := n.UnitProperty(ctx, unit, "MainPID", &after)
		return err == nil && after != 0 && after != before, nil
	})
	if err != nil {
		t.Errorf("%s was not restarted: %v", unit, err)
	}
}

func testPower(ctx context.Context, t *testing.T, n *nodes.Node) {
	before, err := n.BootID()
	if err != nil {
		t.Fatal(err)
	}
	n.HoldOff(true)
	if err := n.Reboot(ctx); err != nil {
		t.Logf("reboot: %v", err)
	}
	if err := n.WaitOff(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Exec(ctx, "true"); !errors.Is(err, nodes.ErrDown) {
		t.Errorf("command on a node that is off: %v, want ErrDown", err)
	}
	if err := n.WriteFile("/etc/e2e/while-off", nil, 0o644); err != nil {
		t.Errorf("the disk of a node that is off: %v", err)
	}
	n.HoldOff(false)
	second, err := n.WaitBooted(ctx, before)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.PowerCut(true); err != nil {
		t.Fatal(err)
	}
	third, err := n.WaitBooted(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.PowerCut(false); err != nil {
		t.Fatal(err)
	}
	if err := n.WaitOff(ctx); err != nil {
		t.Fatal(err)
	}
	boots := n.Boots()
	if last := boots[len(boots)-1]; last.ID != third || last.Ending != nodes.Died {
		t.Errorf("last boot %+v, want %s died", last, third)
	}
	n.PowerOn()
	if _, err := n.WaitBooted(ctx, third); err != nil {
		t.Fatal(err)
	}
	if err := n.WaitSystemState(ctx, "running"); err != nil {
		t.Error(err)
	}
}

func testFreeze(ctx context.Context, t *testing.T, n *nodes.Node) {
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if state, err := n.SystemState(short); err == nil {
		t.Errorf("a frozen node says it is %s", state)
	}
	if err := n.Thaw(); err != nil {
		t.Fatal(err)
	}
	if state, err := n.SystemState(ctx); err != nil || state != "running" {
		t.Errorf("a thawed node is %s, %v", state, err)
	}
}

func testPartition(ctx context.Context, t *testing.T, n *nodes.Node) {
	listener, err := net.Listen("tcp", net.JoinHostPort(nodes.HostAddr().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	connect := func() error {
		_, err := n.Exec(ctx, "timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/control-plane/"+port)
		return err
	}
	connected := func(when string) {
		if err := nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) { return connect() == nil, nil }); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	connected("before")
	if err := n.Partition(ctx); err != nil {
		t.Fatal(err)
	}
	if err := connect(); err == nil {
		t.Error("a partitioned node reached the control plane")
	}
	if err := n.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	connected("healed")
}
