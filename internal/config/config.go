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
	Namespace     string `toml:"namespace"`
	Name          string `toml:"name"`
	MaxConcurrent int    `toml:"max_concurrent"` // nodes that may hold it together
	WaitingRoom   int    `toml:"waiting_room"`   // nodes that may wait in it
	Priority      int    `toml:"priority"`       // higher goes first
}

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
			Namespace:     "kube-system",
			Name:          "kured-lock",
			MaxConcurrent: 1,
			WaitingRoom:   8,
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
