package config

import (
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// everything has every key, none with its default.
const everything = "\xef\xbb\xbf" + `
kubernetes = { kubeconfig = "/etc/kubernetes/kubelet.conf", node_name = "node-a" }
freeze = [
  { from = "2026-12-20", until = "2027-01-06", time_zone = "UTC", reason = "holidays" },
]
[sentinel]
paths = [
  "/run/a", # one
  "/run/b",
]
settle = "0s"
[schedule]
time_zone = "Europe/Berlin"
min_remaining = "20m"
[[window]]
days = ["fri", "Saturday"]
start = "22:00"
end = "04:00:30"
time_zone = "America/New_York"
[gates]
recheck = "2m"
blocking_pods = ["app=batch", "job-name"]
inhibitor_patience = "1m"
too_long = "48h"
[[window]]
start = "00:00"
end = "24:00"
[[prometheus]]
urls = ["https://a.example:9090", "http://b.example/prometheus"]
alerts = "pending"
ignore_names = ["^Watchdog$"]
only_names = ["Node"]
ignore = ['severity="info", team=~"a|b"']
only = ['{cluster="eu"}']
queries = ["up < 1"]
return_queries = ["node_load1 > 10"]
until_drain = true
http_config_file = "/etc/kured/http.yml"
timeout = "30s"
[[alertmanager]]
urls = ["http://c.example:9093"]
alerts = false
ignore_names = ["A"]
only_names = ["B"]
ignore = ['a="b"']
only = ['c!="d"']
until_drain = true
silence = ['instance=~"{node}(:[0-9]+)?"']
silence_for = "5m"
http_config_file = "/etc/kured/http.yml"
timeout = "1s"
[lock]
namespace = "ops"
name = "pool.a"
policy = "limits"
node_selector = "pool in (a, b),!spare"
max_concurrent = "10%"
count_unavailable = false
min_ready = "quorum"
topology_key = "topology.kubernetes.io/zone"
"waiting_room" = 16
priority = -3
[drain]
timeout = "1h30m"
grace_period = "0s"
pod_selector = "app=web"
skip_wait_for_delete = "1m"
empty_dir = "refuse"
naked_pods = "refuse"
order = "priority"
delay_before = "1s"
delay_after = "2s"
on_timeout = "force"
wait_for_volumes = "3m"
preflight = "block"
[node]
labels_after = { a = "after", "example.com/b" = "" }
annotations_before = { "example.com/since" = "{time} {reason}" }
waiting_taint = "example.com/waits"
exclude_from_load_balancers = true
conditions = true
status_annotation = false
events = false
[node.labels_before]
a = "before"
"example.com/b" = "x"
[node.annotations_after]
"example.com/boot" = "{boot}"
[hooks]
timeout = "10m"
[reboot]
method = "kexec"
delay = "5m"
message = "soon"
min_uptime = "1h"
max_per_day = 1
confirm_within = "1m"
overdue = "20m"
dry_run = true
[return]
daemon_sets = true
settle = "30s"
release_delay = "1m"
give_up_after = "2h"
[[notify]]
url = "logger://"
events = ["drain", "back"]
[notify.templates]
drain = "{{.Node}} drains"
[[notify]]
url_file = "/etc/kured/slack"
templates = { back = "{{.Node}} is back", held = '{{.Detail}}' }
[compat]
daemonset = "kube-system/kured"
lock_annotation = "example.com/lock"
[retry]
initial = "2h"
max = "2h"
[metrics]
listen = ["unix:/run/kured/metrics.sock"]
web_config_file = "/etc/kured/web.yml"
textfile = "/var/lib/node_exporter/kured.prom"

[log]
level = "debug"
format = "json"
`

func TestEveryKeyIsRead(t *testing.T) {
	cfg, err := Load(write(t, everything))
	if err != nil {
		t.Fatal(err)
	}
	minutes := func(n float64) Duration { return Duration(n * float64(time.Minute)) }
	want := Config{
		Kubernetes: Kubernetes{"/etc/kubernetes/kubelet.conf", "node-a"},
		Sentinel:   Sentinel{[]string{"/run/a", "/run/b"}, 0},
		Schedule:   Schedule{"Europe/Berlin", minutes(20)},
		Windows:    []Window{{[]string{"fri", "Saturday"}, "22:00", "04:00:30", "America/New_York"}, {Start: "00:00", End: "24:00"}},
		Freezes:    []Freeze{{"2026-12-20", "2027-01-06", "UTC", "holidays"}},
		Gates:      Gates{minutes(2), []string{"app=batch", "job-name"}, minutes(1), minutes(48 * 60)},
		Prometheus: []Prometheus{{
			URLs: []string{"https://a.example:9090", "http://b.example/prometheus"}, Alerts: "pending",
			Filter:  Filter{[]string{"^Watchdog$"}, []string{"Node"}, []string{`severity="info", team=~"a|b"`}, []string{`{cluster="eu"}`}},
			Queries: []string{"up < 1"}, ReturnQueries: []string{"node_load1 > 10"}, UntilDrain: true,
			HTTPConfigFile: "/etc/kured/http.yml", Timeout: minutes(.5),
		}},
		Alertmanager: []Alertmanager{{
			URLs:       []string{"http://c.example:9093"},
			Filter:     Filter{[]string{"A"}, []string{"B"}, []string{`a="b"`}, []string{`c!="d"`}},
			UntilDrain: true, Silence: []string{`instance=~"{node}(:[0-9]+)?"`}, SilenceFor: minutes(5),
			HTTPConfigFile: "/etc/kured/http.yml", Timeout: Duration(time.Second),
		}},
		Lock: Lock{
			Namespace: "ops", Name: "pool.a", Policy: "limits", NodeSelector: "pool in (a, b),!spare",
			MaxConcurrent: intstr.FromString("10%"), MinReady: intstr.FromString("quorum"),
			TopologyKey: "topology.kubernetes.io/zone", WaitingRoom: 16, Priority: -3,
		},
		Drain: Drain{
			Timeout: minutes(90), PodSelector: "app=web", SkipWaitForDelete: minutes(1), EmptyDir: "refuse", NakedPods: "refuse", Order: "priority",
			DelayBefore: Duration(time.Second), DelayAfter: Duration(2 * time.Second), OnTimeout: "force", WaitForVolumes: minutes(3), Preflight: "block",
		},
		Node: Node{
			LabelsBefore:      map[string]string{"a": "before", "example.com/b": "x"},
			LabelsAfter:       map[string]string{"a": "after", "example.com/b": ""},
			AnnotationsBefore: map[string]string{"example.com/since": "{time} {reason}"},
			AnnotationsAfter:  map[string]string{"example.com/boot": "{boot}"},
			WaitingTaint:      "example.com/waits", ExcludeFromLoadBalancers: true, Conditions: true,
		},
		Hooks:  Hooks{minutes(10)},
		Reboot: Reboot{"kexec", minutes(5), "soon", minutes(60), 1, minutes(1), minutes(20), true},
		Return: Return{true, minutes(.5), minutes(1), minutes(120)},
		Notify: []Notify{
			{URL: "logger://", Events: []string{"drain", "back"}, Templates: map[string]string{"drain": "{{.Node}} drains"}},
			{URLFile: "/etc/kured/slack", Templates: map[string]string{"back": "{{.Node}} is back", "held": "{{.Detail}}"}},
		},
		Compat:  Compat{"kube-system/kured", "example.com/lock"},
		Retry:   Retry{minutes(120), minutes(120)},
		Metrics: Metrics{[]string{"unix:/run/kured/metrics.sock"}, "/etc/kured/web.yml", "/var/lib/node_exporter/kured.prom"},
		Log:     Log{"debug", "json"},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	differ(t, reflect.ValueOf(cfg), reflect.ValueOf(Default()), "Config")
}

// differ checks that everything is what it says.
func differ(t *testing.T, got, start reflect.Value, name string) {
	t.Helper()
	for i := range got.NumField() {
		f, name := got.Type().Field(i), name+"."+got.Type().Field(i).Name
		switch {
		case f.Type.Kind() == reflect.Struct && f.Tag.Get("toml") != "" && f.Type != reflect.TypeFor[intstr.IntOrString](),
			f.Anonymous:
			differ(t, got.Field(i), start.Field(i), name)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			// Between them the tables of a list have every key.
			if f.Type.Elem() != reflect.TypeFor[Notify]() {
				differ(t, got.Field(i).Index(0), fresh(f.Type.Elem()), name)
			}
		case reflect.DeepEqual(got.Field(i).Interface(), start.Field(i).Interface()):
			t.Errorf("%s is the default %v", name, got.Field(i))
		}
	}
}
