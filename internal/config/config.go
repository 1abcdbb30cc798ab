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
type Config struct {
	Kubernetes   Kubernetes     `toml:"kubernetes"`
	Sentinel     Sentinel       `toml:"sentinel"`
	Schedule     Schedule       `toml:"schedule"`
	Windows      []Window       `toml:"window"` // none: any time
	Freezes      []Freeze       `toml:"freeze"`
	Gates        Gates          `toml:"gates"`
	Prometheus   []Prometheus   `toml:"prometheus"`
	Alertmanager []Alertmanager `toml:"alertmanager"`
	Lock         Lock           `toml:"lock"`
	Drain        Drain          `toml:"drain"`
	Node         Node           `toml:"node"`
	Hooks        Hooks          `toml:"hooks"`
	Reboot       Reboot         `toml:"reboot"`
	Return       Return         `toml:"return"`
	Notify       []Notify       `toml:"notify"`
	Compat       Compat         `toml:"compat"`
	Retry        Retry          `toml:"retry"`
	Log          Log            `toml:"log"`
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

// Schedule is what all windows and freezes have in common.
type Schedule struct {
	TimeZone     string   `toml:"time_zone"`     // IANA name, "UTC" or "Local"
	MinRemaining Duration `toml:"min_remaining"` // of a window, or nothing is begun in it
}

// Window is a time of the week in which the node may reboot.
type Window struct {
	Days     []string `toml:"days"`      // on which it begins: "mon" or "monday"; none: every day
	Start    string   `toml:"start"`     // "22:00" or "22:00:30"
	End      string   `toml:"end"`       // the same, exclusive; before Start: on the next day; "24:00" is the day's end
	TimeZone string   `toml:"time_zone"` // empty: that of the schedule
}

// Freeze is a time in which the node does not reboot.
type Freeze struct {
	From     string `toml:"from"`      // "2026-12-20", "2026-12-20 22:00" or RFC 3339, inclusive
	Until    string `toml:"until"`     // the same, exclusive; a date includes that day
	TimeZone string `toml:"time_zone"` // of what does not name its own; empty: that of the schedule
	Reason   string `toml:"reason"`    // for people
}

// Gates is what the gates have in common, and those without a table of their own.
type Gates struct {
	Recheck           Duration `toml:"recheck"`            // about how often to look where no change is noticed
	BlockingPods      []string `toml:"blocking_pods"`      // label selectors of pods on this node that keep it from rebooting
	InhibitorPatience Duration `toml:"inhibitor_patience"` // a drained node waits this long for a package manager
	TooLong           Duration `toml:"too_long"`           // waiting longer than this is told; "0s": never
}

// Filter chooses among alerts. What Only does not name, or Ignore names, does not count.
type Filter struct {
	IgnoreNames []string `toml:"ignore_names"` // regular expressions (RE2, unanchored) on the alert's name
	OnlyNames   []string `toml:"only_names"`
	Ignore      []string `toml:"ignore"` // label matchers such as `severity="info", team=~"a|b"`; all of one item have to match
	Only        []string `toml:"only"`
}

// Prometheus is a server whose alerts and queries can keep the node from rebooting.
type Prometheus struct {
	URLs   []string `toml:"urls"`   // of replicas: the first that answers is believed
	Alerts string   `toml:"alerts"` // one of AlertStates
	Filter
	Queries        []string `toml:"queries"`          // PromQL: a result that is not empty blocks
	ReturnQueries  []string `toml:"return_queries"`   // PromQL: a result that is not empty means that the node is not well after its reboot
	UntilDrain     bool     `toml:"until_drain"`      // not looked at any more when the node holds the lock
	HTTPConfigFile string   `toml:"http_config_file"` // as for promtool --http.config.file; empty: none
	Timeout        Duration `toml:"timeout"`
}

// Alertmanager is a server whose active alerts can keep the node from rebooting.
type Alertmanager struct {
	URLs   []string `toml:"urls"`   // of replicas: the first that answers is believed
	Alerts bool     `toml:"alerts"` // look at its alerts: active, not silenced, not inhibited
	Filter
	UntilDrain     bool     `toml:"until_drain"`
	Silence        []string `toml:"silence"`     // label matchers, with {node} for its name, of alerts to silence while it reboots; all have to match
	SilenceFor     Duration `toml:"silence_for"` // how long it lasts when it is not renewed
	HTTPConfigFile string   `toml:"http_config_file"`
	Timeout        Duration `toml:"timeout"`
}

// AlertStates are the accepted values of prometheus.alerts: what counts.
func AlertStates() []string { return []string{"firing", "pending", "none"} }

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
	Timeout           Duration `toml:"timeout"`
	GracePeriod       Duration `toml:"grace_period"`         // whole seconds; negative: the pod's own
	PodSelector       string   `toml:"pod_selector"`         // only these leave; empty: all
	SkipWaitForDelete Duration `toml:"skip_wait_for_delete"` // a pod that is being deleted for longer is not waited for; "0s": it is
	EmptyDir          string   `toml:"empty_dir"`            // one of PodPolicies: pods that lose data with the node
	NakedPods         string   `toml:"naked_pods"`           // one of PodPolicies: pods that nobody makes anew
	Order             string   `toml:"order"`                // one of DrainOrders
	DelayBefore       Duration `toml:"delay_before"`         // from the cordon to the first eviction
	DelayAfter        Duration `toml:"delay_after"`          // from the last pod's end to the reboot
	OnTimeout         string   `toml:"on_timeout"`           // one of TimeoutPolicies
	WaitForVolumes    Duration `toml:"wait_for_volumes"`     // at most, for volumes to be detached; "0s": not at all
	Preflight         string   `toml:"preflight"`            // one of PreflightModes
}

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

// Node is what others see on our Node object. Values may contain {time} (RFC
// 3339), {boot} (the boot id) and {reason} (the packages that ask).
type Node struct {
	LabelsBefore             map[string]string `toml:"labels_before"` // with the cordon
	LabelsAfter              map[string]string `toml:"labels_after"`  // with the uncordon; what LabelsBefore has and this has not is removed
	AnnotationsBefore        map[string]string `toml:"annotations_before"`
	AnnotationsAfter         map[string]string `toml:"annotations_after"`
	WaitingTaint             string            `toml:"waiting_taint"`               // key of a PreferNoSchedule taint while the node waits for the lock; empty: none
	ExcludeFromLoadBalancers bool              `toml:"exclude_from_load_balancers"` // for the time of the cycle
	Conditions               bool              `toml:"conditions"`                  // MaintenancePlanned, DrainInProgress, …
}

// Hooks are the programs in /etc/kured/hooks.
type Hooks struct {
	Timeout Duration `toml:"timeout"` // of all hooks of one phase together
}

// Reboot says how, and limits the reboots themselves.
type Reboot struct {
	Method        string   `toml:"method"`  // one of RebootMethods
	Delay         Duration `toml:"delay"`   // from the announcement to the reboot
	Message       string   `toml:"message"` // to those who are logged in
	MinUptime     Duration `toml:"min_uptime"`
	MaxPerDay     int      `toml:"max_per_day"`
	ConfirmWithin Duration `toml:"confirm_within"` // from the call to logind until it announces the shutdown
	Overdue       Duration `toml:"overdue"`        // an accepted reboot that takes longer is told loudly
	DryRun        bool     `toml:"dry_run"`        // up to the lock, and then only say what would be done
}

// RebootMethods are the accepted values of reboot.method. Whether the machine
// offers one is known at the start only; "soft-reboot" is never offered.
func RebootMethods() []string { return []string{"reboot", "kexec", "soft-reboot"} }

// Return says when a node that has rebooted is well.
type Return struct {
	DaemonSets   bool     `toml:"daemon_sets"`   // its DaemonSet pods have to be Ready
	Settle       Duration `toml:"settle"`        // it has to stay Ready this long
	ReleaseDelay Duration `toml:"release_delay"` // from the uncordon to the release of the lock
	GiveUpAfter  Duration `toml:"give_up_after"` // since boot: then release the lock and leave the node cordoned; "0s": never
}

// Notify is one place that is told what happens.
type Notify struct {
	URL       string            `toml:"url"`       // as shoutrrr has them
	URLFile   string            `toml:"url_file"`  // the same, in a file
	Events    []string          `toml:"events"`    // of NotifyEvents; none: all
	Templates map[string]string `toml:"templates"` // by event: text/template
}

// NotifyEvents are the accepted values of notify.events.
func NotifyEvents() []string {
	var names []string
	for _, e := range status.Events() {
		names = append(names, string(e))
	}
	return names
}

// Compat is for clusters that come from the DaemonSet kured.
type Compat struct {
	DaemonSet      string `toml:"daemonset"`       // NAMESPACE/NAME: its lock is respected; empty: it is not looked at
	LockAnnotation string `toml:"lock_annotation"` // where its lock is
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
			Paths: []string{
				"/run/reboot-required", "/run/reboot-needed",
				"/run/kured-sentinel/needs-restarting", "/run/kured-sentinel/command", "/run/kured-sentinel/kernel",
			},
			Settle: Duration(time.Second),
		},
		Schedule: Schedule{TimeZone: "Local"},
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
		Log: Log{Level: "info", Format: "auto"},
	}
}

// DefaultPrometheus is what one [[prometheus]] starts from.
func DefaultPrometheus() Prometheus {
	return Prometheus{Alerts: "firing", Timeout: Duration(10 * time.Second)}
}

// DefaultAlertmanager is what one [[alertmanager]] starts from.
func DefaultAlertmanager() Alertmanager {
	return Alertmanager{Alerts: true, SilenceFor: Duration(10 * time.Minute), Timeout: Duration(10 * time.Second)}
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
