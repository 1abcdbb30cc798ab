package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

// stateDirectory is where systemd's StateDirectory= does not name another place.
const stateDirectory = "/var/lib/kured"

// Numbers that are no keys of the configuration yet.
const (
	inhibitorPatience = 5 * time.Minute  // a drained node waits this long for an inhibitor
	rebootOverdue     = 15 * time.Minute // longer than any sane delay inhibitor
	gateRecheck       = 30 * time.Second // where a gate gives no signal
)

// house joins the rooms: what the configuration and the environment say
// becomes the parts of the cycle.
type house struct {
	cfg  config.Config
	env  func(string) string
	log  *slog.Logger
	boot string

	pending lock.Pending // over all connections of this process
}

// openHouse is the house of a command, in the environment of the process.
func openHouse(cmd *cobra.Command) (*house, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}
	h, err := newHouse(cfg, os.Getenv)
	if err != nil {
		return nil, err
	}
	kube.RouteKlog(h.log) // client-go logs into a package-level logger
	return h, nil
}

func newHouse(cfg config.Config, env func(string) string) (*house, error) {
	log, err := telemetry.NewLogger(telemetry.LogOptions{
		Writer: os.Stderr, Level: cfg.Log.Level, Format: cfg.Log.Format,
		Journal: telemetry.SystemJournal(), Unit: env("KURED_UNIT"),
	})
	if err != nil {
		return nil, fmt.Errorf("start logging: %w", err)
	}
	boot, err := bootID(env)
	if err != nil {
		return nil, err
	}
	return &house{cfg: cfg, env: env, log: log, boot: boot}, nil
}

// bootID is the id of this boot. systemd gives it to the unit, because a
// sandbox can hide the kernel's own (systemd.unit(5), specifier %b).
func bootID(env func(string) string) (string, error) {
	id := env("KURED_BOOT_ID")
	if id == "" {
		text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return "", fmt.Errorf("read boot id: %w", err)
		}
		id = strings.TrimSpace(string(text))
	}
	return node.NormalizeBootID(id)
}

// busAddress is the system bus (DBUS_SYSTEM_BUS_ADDRESS, D-Bus specification).
func (h *house) busAddress() string {
	if address := h.env("DBUS_SYSTEM_BUS_ADDRESS"); address != "" {
		return address
	}
	return "unix:path=/run/dbus/system_bus_socket"
}

// socket is where the daemon answers.
func (h *house) socket() string {
	if dir := h.env("RUNTIME_DIRECTORY"); dir != "" {
		return filepath.Join(dir, filepath.Base(control.DefaultPath))
	}
	return control.DefaultPath
}

func (h *house) stateDir() string {
	if dir := h.env("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	return stateDirectory
}

func (h *house) settle() time.Duration { return time.Duration(h.cfg.Sentinel.Settle) }

// runner sets the cycle up. demand is nil in the modes that ask for none.
func (h *house) runner(mode cycle.Mode, demand cycle.Demand, publish func(status.Status)) *cycle.Runner {
	login := logind.Manager{Address: h.busAddress()}
	budget := gate.Budget{Path: filepath.Join(h.stateDir(), "reboots.json"), Max: h.cfg.Reboot.MaxPerDay, Now: time.Now}
	return &cycle.Runner{
		Mode:   mode,
		Boot:   h.boot,
		Dial:   h.dial,
		Host:   login,
		Demand: demand,
		Gates: gate.Set{
			Gates:   []gate.Gate{gate.Sentinel{Paths: h.cfg.Sentinel.Paths}, budget, gate.Inhibitors{Login: login}},
			Recheck: gateRecheck,
		},
		Budget: budget,
		Settings: cycle.Settings{
			ConfirmWithin: time.Duration(h.cfg.Reboot.ConfirmWithin),
			Patience:      inhibitorPatience,
			BackOff:       time.Duration(h.cfg.Retry.Initial),
			BackOffMax:    time.Duration(h.cfg.Retry.Max),
			Overdue:       rebootOverdue,
			Drain: node.DrainOptions{
				Timeout:     time.Duration(h.cfg.Drain.Timeout),
				GracePeriod: time.Duration(h.cfg.Drain.GracePeriod),
			},
		},
		Log:     h.log,
		Publish: publish,
		Rest: func() {
			if err := rest(); err != nil {
				h.log.Debug(err.Error())
			}
		},
	}
}

// dial connects to the cluster and learns who we are in it.
func (h *house) dial(ctx context.Context) (*cycle.Cluster, error) {
	work()
	c, err := kube.Connect(ctx, kube.Options{
		Kubeconfig: h.cfg.Kubernetes.Kubeconfig,
		NodeName:   h.cfg.Kubernetes.NodeName,
		Version:    version,
	})
	if err != nil {
		return nil, err
	}
	object := lock.ConfigMap{Client: c.Client, Namespace: h.cfg.Lock.Namespace, Name: h.cfg.Lock.Name, PolicyName: h.cfg.Lock.Policy}
	turn := &lock.Lock{
		Store:    object,
		Evidence: c,
		Fleet:    lock.Nodes{Client: c.Client, Selector: h.cfg.Lock.NodeSelector},
		Rules:    object,
		Pace:     lock.DefaultPace(),
		Node:     c.NodeName, UID: c.UID, Boot: h.boot, Zone: c.Labels[h.cfg.Lock.TopologyKey],
		Max: h.cfg.Lock.MaxConcurrent, MinReady: h.cfg.Lock.MinReady, CountUnavailable: h.cfg.Lock.CountUnavailable,
		Room: h.cfg.Lock.WaitingRoom, Priority: h.cfg.Lock.Priority,
		Pending: &h.pending,
	}
	self := node.New(c.Client, c.NodeName, h.boot)
	return &cycle.Cluster{
		Node: c.NodeName, UID: c.UID, Turn: turn, Entries: turn, Self: self, Pods: self, Readiness: self,
		Close: c.CloseIdle,
	}, nil
}
