//go:build e2e

// Package e2e shows kured at work on real systemd nodes: `go test -tags e2e ./internal/e2e` as root.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv/prometheus"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Subtests that do the same on several nodes wait for them: they all run at once, however few the cores are.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // there is such a flag
	}
	os.Exit(nodes.Main(prepare, func() int {
		code := m.Run()
		if err := fleet.close(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: the cluster of the stories:", err)
			code = max(code, 1)
		}
		return code
	}, halves()...))
}

// halves are all tests, in two parts that take about as long as each other and run at once, as the nodes wait more than they
// compute. Tests that are chosen by name run in one.
func halves() [][]string {
	for name, all := range map[string]string{"test.run": ".", "test.skip": "", "test.list": ""} {
		if chosen := flag.Lookup(name).Value.String(); chosen != "" && chosen != all {
			return nil
		}
	}
	// Those that begin with nodes of their own, and some of the stories. A new test belongs to the other half by itself.
	const one = "^Test(Announcements|Ansible|Cluster|Nodes|Outage|Packages|Readme|Repositories|SourcesGo)"
	return [][]string{{"-test.run=" + one}, {"-test.skip=" + one}}
}

// prepare does what needs the internet or much time, before the tests' own clock and namespaces begin.
func prepare(ctx context.Context) error {
	if err := nodes.EnsureTools(ctx, os.Stderr); err != nil {
		return err
	}
	if err := nodes.EnsureImages(ctx, os.Stderr,
		nodes.Debian11, nodes.Debian12, nodes.Debian13, nodes.Debian12RPM, nodes.Debian13Ansible); err != nil {
		return err
	}
	if _, err := prometheus.Promtool(ctx, os.Stderr); err != nil { // and the server with it
		return err
	}
	if err := cluster.BuildKubectl(ctx, os.Stderr); err != nil {
		return err
	}
	return cluster.Build(ctx, os.Stderr)
}

// roomFor is an empty room for the nodes of one test, which end with it.
func roomFor(ctx context.Context, t *testing.T) *nodes.Room {
	t.Helper()
	room, err := nodes.NewRoom(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := room.Close(); err != nil {
			t.Error(err)
		}
	})
	return room
}
