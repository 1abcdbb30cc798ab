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
)

// DefaultPath is where the packages put the configuration.
const DefaultPath = "/etc/kured/kured.toml"

// Config is the whole configuration. The zero value is not valid; start from
// Default.
type Config struct {
	Kubernetes Kubernetes `toml:"kubernetes"`
	Sentinel   Sentinel   `toml:"sentinel"`
	Lock       Lock       `toml:"lock"`
	Drain      Drain      `toml:"drain"`
	Reboot     Reboot     `toml:"reboot"`
	Retry      Retry      `toml:"retry"`
	Log        Log        `toml:"log"`
}

// Kubernetes says how to reach the cluster and who we are in it.
type Kubernetes struct {
	Kubeconfig string `toml:"kubeconfig"` // absolute path; empty: the kubelet's well-known places
	NodeName   string `toml:"node_name"`  // empty: from the credential
}

// Sentinel says which files ask for a reboot.
type Sentinel struct {
	Paths  []string `toml:"paths"`  // absolute
	Settle Duration `toml:"settle"` // quiet time after the last change
}

// Lock is the shared object that gives nodes their turn.
type Lock struct {
	Namespace        string             `toml:"namespace"`
	Name             string             `toml:"name"`
	Policy           string             `toml:"policy"`            // ConfigMap in the same namespace; empty: none is read
	NodeSelector     string             `toml:"node_selector"`     // labels of the pool's nodes; empty: every node
	MaxConcurrent    intstr.IntOrString `toml:"max_concurrent"`    // nodes that may be down together: 1 or more, or "1%" to "100%" of the pool
	CountUnavailable bool               `toml:"count_unavailable"` // nodes that are down or cordoned anyway use up the same number
	MinReady         intstr.IntOrString `toml:"min_ready"`         // nodes that stay Ready: a number, "0%" to "100%" of the pool, or Quorum
	TopologyKey      string             `toml:"topology_key"`      // label that names a node's zone; empty: zones do not matter
	WaitingRoom      int                `toml:"waiting_room"`      // nodes that may wait in it
	Priority         int                `toml:"priority"`          // higher goes first
}

// Quorum as the value of lock.min_ready is more than half of the pool.
const Quorum = "quorum"

// Drain says how pods leave the node.
type Drain struct {
	Timeout     Duration `toml:"timeout"`
	GracePeriod Duration `toml:"grace_period"` // whole seconds; negative: the pod's own
}

// Reboot limits the reboots themselves.
type Reboot struct {
	MaxPerDay     int      `toml:"max_per_day"`
	ConfirmWithin Duration `toml:"confirm_within"` // from the call to logind until it announces the shutdown
}

// Retry paces the tries after one that was rolled back.
type Retry struct {
	Initial Duration `toml:"initial"`
	Max     Duration `toml:"max"`
}

// Log says what is logged and in which form.
type Log struct {
	Level  string `toml:"level"`  // one of LogLevels
	Format string `toml:"format"` // one of LogFormats
}

// LogLevels are the accepted values of log.level.
func LogLevels() []string { return []string{"debug", "info", "warn", "error"} }

// LogFormats are the accepted values of log.format.
func LogFormats() []string { return []string{"auto", "journal", "text", "json"} }

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		Sentinel: Sentinel{
			Paths:  []string{"/run/reboot-required", "/run/reboot-needed"},
			Settle: Duration(time.Second),
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
		},
		Reboot: Reboot{
			MaxPerDay:     3,
			ConfirmWithin: Duration(30 * time.Second),
		},
		Retry: Retry{
			Initial: Duration(5 * time.Minute),
			Max:     Duration(time.Hour),
		},
		Log: Log{Level: "info", Format: "auto"},
	}
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
