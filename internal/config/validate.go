package config

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits that are not obvious from the keys.
const (
	maxSettle      = minute
	maxWaitingRoom = 16   // keeps the lock object within its 4 KB
	maxPriority    = 9999 // what the lock's entries have room for
	maxMessage     = 500  // bytes on the terminals of people
	maxAnnotation  = 1024 // bytes: kured remembers on the Node what it put there
	week           = 7 * day

	excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers" // k8s.io/api/core/v1, LabelNodeExcludeBalancers
	ownPrefix    = "kured.dev/"                                              // of the annotations that kured keeps for itself
)

// Validate returns every value that cannot be used, without file and line. The
// tables of a list are counted as Config has them: "window[1]" is Windows[0].
// No file but those of the time zones is read for it.
func (c Config) Validate() []Problem {
	var problems []Problem
	for _, f := range c.check() {
		problems = append(problems, Problem{Key: f.at.String(), Message: f.message})
	}
	return problems
}

// check finds every value that cannot be used.
func (c Config) check() []finding {
	var v validator
	if p := c.Kubernetes.Kubeconfig; p != "" && !absolute(p) {
		v.add(at("kubernetes", "kubeconfig"), "%s is not an absolute path of a file (or empty to search the kubelet's places)", text(p))
	}
	if n := c.Kubernetes.NodeName; n != "" {
		v.name(at("kubernetes", "node_name"), n, validation.IsDNS1123Subdomain)
	}
	v.paths(at("sentinel", "paths"), c.Sentinel.Paths)
	v.duration(at("sentinel", "settle"), c.Sentinel.Settle, 0, maxSettle)
	v.schedule(c)
	v.gates(c.Gates)
	for i, p := range c.Prometheus {
		v.prometheus(place{table: "prometheus", index: i + 1}, p)
	}
	for i, a := range c.Alertmanager {
		v.alertmanager(place{table: "alertmanager", index: i + 1}, a)
	}
	v.lock(c.Lock)
	v.drain(c.Drain)
	v.node(c.Node)
	v.duration(at("hooks", "timeout"), c.Hooks.Timeout, second, hour) // as TimeoutStartSec= of kured-hook@.service
	v.reboot(c.Reboot)
	v.duration(at("return", "settle"), c.Return.Settle, 0, day)
	v.duration(at("return", "release_delay"), c.Return.ReleaseDelay, 0, day)
	if d := c.Return.GiveUpAfter; v.durationOrNone(at("return", "give_up_after"), d, minute, 4*week) && d > 0 && d <= c.Return.Settle {
		v.clash(at("return", "give_up_after"), []place{at("return", "settle")},
			"%q is not more than return.settle, which is %q: no node would ever be well in time", d, c.Return.Settle)
	}
	for i, n := range c.Notify {
		v.notify(place{table: "notify", index: i + 1}, n)
	}
	v.compat(c.Compat)
	v.duration(at("retry", "initial"), c.Retry.Initial, second, week)
	if v.duration(at("retry", "max"), c.Retry.Max, second, week) && c.Retry.Max < c.Retry.Initial {
		v.clash(at("retry", "max"), []place{at("retry", "initial")}, "%q is less than retry.initial, which is %q", c.Retry.Max, c.Retry.Initial)
	}
	v.metrics(c.Metrics)
	v.oneOf(at("log", "level"), c.Log.Level, LogLevels())
	v.oneOf(at("log", "format"), c.Log.Format, LogFormats())
	return v.found
}

func (v *validator) gates(g Gates) {
	v.duration(at("gates", "recheck"), g.Recheck, second, hour)
	for _, s := range g.BlockingPods {
		if strings.TrimSpace(s) == "" {
			v.add(at("gates", "blocking_pods"), "an empty label selector selects every pod")
			continue
		}
		v.selector(at("gates", "blocking_pods"), s)
	}
	v.duration(at("gates", "inhibitor_patience"), g.InhibitorPatience, 0, day)
	v.durationOrNone(at("gates", "too_long"), g.TooLong, minute, 52*week)
}

func (v *validator) metrics(m Metrics) {
	seen := map[string]bool{}
	for _, address := range m.Listen {
		path, unix := strings.CutPrefix(address, "unix:")
		host, port, err := net.SplitHostPort(address)
		number, numeric := strconv.ParseUint(port, 10, 16)
		switch {
		case seen[address]:
			v.add(at("metrics", "listen"), "%s is there twice", text(address))
		case address == "systemd", unix && absolute(path):
		case unix, err != nil, numeric != nil, number == 0, host != "" && net.ParseIP(host) == nil && len(validation.IsDNS1123Subdomain(host)) > 0:
			v.add(at("metrics", "listen"), "%s is not an address such as \"127.0.0.1:9788\", \"unix:/run/kured/metrics.sock\" or \"systemd\"", text(address))
		}
		seen[address] = true
	}
	v.file(at("metrics", "web_config_file"), m.WebConfigFile)
	v.file(at("metrics", "textfile"), m.Textfile)
	if f := m.Textfile; f != "" && !strings.HasSuffix(f, ".prom") {
		v.add(at("metrics", "textfile"), "%s does not end in \".prom\", so node_exporter would not read it", text(f))
	}
}

func (v *validator) lock(l Lock) {
	v.name(at("lock", "namespace"), l.Namespace, validation.IsDNS1123Label)
	v.name(at("lock", "name"), l.Name, validation.IsDNS1123Subdomain)
	if p := l.Policy; p != "" {
		v.name(at("lock", "policy"), p, validation.IsDNS1123Subdomain)
		if p == l.Name {
			v.clash(at("lock", "policy"), []place{at("lock", "name")}, "%q is the lock itself (lock.name), expected another ConfigMap", p)
		}
	}
	v.selector(at("lock", "node_selector"), l.NodeSelector)
	v.share(at("lock", "max_concurrent"), l.MaxConcurrent, 1, "")
	v.share(at("lock", "min_ready"), l.MinReady, 0, Quorum)
	if k := l.TopologyKey; k != "" {
		v.name(at("lock", "topology_key"), k, content.IsLabelKey)
	}
	v.between(at("lock", "waiting_room"), l.WaitingRoom, 1, maxWaitingRoom)
	v.between(at("lock", "priority"), l.Priority, -maxPriority, maxPriority)
}

func (v *validator) drain(d Drain) {
	// Zero would end every drain before its first eviction; "no limit" would
	// let one pod hold the lock for ever.
	v.duration(at("drain", "timeout"), d.Timeout, second, week)
	// The API takes whole seconds: "500ms" would become 0, which kills at once.
	switch g := d.GracePeriod; {
	case g > week:
		v.add(at("drain", "grace_period"), "%q is out of range, expected \"0s\" to %q, or a negative time", g, week)
	case g > 0 && g%second != 0:
		v.add(at("drain", "grace_period"), "%q is not in whole seconds", g)
	}
	v.selector(at("drain", "pod_selector"), d.PodSelector)
	v.duration(at("drain", "skip_wait_for_delete"), d.SkipWaitForDelete, 0, week)
	v.oneOf(at("drain", "empty_dir"), d.EmptyDir, PodPolicies())
	v.oneOf(at("drain", "naked_pods"), d.NakedPods, PodPolicies())
	v.oneOf(at("drain", "order"), d.Order, DrainOrders())
	v.duration(at("drain", "delay_before"), d.DelayBefore, 0, day)
	v.duration(at("drain", "delay_after"), d.DelayAfter, 0, day)
	v.oneOf(at("drain", "on_timeout"), d.OnTimeout, TimeoutPolicies())
	v.duration(at("drain", "wait_for_volumes"), d.WaitForVolumes, 0, day)
	v.oneOf(at("drain", "preflight"), d.Preflight, PreflightModes())
}

// words are what the words in braces in a label's value are at their longest
// that matters: an empty reason, or one that is cut, leaves room.
var words = strings.NewReplacer("{time}", "2026-11-22T19-30-00Z", "{boot}", strings.Repeat("0", 32), "{reason}", "r")

func (v *validator) node(n Node) {
	for _, key := range []struct {
		name   string
		labels map[string]string
	}{{"labels_before", n.LabelsBefore}, {"labels_after", n.LabelsAfter}} {
		for _, label := range slices.Sorted(maps.Keys(key.labels)) {
			p := at("node", key.name, label)
			v.name(p, label, content.IsLabelKey)
			if wrong := content.IsLabelValue(words.Replace(key.labels[label])); len(wrong) > 0 {
				v.add(p, "%s is not a value that a label can have: %s", text(key.labels[label]), rules(wrong))
			}
			if n.ExcludeFromLoadBalancers && label == excludeLabel {
				v.clash(p, []place{at("node", "exclude_from_load_balancers")}, "is set by node.exclude_from_load_balancers, expected only one of the two")
			}
		}
	}
	for _, key := range []struct {
		name        string
		annotations map[string]string
	}{{"annotations_before", n.AnnotationsBefore}, {"annotations_after", n.AnnotationsAfter}} {
		for _, name := range slices.Sorted(maps.Keys(key.annotations)) {
			p := at("node", key.name, name)
			// As the API server does: the name of an annotation may have capitals.
			v.name(p, name, func(name string) []string { return content.IsLabelKey(strings.ToLower(name)) })
			if strings.HasPrefix(strings.ToLower(name), ownPrefix) {
				v.add(p, "annotations with %q are for kured itself", ownPrefix)
			}
			if n := len(key.annotations[name]); n > maxAnnotation {
				v.add(p, "has %d bytes, expected at most %d", n, maxAnnotation)
			}
		}
	}
	if t := n.WaitingTaint; t != "" {
		v.name(at("node", "waiting_taint"), t, content.IsLabelKey)
	}
}

func (v *validator) reboot(r Reboot) {
	v.oneOf(at("reboot", "method"), r.Method, RebootMethods())
	v.duration(at("reboot", "delay"), r.Delay, 0, day)
	if len(r.Message) > maxMessage {
		v.add(at("reboot", "message"), "has %d bytes, expected at most %d", len(r.Message), maxMessage)
	}
	if oneLine(r.Message) != r.Message && len(r.Message) <= maxMessage {
		v.add(at("reboot", "message"), "has control characters or more than one line")
	}
	v.duration(at("reboot", "min_uptime"), r.MinUptime, 0, week)
	v.atLeast(at("reboot", "max_per_day"), r.MaxPerDay, 1)
	v.duration(at("reboot", "confirm_within"), r.ConfirmWithin, second, hour)
	if v.duration(at("reboot", "overdue"), r.Overdue, minute, day) && r.Overdue <= r.ConfirmWithin {
		v.clash(at("reboot", "overdue"), []place{at("reboot", "confirm_within")},
			"%q is not more than reboot.confirm_within, which is %q", r.Overdue, r.ConfirmWithin)
	}
}

func (v *validator) compat(c Compat) {
	if c.DaemonSet != "" {
		namespace, name, both := strings.Cut(c.DaemonSet, "/")
		if !both || len(validation.IsDNS1123Label(namespace))+len(validation.IsDNS1123Subdomain(name)) > 0 {
			v.add(at("compat", "daemonset"), "%s is not NAMESPACE/NAME, such as \"kube-system/kured\"", text(c.DaemonSet))
		}
	}
	v.name(at("compat", "lock_annotation"), c.LockAnnotation, func(name string) []string { return content.IsLabelKey(strings.ToLower(name)) })
}
