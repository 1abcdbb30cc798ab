package nodes

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

const (
	bridge    = "kured0"
	bridgeMAC = "02:00:0a:4d:00:01" // locally administered
)

// HostAddr is the address of the bridge: where the nodes reach servers of the test.
func HostAddr() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, 1}) }

// nodeAddr is the address of the i-th node, counted from 0.
func nodeAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}) }

// ip runs lines of ip(8) batch commands.
func ip(ctx context.Context, lines ...string) error { return ipIn(ctx, "", lines...) }

// ipIn does so in a named network namespace.
func ipIn(ctx context.Context, netns string, lines ...string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-netns", netns}, args...)
	}
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %q: %w: %s", lines, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func addBridge(ctx context.Context) error {
	return ip(ctx,
		// Without an address of its own it takes the least of its ports', and with a node that is added later
		// another one; the other nodes would then send to the one before, which is refused, until they ask anew.
		"link add "+bridge+" address "+bridgeMAC+" type bridge",
		"addr add "+HostAddr().String()+"/24 dev "+bridge,
		"link set "+bridge+" up")
}

// addPort makes a network namespace with its end of a cable to the bridge. It outlives reboots, so a node
// needs no network set-up of its own.
func addPort(ctx context.Context, name string, addr netip.Addr) error {
	if err := ip(ctx,
		"netns add "+name,
		"link add "+port(name)+" type veth peer name host0 netns "+name,
		"link set "+port(name)+" master "+bridge+" up"); err != nil {
		return err
	}
	return ipIn(ctx, name,
		"link set lo up",
		"link set host0 up",
		"addr add "+addr.String()+"/24 dev host0")
}

func removePort(ctx context.Context, name string) error { return ip(ctx, "netns del "+name) }

// port is the bridge's end of a node's cable.
func port(name string) string { return "v-" + name }
