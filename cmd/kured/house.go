package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/hook"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/ledger"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/sentinel/source"
	"github.com/kured-host/kured/internal/telemetry"
)

// stateDirectory is where systemd's StateDirectory= does not name another place.
const stateDirectory = "/var/lib/kured"

// house is what a process has whatever its configuration says: the machine
// that it runs on. A program adds a configuration to it.
type house struct {
	env    func(string) string
	boot   string
	booted time.Time // about, by the clock as it was when the process began; zero: not known

	pending  lock.Pending          // over all connections of this process
	recorder node.Recorder         // of Events, the same
	requests kube.Requests         // the same
	ledger   *ledger.Ledger        // of what outlives a reboot
	ledgered atomic.Bool           // that it cannot be written was told
	owner    atomic.Pointer[owner] // of our credential; nil: not known yet
}

// owner is what is known of whose credential ours is.
type owner struct{ kubelet bool }

// openHouse is the house of a command, in the environment of the process, and
// the program that its configuration makes.
func openHouse(cmd *cobra.Command) (*program, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}
	h, err := newHouse(os.Getenv)
	if err != nil {
		return nil, err
	}
	p, err := h.program(cfg)
	if err != nil {
		return nil, err
	}
	kube.RouteKlog(p.log) // client-go logs into a package-level logger
	return p, nil
}

func newHouse(env func(string) string) (*house, error) {
	boot, err := bootID(env)
	if err != nil {
		return nil, err
	}
	h := &house{env: env, boot: boot}
	h.ledger = ledger.New(filepath.Join(h.stateDir(), ledger.FileName), h.requests.Evictions)
	if up, err := gate.SinceBoot(); err == nil {
		h.booted = time.Now().Add(-up)
	}
	return h, nil
}

// logger is where the process writes its log.
func (h *house) logger(c config.Log) (*slog.Logger, error) {
	log, err := telemetry.NewLogger(telemetry.LogOptions{
		Writer: os.Stderr, Level: c.Level, Format: c.Format,
		Journal: telemetry.SystemJournal(), Unit: h.env("KURED_UNIT"),
	})
	if err != nil {
		return nil, fmt.Errorf("start logging: %w", err)
	}
	return log, nil
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
	return cmp.Or(h.env("DBUS_SYSTEM_BUS_ADDRESS"), "unix:path=/run/dbus/system_bus_socket")
}

// socket is where the daemon answers.
func (h *house) socket() string {
	// systemd names all directories of RuntimeDirectory= (systemd.exec(5)), in their order.
	if dir, _, _ := strings.Cut(h.env("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, filepath.Base(control.DefaultPath))
	}
	return control.DefaultPath
}

// requestFile is the sentinel of those who want a reboot by kured request.
func (h *house) requestFile() string {
	return filepath.Join(filepath.Dir(h.runtimeDir()), filepath.Base(source.DefaultDirectory), "request")
}

func (h *house) stateDir() string {
	return cmp.Or(h.env("STATE_DIRECTORY"), stateDirectory)
}

// pauseFile is how people pause this node.
func (h *house) pauseFile() string { return filepath.Join(h.stateDir(), "pause") }

// runtimeDir is where files for other units of this boot are.
func (h *house) runtimeDir() string { return filepath.Dir(h.socket()) }

// hooksDir is where the hooks are.
func (h *house) hooksDir() string {
	if dir := h.env("CONFIGURATION_DIRECTORY"); dir != "" {
		return filepath.Join(dir, "hooks")
	}
	return hook.DefaultDirectory
}

// scheduleFile is where logind keeps what is scheduled (systemd 251 and later).
func (h *house) scheduleFile() string {
	return cmp.Or(h.env("KURED_SCHEDULE_FILE"), "/run/systemd/shutdown/scheduled")
}
