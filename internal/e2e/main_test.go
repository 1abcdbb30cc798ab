//go:build e2e

// Package e2e shows kured at work on real systemd nodes: `go test -tags e2e ./internal/e2e` as root.
package e2e

import (
	"context"
	"os"
	"testing"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv/prometheus"
)

func TestMain(m *testing.M) {
	os.Exit(nodes.Main(prepare, func() int {
		defer fleet.close()
		return m.Run()
	}))
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
