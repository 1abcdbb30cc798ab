// Command demo shows kured at work: a real control plane and three real Debian systems that all want to
// reboot at the same moment, as they do so one after the other. It ends with the proof, taken from what
// others than kured have recorded, and exits with 0 only if that holds. It needs root; `make demo` calls it. With
// DEMO_BY=ansible the machines get kured by the Ansible role instead of apt.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
)

func main() {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: needs root, to boot three systems in namespaces of their own: sudo make demo")
		os.Exit(1)
	}
	os.Exit(nodes.Main(prepare, run))
}

// prepare builds what is missing, in the machine as it is.
func prepare(ctx context.Context) error {
	systems, err := images()
	if err != nil {
		return err
	}
	s := newScreen(os.Stdout)
	s.step("Preparing; the first time it takes some minutes, and the internet")
	if err := nodes.EnsureTools(ctx, s); err != nil {
		return err
	}
	if err := nodes.EnsureImages(ctx, s, systems...); err != nil {
		return err
	}
	if slices.Contains(systems, nodes.Debian13Ansible) {
		if err := cluster.BuildKubectl(ctx, s); err != nil {
			return err
		}
	}
	return cluster.Build(ctx, s)
}

// run is the demonstration, in namespaces that vanish with it.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := newScreen(os.Stdout)
	err := show(ctx, s)
	s.keep()
	switch {
	case ctx.Err() != nil:
		s.say("", "demo: interrupted; everything that it had started is gone")
		return 130 // 128 + SIGINT, as shells say it
	case errors.Is(err, errNotProved):
		return 1
	case err != nil:
		s.say("", "demo: "+err.Error())
		return 1
	}
	return 0
}
