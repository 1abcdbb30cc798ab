package config

// Kubernetes says how to reach the cluster and who we are in it.
type Kubernetes struct {
	// The kubeconfig to use, as an absolute path. Empty: the kubelet's own one is
	// searched in the places of kubeadm, EKS, AKS, GKE, kOps, k3s, RKE2, MicroK8s,
	// k0s and MicroShift. If there are several none is taken: set it.
	Kubeconfig string `toml:"kubeconfig"`

	// The name of this node in the cluster. Empty: learned from the credential and,
	// if that does not name a node, from the host name. A name that differs from
	// that of the credential is refused.
	NodeName string `toml:"node_name"`
}

// Sentinel says which files ask for a reboot.
type Sentinel struct {
	// A reboot is wanted while one of these files exists. A file "<path>.pkgs"
	// beside one of them lists the packages that ask for it. Those in
	// /run/kured-sentinel are made by units that come with kured and are off until
	// you enable them, and the last one by "kured request"; see kured(8).
	Paths []string `toml:"paths"`

	// Wait until the files were left alone for this long, so that a package
	// manager that is still at work can finish. At most "1m".
	Settle Duration `toml:"settle"`
}

// Schedule is what all windows and freezes have in common.
type Schedule struct {
	// The time zone of all windows and freezes that do not name their own: a name
	// such as "Europe/Berlin", "UTC", or "Local" for that of this machine, as it was
	// when kured was started or reloaded.
	TimeZone string `toml:"time_zone"`

	// Nothing is begun when the window closes, or a freeze begins, within this time.
	// A reboot that is not through when its window closes is rolled back. At most
	// "24h".
	MinRemaining Duration `toml:"min_remaining"`
}

// Window is a time of the week in which the node may reboot.
type Window struct {
	// The days on which the window begins, such as "mon" or "monday". An empty list
	// is every day.
	Days []string `toml:"days"`

	// From when to when, "22:00" or "22:00:30". An end before the start is on the
	// next day, and belongs to the day on which the window began. "24:00" is the
	// end of the day. Both have to be given.
	Start string `toml:"start" example:"\"22:00\""`
	End   string `toml:"end" example:"\"04:00\""`

	// The time zone of this window. Empty: that of [schedule].
	TimeZone string `toml:"time_zone"`
}

// Freeze is a time in which the node does not reboot.
type Freeze struct {
	// From when to when: "2026-12-20", "2026-12-20 22:00", or with a time zone of
	// its own "2026-12-20T22:00:00+01:00". A date as the end includes that day. Both
	// have to be given.
	From  string `toml:"from" example:"\"2026-12-20\""`
	Until string `toml:"until" example:"\"2027-01-06\""`

	// The time zone of times that name none. Empty: that of [schedule].
	TimeZone string `toml:"time_zone"`

	// Shown to people who ask why nothing happens.
	Reason string `toml:"reason"`
}

// Gates is what the gates have in common, and those without a table of their own.
type Gates struct {
	// About how often to look again at what tells kured nothing by itself: alerts,
	// queries, pods. Only while a reboot is wanted. "1s" to "1h".
	Recheck Duration `toml:"recheck"`

	// Label selectors such as "app=batch". While a pod on this node that matches one
	// of them has not ended, the node does not reboot.
	BlockingPods []string `toml:"blocking_pods"`

	// A drained node waits this long for a package manager, or whoever else keeps
	// the machine from shutting down, and is then rolled back. At most "24h".
	InhibitorPatience Duration `toml:"inhibitor_patience"`

	// A reboot that is wanted for longer than this is told; see [[notify]].
	// "0s": never.
	TooLong Duration `toml:"too_long"`
}

// Filter chooses among alerts. What Only does not name, or Ignore names, does not count.
type Filter struct {
	// Of these alerts, leave out those whose names match one of these regular
	// expressions, or count only those that do. An expression may match any part of
	// a name; "^Watchdog$" is the whole one. The default leaves out the alerts
	// about kured that come with it: that a node waits must not make it wait.
	IgnoreNames []string `toml:"ignore_names"`
	OnlyNames   []string `toml:"only_names"`

	// The same by labels: 'severity="info"', or several that have to match together
	// such as 'severity="info", team=~"a|b"'. An alert that matches one item is left
	// out; or only those that match one count.
	Ignore []string `toml:"ignore"`
	Only   []string `toml:"only"`
}

// Prometheus is a server whose alerts and queries can keep the node from rebooting.
type Prometheus struct {
	// Where it is. If there are several, they are replicas, and the first that
	// answers is believed. At least one has to be given. A password does not belong
	// here but in http_config_file.
	URLs []string `toml:"urls" example:"[\"http://prometheus.example:9090\"]"`

	// Which alerts count: "firing", "pending" for those that are about to fire as
	// well, or "none".
	Alerts string `toml:"alerts"`

	Filter

	// PromQL: while one of these has a result, the node does not reboot. Compare
	// in the query: "up < 1", not "up".
	Queries []string `toml:"queries"`

	// The same after the reboot: while one of these has a result, the node is not
	// well. It stays cordoned and keeps the lock.
	ReturnQueries []string `toml:"return_queries"`

	// Look at it only until the drain begins. A drain can cause alerts of its own.
	UntilDrain bool `toml:"until_drain"`

	// A file with TLS, authorization and proxy, as for promtool --http.config.file.
	// Empty: none of these.
	HTTPConfigFile string `toml:"http_config_file"`

	// How long to wait for an answer of one of them, "1s" to "5m". Before the reboot
	// all gates together get 20 s.
	Timeout Duration `toml:"timeout"`
}

// Alertmanager is a server whose active alerts can keep the node from rebooting.
type Alertmanager struct {
	// Where it is, as for [[prometheus]]. At least one has to be given.
	URLs []string `toml:"urls" example:"[\"http://alertmanager.example:9093\"]"`

	// Look at its alerts. False: only silence them, see below.
	Alerts bool `toml:"alerts"`

	Filter

	// Look at it only until the drain begins.
	UntilDrain bool `toml:"until_drain"`

	// Silence the alerts that match all of these while the node reboots, such as
	// ['instance=~"{node}(:[0-9]+)?"']. {node} is the name of the node, and has to
	// be in one of them. Empty: none.
	Silence []string `toml:"silence"`

	// How long a silence lasts. kured renews it and ends it when the node is back,
	// so this is how long it stays if the node does not come back. "1m" to "24h".
	SilenceFor Duration `toml:"silence_for"`

	// A file with TLS, authorization and proxy, as for [[prometheus]]. Empty: none.
	HTTPConfigFile string `toml:"http_config_file"`

	// How long to wait for an answer of one of them, "1s" to "5m". All gates
	// together get 20 s.
	Timeout Duration `toml:"timeout"`
}
