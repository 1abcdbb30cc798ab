package config

import (
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestProblemsOfValues(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"gates": {"[gates]\nrecheck = \"5ms\"\nblocking_pods = [\"app=x\", \"\", \"a=(b)\"]\ninhibitor_patience = \"-1s\"\ntoo_long = \"1s\"", `kured.toml:2: gates.recheck: "5ms" is out of range, expected "1s" to "1h"
kured.toml:3: gates.blocking_pods: an empty label selector selects every pod
kured.toml:3: gates.blocking_pods: "a=(b)" is not a label selector: found '(', expected: identifier
kured.toml:4: gates.inhibitor_patience: "-1s" is out of range, expected "0s" to "24h"
kured.toml:5: gates.too_long: "1s" is out of range, expected "1m" to "8736h", or "0s"`},
		"never too long": {"[gates]\ntoo_long = \"0s\"\n[return]\ngive_up_after = \"0s\"", ``},
		"drain": {"[drain]\npod_selector = \"a in b\"\nskip_wait_for_delete = \"-1s\"\nempty_dir = \"yes\"\nnaked_pods = \"\"\norder = \"none\"\ndelay_before = \"25h\"\ndelay_after = \"-1s\"\non_timeout = \"rollback\"\nwait_for_volumes = \"48h\"\npreflight = \"on\"", `kured.toml:2: drain.pod_selector: "a in b" is not a label selector: found 'b' expected: '('
kured.toml:3: drain.skip_wait_for_delete: "-1s" is out of range, expected "0s" to "168h"
kured.toml:4: drain.empty_dir: "yes" is not known, expected "evict" or "refuse"
kured.toml:5: drain.naked_pods: "" is not known, expected "evict" or "refuse"
kured.toml:6: drain.order: "none" is not known, expected "critical-last", "priority" or "together"
kured.toml:7: drain.delay_before: "25h" is out of range, expected "0s" to "24h"
kured.toml:8: drain.delay_after: "-1s" is out of range, expected "0s" to "24h"
kured.toml:9: drain.on_timeout: "rollback" is not known, expected "release", "force" or "hold"
kured.toml:10: drain.wait_for_volumes: "48h" is out of range, expected "0s" to "24h"
kured.toml:11: drain.preflight: "on" is not known, expected "warn", "block" or "off"`},
		"labels": {"[node]\nlabels_before = { \"-a\" = \"b\", a = \"b c\", \"x/y/z\" = \"\" }\nlabels_after = { t = \"{time}\", b = \"b-{boot}-{reason}\", ok = \"\", long = \"{boot}{boot}\" }", `kured.toml:2: node.labels_before.-a: "-a" is not a name that Kubernetes accepts: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
kured.toml:2: node.labels_before.a: "b c" is not a value that a label can have: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
kured.toml:2: node.labels_before."x/y/z": "x/y/z" is not a name that Kubernetes accepts: a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
kured.toml:3: node.labels_after.long: "{boot}{boot}" is not a value that a label can have: must be no more than 63 bytes`},
		"annotations": {"[node]\nannotations_before = { \"Example.com/A_b\" = \"any thing\", \"a b\" = \"\" }\nannotations_after = { \"kured.dev/cordoned\" = \"\", long = \"" + strings.Repeat("a", 1025) + "\" }\nwaiting_taint = \"a=b:NoSchedule\"", `kured.toml:2: node.annotations_before."a b": "a b" is not a name that Kubernetes accepts: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
kured.toml:3: node.annotations_after."kured.dev/cordoned": annotations with "kured.dev/" are for kured itself
kured.toml:3: node.annotations_after.long: has 1025 bytes, expected at most 1024
kured.toml:4: node.waiting_taint: "a=b:NoSchedule" is not a name that Kubernetes accepts: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`},
		"label twice": {"[node]\nexclude_from_load_balancers = true\nlabels_before = { \"node.kubernetes.io/exclude-from-external-load-balancers\" = \"\" }", `kured.toml:3: node.labels_before."node.kubernetes.io/exclude-from-external-load-balancers": is set by node.exclude_from_load_balancers, expected only one of the two`},
		"label once":  {"[node]\nlabels_before = { \"node.kubernetes.io/exclude-from-external-load-balancers\" = \"\" }", ``},
		"hooks":       {"[hooks]\ntimeout = \"0s\"", `kured.toml:2: hooks.timeout: "0s" is out of range, expected "1s" to "1h"`},
		"reboot": {"[reboot]\nmethod = \"command\"\ndelay = \"25h\"\nmin_uptime = \"-1s\"\noverdue = \"30s\"", `kured.toml:2: reboot.method: "command" is not known, expected "reboot", "kexec" or "soft-reboot"
kured.toml:3: reboot.delay: "25h" is out of range, expected "0s" to "24h"
kured.toml:4: reboot.min_uptime: "-1s" is out of range, expected "0s" to "168h"
kured.toml:5: reboot.overdue: "30s" is out of range, expected "1m" to "24h"`},
		"overdue":            {"[reboot]\noverdue = \"2m\"\n\nconfirm_within = \"2m\"", `kured.toml:2: reboot.overdue: "2m" is not more than reboot.confirm_within, which is "2m"`},
		"overdue by default": {"[reboot]\nconfirm_within = \"15m\"", `kured.toml:2: reboot.overdue: "15m" is not more than reboot.confirm_within, which is "15m"`},
		"message":            {"[reboot]\nmessage = \"a\\u0007b\"", `kured.toml:2: reboot.message: has control characters or more than one line`},
		"long message":       {"[reboot]\nmessage = \"" + strings.Repeat("a", 501) + "\"", `kured.toml:2: reboot.message: has 501 bytes, expected at most 500`},
		"return": {"[return]\nsettle = \"25h\"\nrelease_delay = \"-1s\"\ngive_up_after = \"59s\"", `kured.toml:2: return.settle: "25h" is out of range, expected "0s" to "24h"
kured.toml:3: return.release_delay: "-1s" is out of range, expected "0s" to "24h"
kured.toml:4: return.give_up_after: "59s" is out of range, expected "1m" to "672h", or "0s"`},
		"gives up too soon": {"[return]\n\nsettle = \"1h\"\ngive_up_after = \"1h\"", `kured.toml:4: return.give_up_after: "1h" is not more than return.settle, which is "1h": no node would ever be well in time`},
		"compat": {"[compat]\ndaemonset = \"kured\"\nlock_annotation = \"\"", `kured.toml:2: compat.daemonset: "kured" is not NAMESPACE/NAME, such as "kube-system/kured"
kured.toml:3: compat.lock_annotation: "" is not a name that Kubernetes accepts: name part must be non-empty; name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`},
		"metrics": {"[metrics]\nlisten = [\":9788\", \"[::1]:9788\", \"unix:/run/m.sock\", \"systemd\", \":9788\", \"9788\", \"unix:m\", \"h:0\", \"a b:1\", \"h:http\"]\nweb_config_file = \"web.yml\"\ntextfile = \"/var/lib/kured.txt\"", `kured.toml:2: metrics.listen: ":9788" is there twice
kured.toml:2: metrics.listen: "9788" is not an address such as "127.0.0.1:9788", "unix:/run/kured/metrics.sock" or "systemd"
kured.toml:2: metrics.listen: "unix:m" is not an address such as "127.0.0.1:9788", "unix:/run/kured/metrics.sock" or "systemd"
kured.toml:2: metrics.listen: "h:0" is not an address such as "127.0.0.1:9788", "unix:/run/kured/metrics.sock" or "systemd"
kured.toml:2: metrics.listen: "a b:1" is not an address such as "127.0.0.1:9788", "unix:/run/kured/metrics.sock" or "systemd"
kured.toml:2: metrics.listen: "h:http" is not an address such as "127.0.0.1:9788", "unix:/run/kured/metrics.sock" or "systemd"
kured.toml:3: metrics.web_config_file: "web.yml" is not an absolute path of a file
kured.toml:4: metrics.textfile: "/var/lib/kured.txt" does not end in ".prom", so node_exporter would not read it`},
		"no metrics": {"[metrics]\nlisten = []", ``},
		"daemonset":  {"[compat]\ndaemonset = \"Kube/kured/x\"", `kured.toml:2: compat.daemonset: "Kube/kured/x" is not NAMESPACE/NAME, such as "kube-system/kured"`},
		"long values": {"[compat]\ndaemonset = \"" + strings.Repeat("a", 1000) + "\"\n[log]\nlevel = \"" + strings.Repeat("é", 1000) + "\"", `kured.toml:2: compat.daemonset: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is not NAMESPACE/NAME, such as "kube-system/kured"
kured.toml:4: log.level: "éééééééééééééééééééééééééééééééééééééééé…" is not known, expected "debug", "info", "warn" or "error"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, c.content); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

// Every key, in the wrong type, gives exactly one problem, with its line and
// its key.
func TestWrongTypes(t *testing.T) {
	sections := reflect.ValueOf(Default())
	n := 0
	for _, section := range sectionNames() {
		table, _ := field(sections, section)
		structure, name := table.Type(), section
		if table.Kind() == reflect.Slice {
			structure, name = structure.Elem(), section+"[1]"
		}
		for _, key := range keysOf(section) {
			n++
			leaf, _ := field(reflect.New(structure).Elem(), key)
			for _, wrong := range wrongFor(leaf) {
				for _, content := range contents(section, key, wrong, table.Kind() == reflect.Slice) {
					before, _, _ := strings.Cut(content, "("+key+")")
					content = strings.Replace(content, "("+key+")", key, 1)
					_, err := Load(write(t, content))
					e, _ := err.(*Error)
					if e == nil || len(e.Problems) != 1 {
						t.Errorf("%s\n%v", content, err)
						continue
					}
					line := 1 + strings.Count(before, "\n")
					if p := e.Problems[0]; p.Line != line || p.Key != name+"."+key || p.Message == "" {
						t.Errorf("%s\n%v, not line %d of %s.%s", content, p, line, name, key)
					}
				}
			}
		}
	}
	if n != len(Keys()) {
		t.Errorf("%d keys of %d", n, len(Keys()))
	}
}

// contents are files in which the key, in parentheses, has that value.
func contents(section, key, value string, list bool) []string {
	here, next := "("+key+") = "+value, "[log]"
	if section == "log" {
		next = "[lock]"
	}
	if !list {
		return []string{"[" + section + "]\n\n" + here + " # x\n" + next, "\n" + section + "." + here, "\n\n" + section + " = { " + here + " }"}
	}
	// With the keys that have to be given.
	required := map[string][]string{
		"window": {`start = "1:00"`, `end = "2:00"`}, "freeze": {`from = "2026-12-20"`, `until = "2026-12-20"`},
		"prometheus": {`urls = ["http://a"]`}, "alertmanager": {`urls = ["http://a"]`}, "notify": {`url = "a://b"`},
	}[section]
	for _, r := range required {
		if !strings.HasPrefix(r, key+" ") && key != "url_file" {
			here += "\n" + r
		}
	}
	table := "[[" + section + "]]\n"
	return []string{"\n" + table + here, "\n" + table + here + "\n" + next, section + " = [{ " + strings.ReplaceAll(here, "\n", ", ") + " }]"}
}

// wrongFor are TOML values that a key of that type cannot have.
func wrongFor(leaf reflect.Value) []string {
	const text, number, boolean, decimal, date, list, table, tables = `"text"`, "1", "true", "1.5", "2026-12-20", `["x", 1]`, `{ a = 1 }`, `[{ a = "b" }]`
	wrong := []string{decimal, date, tables}
	switch leaf.Interface().(type) {
	case Duration:
		return append(wrong, number, boolean, text, list, table)
	case intstr.IntOrString:
		return append(wrong, boolean, list, table)
	}
	switch leaf.Kind() {
	case reflect.String:
		return append(wrong, number, boolean, list, table)
	case reflect.Int:
		return append(wrong, text, boolean, list, table)
	case reflect.Bool:
		return append(wrong, text, number, list, table)
	case reflect.Slice:
		return append(wrong, text, number, boolean, list, table)
	case reflect.Map:
		return append(wrong, text, number, boolean, list)
	default:
		panic(leaf.Kind())
	}
}
