package config

import "k8s.io/apimachinery/pkg/util/intstr"

// Lock is the shared object that gives nodes their turn.
type Lock struct {
	// The ConfigMap by which nodes take turns. Nodes that name the same one are
	// one pool; give each pool of nodes its own to let pools reboot side by side.
	Namespace string `toml:"namespace"`
	Name      string `toml:"name"`

	// A ConfigMap in the same namespace by which the cluster's admin limits or
	// pauses all nodes at once. It need not exist. Empty: none is read.
	Policy string `toml:"policy"`

	// The nodes of the pool, as a label selector such as "pool=web". Percentages and
	// the two keys on Ready nodes below are about these. Empty: every node.
	NodeSelector string `toml:"node_selector"`

	// How many nodes of the pool may be down at the same time: a number, or a part
	// of the pool such as "10%", rounded down, at least one. If nodes disagree, the
	// smallest number counts.
	MaxConcurrent intstr.IntOrString `toml:"max_concurrent"`

	// Nodes of the pool that are not Ready, or were cordoned by somebody else, count
	// as down too. Where kured may not list the nodes they do not count; kured then
	// says so.
	CountUnavailable bool `toml:"count_unavailable"`

	// Keep at least this many nodes of the pool Ready: a number, a part of the pool
	// such as "60%", or "quorum" for more than half, as etcd needs. 0: any number.
	MinReady intstr.IntOrString `toml:"min_ready"`

	// Reboot zone by zone: a node label such as "topology.kubernetes.io/zone". While
	// nodes of one zone hold the lock those of others wait. Empty: zones do not
	// matter.
	TopologyKey string `toml:"topology_key"`

	// How many nodes may wait in the lock object, 1 to 16. The others look again
	// after a minute, or up to ten if those in it do not get on. It keeps the object
	// small in large clusters.
	WaitingRoom int `toml:"waiting_room"`

	// Nodes with a higher number, -9999 to 9999, go first; equal ones in the order
	// they came.
	Priority int `toml:"priority"`
}

// Drain says how pods leave the node.
type Drain struct {
	// Give up after this long: the node takes pods again, lets the next node go
	// and tries later.
	Timeout Duration `toml:"timeout"`

	// Time that pods get to stop, in whole seconds. Negative: what each pod asks
	// for itself. "0s" is taken as one second, so that a pod is never forgotten
	// while its containers still run.
	GracePeriod Duration `toml:"grace_period"`

	// Only pods that match this label selector leave the node. Empty: all of them,
	// but for those of DaemonSets and static ones, which never leave.
	PodSelector string `toml:"pod_selector"`

	// Do not wait for a pod that is being deleted for longer than this. "0s": wait
	// for every pod.
	SkipWaitForDelete Duration `toml:"skip_wait_for_delete"`

	// Pods that lose the data of an emptyDir volume, and pods that nobody makes anew
	// because they have no controller: "evict" them, or "refuse" to drain while
	// there is one.
	EmptyDir  string `toml:"empty_dir"`
	NakedPods string `toml:"naked_pods"`

	// "critical-last": pods of system-critical priority leave when the others are
	// gone. "priority": those of the lowest priority leave first, the next when they
	// are gone, and so on. "together": all at once.
	Order string `toml:"order"`

	// Wait this long between the cordon and the first eviction, and between the end
	// of the last pod and the reboot. At most "24h".
	DelayBefore Duration `toml:"delay_before"`
	DelayAfter  Duration `toml:"delay_after"`

	// When the timeout is over: "release" gives up as said there, "force" deletes
	// what is left, past every PodDisruptionBudget, and reboots, "hold" leaves
	// everything as it is and keeps the lock until a person comes.
	OnTimeout string `toml:"on_timeout"`

	// Wait at most this long for the volumes of the pods to be detached, before the
	// reboot. "0s": do not wait.
	WaitForVolumes Duration `toml:"wait_for_volumes"`

	// Before it asks for the lock, kured tries the evictions in a dry run, with a
	// request for each pod. If one is refused: "warn" says so and goes on, "block"
	// waits. "off": do not try.
	Preflight string `toml:"preflight"`
}

// Node is what others see on our Node object. Values may contain {time} (RFC
// 3339), {boot} (the boot id) and {reason} (the packages that ask).
type Node struct {
	// Labels that the node gets when it is cordoned, and when it is uncordoned after
	// its reboot. What the first has and the second has not is removed then. For
	// example { "example.com/maintenance" = "true" }. In the values {time}, {boot}
	// and {reason} stand for the time, the boot id and the packages that ask.
	LabelsBefore map[string]string `toml:"labels_before"`
	LabelsAfter  map[string]string `toml:"labels_after"`

	// The same for annotations.
	AnnotationsBefore map[string]string `toml:"annotations_before"`
	AnnotationsAfter  map[string]string `toml:"annotations_after"`

	// The key of a taint with the effect PreferNoSchedule that the node has while it
	// waits for its turn. The kubelet's credential may not set it. Empty: none.
	WaitingTaint string `toml:"waiting_taint"`

	// Take the node out of external load balancers while it is cordoned, by the
	// label node.kubernetes.io/exclude-from-external-load-balancers.
	ExcludeFromLoadBalancers bool `toml:"exclude_from_load_balancers"`

	// Show what happens in conditions of the node: MaintenancePlanned,
	// DrainInProgress.
	Conditions bool `toml:"conditions"`

	// Say in the annotation kured.dev/status of the node where it is in the cycle
	// and why. "kured status --all" shows it for nodes that do not hold the lock.
	StatusAnnotation bool `toml:"status_annotation"`

	// Tell the same in Events of the node, which "kubectl describe node" shows.
	Events bool `toml:"events"`
}

// Hooks are the programs in /etc/kured/hooks.
type Hooks struct {
	// The programs of one phase in /etc/kured/hooks get this long together; see
	// kured(8). "1s" to "1h".
	Timeout Duration `toml:"timeout"`
}

// Reboot says how, and limits the reboots themselves.
type Reboot struct {
	// "reboot", or "kexec" to start the kernel that is loaded for it without the
	// firmware. kured says at its start if this machine cannot do it. "soft-reboot"
	// is refused then: it keeps the kernel and its boot id, which have to change.
	Method string `toml:"method"`

	// Announce the reboot this long before, to those who are logged in and in
	// "shutdown --show". "shutdown -c" stops it. logind has room for one shutdown:
	// while somebody else has scheduled one, nothing is begun. At most "24h".
	Delay Duration `toml:"delay"`

	// What they are told, beside logind's own words. Empty: only these.
	Message string `toml:"message"`

	// Do not reboot a machine that runs for less than this. At most "168h".
	MinUptime Duration `toml:"min_uptime"`

	// After this many reboots within 24 hours the node stays up and says so. It
	// ends a loop when a reboot does not satisfy whoever asked for it.
	MaxPerDay int `toml:"max_per_day"`

	// systemd-logind must have announced the shutdown within this time, or the
	// attempt is rolled back.
	ConfirmWithin Duration `toml:"confirm_within"`

	// A reboot that was accepted and has not happened after this time is told
	// loudly. "1m" to "24h".
	Overdue Duration `toml:"overdue"`

	// Do everything up to the lock, and then say what would be done instead of
	// doing it.
	DryRun bool `toml:"dry_run"`
}

// Return says when a node that has rebooted is well.
type Return struct {
	// After its reboot the node takes pods again when the kubelet calls it Ready.
	// Also wait for the pods that DaemonSets have on it.
	DaemonSets bool `toml:"daemon_sets"`

	// It has to stay Ready this long. At most "24h".
	Settle Duration `toml:"settle"`

	// Keep the lock this long after the node takes pods again. At most "24h".
	ReleaseDelay Duration `toml:"release_delay"`

	// A node that is not well this long after its boot gives the lock back and
	// stays cordoned. It counts as down, see lock.count_unavailable: the next one
	// goes only where more than one may be. "0s": it keeps the lock until it is
	// well, or a person comes.
	GiveUpAfter Duration `toml:"give_up_after"`
}

// Notify is one place that is told what happens.
type Notify struct {
	// Where to, as shoutrrr writes it: "slack://…", "teams://…", "smtp://…",
	// "generic+https://…"; or a file in which that stands, so that its secrets are
	// not here. One of the two has to be given.
	URL     string `toml:"url" example:"\"slack://hook:EXAMPLE-TOKEN@webhook\""`
	URLFile string `toml:"url_file"`

	// Which events: "waiting" (for too long), "drain", "reboot", "back", "failed",
	// "held". An empty list is all of them.
	Events []string `toml:"events"`

	// Other texts than kured's own, by event, in the language of Go's text/template.
	// For example { back = "{{.Node}} is back" }. The fields are Event, At, Node,
	// Boot, Phase, Reason, Detail, Packages, Wanted and Lock.
	Templates map[string]string `toml:"templates"`
}

// Compat is for clusters that come from the DaemonSet kured.
type Compat struct {
	// The DaemonSet kured that still runs in the cluster, such as
	// "kube-system/kured". While one of its nodes holds its lock, no node of this
	// kured reboots. Empty: it is not looked at.
	DaemonSet string `toml:"daemonset"`

	// The annotation in which its lock is.
	LockAnnotation string `toml:"lock_annotation"`
}

// Retry paces the tries after one that was rolled back.
type Retry struct {
	// Wait this long after an attempt that was rolled back. The wait doubles each
	// time up to the maximum.
	Initial Duration `toml:"initial"`
	Max     Duration `toml:"max"`
}

// Metrics says where Prometheus finds the metrics.
type Metrics struct {
	// Where to answer scrapes of /metrics: "HOST:PORT", "unix:/path" for a socket,
	// or "systemd" for the sockets of kured-metrics.socket. None: nowhere.
	Listen []string `toml:"listen"`

	// TLS and passwords, in a file as Prometheus exporters have it ("web
	// configuration"), as an absolute path. Empty: neither.
	WebConfigFile string `toml:"web_config_file"`

	// A file "NAME.prom" for node_exporter's textfile collector, as an absolute
	// path. It is written when something changes. Empty: none.
	Textfile string `toml:"textfile"`
}

// Log says what is logged and in which form.
type Log struct {
	// What to log: "debug", "info", "warn" or "error".
	Level string `toml:"level"`

	// How to log: "journal" with structured fields, "text" or "json" on standard
	// error; "auto" is the journal under systemd and text elsewhere.
	Format string `toml:"format"`
}
