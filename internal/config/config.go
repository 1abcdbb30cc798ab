// Package config turns kured.toml into a Config. It is the only reader of that
// file: strict (an unknown key is an error), with every problem of the file
// reported at once, each with its line.
//
// The keys are the `toml` tags of Config and nothing else; the decoder, the
// suggestions for misspelt keys and the test of the shipped file all read them
// by reflection.
package config

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// DefaultPath is where the packages put the configuration.
const DefaultPath = "/etc/kured/kured.toml"

// Config is the whole configuration. The zero value is not valid; start from
// Default.
//
// The comments of its fields and of those of its tables are what
// packaging/kured.toml, kured.toml(5) and the JSON schema say: `make docs`
// writes these anew. A field without a comment, right below another one, shares
// that one's.
type Config struct {
	// How to reach the cluster, and who this machine is in it.
	Kubernetes Kubernetes `toml:"kubernetes"`

	// What asks for a reboot.
	Sentinel Sentinel `toml:"sentinel"`

	// What all windows and freezes have in common.
	Schedule Schedule `toml:"schedule"`

	// When the node may reboot. Without a window: at any time. Windows that touch
	// or overlap are one.
	Windows []Window `toml:"window"`

	// When the node does not reboot, whatever the windows say.
	Freezes []Freeze `toml:"freeze"`

	// What else keeps the node from rebooting.
	Gates Gates `toml:"gates"`

	// A Prometheus whose alerts or queries keep the node from rebooting. While it
	// cannot be asked the node does not reboot either.
	Prometheus []Prometheus `toml:"prometheus"`

	// An Alertmanager whose alerts keep the node from rebooting: those that are
	// active, not silenced and not inhibited. While it cannot be asked the node
	// does not reboot either.
	Alertmanager []Alertmanager `toml:"alertmanager"`

	// How the nodes take turns.
	Lock Lock `toml:"lock"`

	// How pods leave the node.
	Drain Drain `toml:"drain"`

	// What others see on the Node object.
	Node Node `toml:"node"`

	// Programs of yours that take part; see kured(8).
	Hooks Hooks `toml:"hooks"`

	// The reboot itself, and how many there may be.
	Reboot Reboot `toml:"reboot"`

	// When a node that has rebooted is well.
	Return Return `toml:"return"`

	// Who is told what happens. It never holds up a reboot.
	Notify []Notify `toml:"notify"`

	// For clusters that come from the DaemonSet kured.
	Compat Compat `toml:"compat"`

	// When to try again.
	Retry Retry `toml:"retry"`

	// What Prometheus sees of this node. A scrape costs the cluster nothing.
	Metrics Metrics `toml:"metrics"`

	// What is logged, and in which form.
	Log Log `toml:"log"`
}

// AlertStates are the accepted values of prometheus.alerts: what counts.
func AlertStates() []string { return []string{"firing", "pending", "none"} }

// Quorum as the value of lock.min_ready is more than half of the pool.
const Quorum = "quorum"

// PodPolicies are the accepted values of drain.empty_dir and drain.naked_pods:
// evict such pods, or refuse to drain while there is one.
func PodPolicies() []string { return []string{"evict", "refuse"} }

// DrainOrders are the accepted values of drain.order: system-critical pods
// after the others, a tier for each priority, or all at once.
func DrainOrders() []string { return []string{"critical-last", "priority", "together"} }

// TimeoutPolicies are the accepted values of drain.on_timeout: roll back,
// delete what is left, or keep all as it is until a person comes.
func TimeoutPolicies() []string { return []string{"release", "force", "hold"} }

// PreflightModes are the accepted values of drain.preflight: what it means
// when a dry run of the evictions is refused before the node asks for the lock.
func PreflightModes() []string { return []string{"warn", "block", "off"} }

// RebootMethods are the accepted values of reboot.method. Whether the machine
// offers one is known at the start only; "soft-reboot" is never offered.
func RebootMethods() []string { return []string{"reboot", "kexec", "soft-reboot"} }

// NotifyEvents are the accepted values of notify.events.
func NotifyEvents() []string {
	var names []string
	for _, e := range status.Events() {
		names = append(names, string(e))
	}
	return names
}

// LogLevels are the accepted values of log.level.
func LogLevels() []string { return []string{"debug", "info", "warn", "error"} }

// LogFormats are the accepted values of log.format.
func LogFormats() []string { return []string{"auto", "journal", "text", "json"} }

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		Sentinel: Sentinel{
			Paths: []string{
				"/run/reboot-required", "/run/reboot-needed",
				"/run/kured-sentinel/needs-restarting", "/run/kured-sentinel/command", "/run/kured-sentinel/kernel",
				"/run/kured-sentinel/request",
			},
			Settle: Duration(time.Second),
		},
		Schedule: Schedule{TimeZone: localName},
		Gates: Gates{
			Recheck:           Duration(time.Minute),
			InhibitorPatience: Duration(5 * time.Minute),
			TooLong:           Duration(24 * time.Hour),
		},
		Lock: Lock{
			Namespace:        "kube-system",
			Name:             "kured-lock",
			Policy:           "kured-policy",
			MaxConcurrent:    intstr.FromInt32(1),
			CountUnavailable: true,
			WaitingRoom:      8,
		},
		Drain: Drain{
			Timeout:     Duration(30 * time.Minute),
			GracePeriod: Duration(-time.Second),
			EmptyDir:    "evict",
			NakedPods:   "evict",
			Order:       "critical-last",
			OnTimeout:   "release",
			Preflight:   "off",
		},
		Node:  Node{StatusAnnotation: true, Events: true},
		Hooks: Hooks{Timeout: Duration(5 * time.Minute)},
		Reboot: Reboot{
			Method:        "reboot",
			Message:       "kured reboots this machine",
			MaxPerDay:     3,
			ConfirmWithin: Duration(30 * time.Second),
			Overdue:       Duration(15 * time.Minute),
		},
		Compat: Compat{LockAnnotation: "weave.works/kured-node-lock"},
		Retry: Retry{
			Initial: Duration(5 * time.Minute),
			Max:     Duration(time.Hour),
		},
		Metrics: Metrics{Listen: []string{"127.0.0.1:9788"}},
		Log:     Log{Level: "info", Format: "auto"},
	}
}

// DefaultPrometheus is what one [[prometheus]] starts from.
func DefaultPrometheus() Prometheus {
	return Prometheus{Alerts: "firing", Filter: ownAlerts(), Timeout: Duration(10 * time.Second)}
}

// ownAlerts leaves out the alerts about kured itself that come with it: one
// that tells that a node waits for too long must not make it wait.
func ownAlerts() Filter { return Filter{IgnoreNames: []string{"^Kured"}} }

// DefaultAlertmanager is what one [[alertmanager]] starts from.
func DefaultAlertmanager() Alertmanager {
	return Alertmanager{Alerts: true, Filter: ownAlerts(), SilenceFor: Duration(10 * time.Minute), Timeout: Duration(10 * time.Second)}
}

// Duration is a time.Duration that is written as text such as "90s", "30m" or
// "1h30m" (the syntax of time.ParseDuration).
type Duration time.Duration

// String is the shortest form that time.ParseDuration reads back: "30m", not "30m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if n := len(s); n > 2 && s[n-2:] == "0s" && s[n-3] == 'm' {
		s = s[:n-2]
	}
	if n := len(s); n > 2 && s[n-2:] == "0m" && s[n-3] == 'h' {
		s = s[:n-2]
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"90s\", \"30m\" or \"1h30m\"", text)
	}
	*d = Duration(v)
	return nil
}
