package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/dump"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/kube"
)

// examples is one value for each key that is not its default. A key in the
// second column has to be there for it to mean something.
var examples = map[string]struct{ value, with string }{
	"kubernetes.kubeconfig":            {`"/etc/kubernetes/kubelet.conf"`, ""},
	"kubernetes.node_name":             {`"node-x"`, ""},
	"sentinel.paths":                   {`["/run/other"]`, ""},
	"sentinel.settle":                  {`"7s"`, ""},
	"schedule.time_zone":               {`"UTC"`, "[[window]]\nstart = \"22:00\"\nend = \"23:00\"\n"},
	"schedule.min_remaining":           {`"30m"`, ""},
	"window.days":                      {`["sun"]`, "start = \"22:00\"\nend = \"23:00\"\n"},
	"window.start":                     {`"21:00"`, "end = \"23:00\"\n"},
	"window.end":                       {`"21:00"`, "start = \"20:00\"\n"},
	"window.time_zone":                 {`"UTC"`, "start = \"20:00\"\nend = \"23:00\"\n"},
	"freeze.from":                      {`"2030-01-01"`, "until = \"2030-02-01\"\n"},
	"freeze.until":                     {`"2030-02-01"`, "from = \"2030-01-01\"\n"},
	"freeze.time_zone":                 {`"UTC"`, "from = \"2030-01-01\"\nuntil = \"2030-02-01\"\n"},
	"freeze.reason":                    {`"sale"`, "from = \"2030-01-01\"\nuntil = \"2030-02-01\"\n"},
	"gates.recheck":                    {`"3m"`, ""},
	"gates.blocking_pods":              {`["app=batch"]`, ""},
	"gates.inhibitor_patience":         {`"1m"`, ""},
	"gates.too_long":                   {`"1h"`, ""},
	"prometheus.urls":                  {`["http://a"]`, ""},
	"prometheus.alerts":                {`"pending"`, "urls = [\"http://a\"]\n"},
	"prometheus.ignore_names":          {`["^Watchdog$"]`, "urls = [\"http://a\"]\n"},
	"prometheus.only_names":            {`["^Node"]`, "urls = [\"http://a\"]\n"},
	"prometheus.ignore":                {`['severity="info"']`, "urls = [\"http://a\"]\n"},
	"prometheus.only":                  {`['severity="page"']`, "urls = [\"http://a\"]\n"},
	"prometheus.queries":               {`["up == 0"]`, "urls = [\"http://a\"]\n"},
	"prometheus.return_queries":        {`["up == 0"]`, "urls = [\"http://a\"]\n"},
	"prometheus.until_drain":           {`true`, "urls = [\"http://a\"]\n"},
	"prometheus.http_config_file":      {`"/etc/kured/http.yaml"`, "urls = [\"http://a\"]\n"},
	"prometheus.timeout":               {`"3s"`, "urls = [\"http://a\"]\n"},
	"alertmanager.urls":                {`["http://a"]`, ""},
	"alertmanager.alerts":              {`false`, "urls = [\"http://a\"]\nsilence = ['node=\"{node}\"']\n"},
	"alertmanager.ignore_names":        {`["^Watchdog$"]`, "urls = [\"http://a\"]\n"},
	"alertmanager.only_names":          {`["^Node"]`, "urls = [\"http://a\"]\n"},
	"alertmanager.ignore":              {`['severity="info"']`, "urls = [\"http://a\"]\n"},
	"alertmanager.only":                {`['severity="page"']`, "urls = [\"http://a\"]\n"},
	"alertmanager.until_drain":         {`true`, "urls = [\"http://a\"]\n"},
	"alertmanager.silence":             {`['node="{node}"']`, "urls = [\"http://a\"]\n"},
	"alertmanager.silence_for":         {`"5m"`, "urls = [\"http://a\"]\nsilence = ['node=\"{node}\"']\n"},
	"alertmanager.http_config_file":    {`"/etc/kured/http.yaml"`, "urls = [\"http://a\"]\n"},
	"alertmanager.timeout":             {`"3s"`, "urls = [\"http://a\"]\n"},
	"lock.namespace":                   {`"ops"`, ""},
	"lock.name":                        {`"pool-a"`, ""},
	"lock.policy":                      {`"limits"`, ""},
	"lock.node_selector":               {`"pool=a"`, ""},
	"lock.max_concurrent":              {`"10%"`, ""},
	"lock.count_unavailable":           {`false`, ""},
	"lock.min_ready":                   {`"quorum"`, ""},
	"lock.topology_key":                {`"zone"`, ""},
	"lock.waiting_room":                {`3`, ""},
	"lock.priority":                    {`5`, ""},
	"drain.timeout":                    {`"10m"`, ""},
	"drain.grace_period":               {`"60s"`, ""},
	"drain.pod_selector":               {`"app=web"`, ""},
	"drain.skip_wait_for_delete":       {`"60s"`, ""},
	"drain.empty_dir":                  {`"refuse"`, ""},
	"drain.naked_pods":                 {`"refuse"`, ""},
	"drain.order":                      {`"together"`, ""},
	"drain.delay_before":               {`"30s"`, ""},
	"drain.delay_after":                {`"30s"`, ""},
	"drain.on_timeout":                 {`"hold"`, ""},
	"drain.wait_for_volumes":           {`"2m"`, ""},
	"drain.preflight":                  {`"block"`, ""},
	"node.labels_before":               {`{ state = "rebooting" }`, ""},
	"node.labels_after":                {`{ state = "ready" }`, ""},
	"node.annotations_before":          {`{ "example.com/at" = "{time}" }`, ""},
	"node.annotations_after":           {`{ "example.com/at" = "{time}" }`, ""},
	"node.waiting_taint":               {`"example.com/waits"`, ""},
	"node.exclude_from_load_balancers": {`true`, ""},
	"node.conditions":                  {`true`, ""},
	"node.status_annotation":           {`false`, ""},
	"node.events":                      {`false`, ""},
	"hooks.timeout":                    {`"1m"`, ""},
	"reboot.method":                    {`"kexec"`, ""},
	"reboot.delay":                     {`"5m"`, ""},
	"reboot.message":                   {`"away"`, ""},
	"reboot.min_uptime":                {`"1h"`, ""},
	"reboot.max_per_day":               {`1`, ""},
	"reboot.confirm_within":            {`"1m"`, ""},
	"reboot.overdue":                   {`"1h"`, ""},
	"reboot.dry_run":                   {`true`, ""},
	"return.daemon_sets":               {`true`, ""},
	"return.settle":                    {`"1m"`, ""},
	"return.release_delay":             {`"1m"`, ""},
	"return.give_up_after":             {`"1h"`, ""},
	"notify.url":                       {`"generic+https://example.com/a"`, ""},
	"notify.url_file":                  {`"/etc/kured/url"`, ""},
	"notify.events":                    {`["held"]`, "url = \"generic+https://example.com/a\"\n"},
	"notify.templates":                 {`{ back = "{{.Node}} is back" }`, "url = \"generic+https://example.com/a\"\n"},
	"compat.daemonset":                 {`"kube-system/kured"`, ""},
	"compat.lock_annotation":           {`"example.com/lock"`, "daemonset = \"kube-system/kured\"\n"},
	"retry.initial":                    {`"1m"`, ""},
	"retry.max":                        {`"2h"`, ""},
	"metrics.listen":                   {`["systemd"]`, ""},
	"metrics.web_config_file":          {`"/dev/null"`, ""},
	"metrics.textfile":                 {`"/var/lib/node_exporter/kured.prom"`, ""},
	"log.level":                        {`"debug"`, ""},
	"log.format":                       {`"json"`, ""},
}

// Each key changes something of what the daemon is made of. A key that is read
// and then forgotten would not.
func TestEveryKeyIsUsed(t *testing.T) {
	client := &kubernetes.Clientset{} // which nobody asks
	once := made(t, client, config.Default())
	if again := made(t, client, config.Default()); again != once {
		t.Fatal("the same configuration makes something else each time")
	}
	lists := []string{"window", "freeze", "prometheus", "alertmanager", "notify"}
	for _, key := range config.Keys() {
		e, ok := examples[key]
		if !ok {
			t.Errorf("%s has no example", key)
			continue
		}
		t.Run(key, func(t *testing.T) {
			table, leaf, _ := strings.Cut(key, ".")
			header := "[" + table + "]\n"
			if slices.Contains(lists, table) {
				header = "[" + header[:len(header)-1] + "]\n"
			}
			without := header + e.with
			with := without + leaf + " = " + e.value + "\n"
			if strings.HasPrefix(e.with, "[") { // tables of their own, behind the key's
				without, with = e.with, header+leaf+" = "+e.value+"\n"+e.with
			}
			if e.with == "" {
				without = ""
			}
			before := "nothing"
			if cfg, err := read(t, without); err == nil {
				before = made(t, client, cfg)
			} else if e.with == "" || !slices.Contains([]string{"window.start", "window.end", "freeze.from", "freeze.until"}, key) {
				t.Fatalf("without it: %v\n%s", err, without)
			}
			cfg, err := read(t, with)
			if err != nil {
				t.Fatalf("%v\n%s", err, with)
			}
			if made(t, client, cfg) == before {
				t.Errorf("%s changes nothing", strings.TrimSpace(with))
			}
		})
	}
	for key := range examples {
		if !slices.Contains(config.Keys(), key) {
			t.Errorf("%s is no key", key)
		}
	}
}

func read(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kured.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

// What NodeRestriction refuses is refused before it is tried, by name.
func TestFits(t *testing.T) {
	cfg := config.Default()
	cfg.Node.LabelsBefore = map[string]string{"kubernetes.io/state": "away"}
	p := testPlan(t, "/nowhere", "unix:path=/nowhere/bus", "0123456789abcdef0123456789abcdef", cfg)
	var permanent interface{ Permanent() bool }
	if err := p.fits(true); !errors.As(err, &permanent) || !permanent.Permanent() || !strings.Contains(err.Error(), "kubernetes.io/state") {
		t.Errorf("a kubelet's: %v", err)
	}
	if err := p.fits(false); err != nil {
		t.Errorf("another's: %v", err)
	}
}

// addresses of channels and functions differ each time.
var addresses = regexp.MustCompile(`0x[0-9a-f]+`)

// made is all that is made of a configuration, as text.
func made(t *testing.T, client kubernetes.Interface, cfg config.Config) string {
	t.Helper()
	p := testPlan(t, "/nowhere", "unix:path=/nowhere/bus", "0123456789abcdef0123456789abcdef", cfg)
	p.booted = time.Unix(0, 0)
	parts := p.parts(nil)
	joined, err := p.join(&kube.Cluster{Client: client, NodeName: "node-a", UID: "u", Labels: map[string]string{"zone": "eu-1a"}})
	if err != nil {
		t.Fatal(err)
	}
	var rival gate.Rival // the client in it cannot be shown, and hides what is behind it
	for _, g := range joined.Gates.(gate.Set).Gates {
		if r, ok := g.(gate.Rival); ok {
			rival.DaemonSet, rival.Annotation = r.DaemonSet, r.Annotation
		}
	}
	paths, settle := p.watched()
	return addresses.ReplaceAllString(dump.ForHash([]any{
		p.identity(), paths, settle, parts.Gates, parts.Host, parts.Announcer, parts.Hooks, parts.Settings, rival, p.notifier, p.log.Handler(),
		p.proofs, joined.Turn, joined.Self, joined.Gates, joined.Silencer, joined.Chronicle, len(joined.Ready), len(joined.Well), p.metrics(),
	}), "")
}
