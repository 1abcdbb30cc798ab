// Command standin-kubelet is the stand-in of package standin as a program, to
// be installed as kubelet.service on a test node. It is a fake: it runs no
// containers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kured-host/kured/internal/testenv/standin"
)

const kernelBootID = "/proc/sys/kernel/random/boot_id"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("standin-kubelet", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "/etc/kubernetes/kubelet.conf", "credential of the node")
	options := standin.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flags.StringVar(&options.NodeName, "node-name", "", "name of the Node (default: the host's name)")
	flags.StringVar(&options.BootID, "boot-id", "", "boot id to report (default: that of "+kernelBootID+")")
	flags.StringVar(&options.NodeIP, "node-ip", "127.0.0.1", "address to report")
	flags.DurationVar(&options.Heartbeat, "heartbeat", 10*time.Second, "time between two reports of the Node's status and Lease")
	flags.DurationVar(&options.ReadyAfter, "ready-after", 0, "time for which the Node is not Ready after the start")
	flags.DurationVar(&options.StopAfter, "stop-after", 100*time.Millisecond, "time that a pod takes to stop if its annotation does not say")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if options.NodeName == "" {
		if options.NodeName, err = os.Hostname(); err != nil {
			return fmt.Errorf("node name: %w", err)
		}
	}
	if options.BootID == "" {
		content, err := os.ReadFile(kernelBootID)
		if err != nil {
			return fmt.Errorf("boot id: %w", err)
		}
		options.BootID = strings.TrimSpace(string(content))
	}
	if options.Config, err = clientcmd.BuildConfigFromFlags("", *kubeconfig); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", *kubeconfig, err)
	}
	kubelet, err := standin.New(options)
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-kubelet.Ready():
			notify(options.Logger, daemon.SdNotifyReady)
		case <-ctx.Done():
		}
	}()
	options.Logger.Info("stand-in kubelet started", "node", options.NodeName, "bootID", options.BootID)
	err = kubelet.Run(ctx)
	notify(options.Logger, daemon.SdNotifyStopping)
	return err
}

// notify tells the service manager, if there is one.
func notify(logger *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Warn("cannot notify the service manager", "state", state, "error", err)
	}
}
