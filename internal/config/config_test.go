package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// write puts content into a file and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kured.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// problems loads content and returns its problems, one per line, without the path.
func problems(t *testing.T, content string) string {
	t.Helper()
	path := write(t, content)
	cfg, err := Load(path)
	if err == nil {
		return ""
	}
	if !reflect.DeepEqual(cfg, Config{}) {
		t.Errorf("a Config was returned beside the error: %+v", cfg)
	}
	return strings.ReplaceAll(err.Error(), path, "kured.toml")
}

func TestEmptyFileGivesTheDefaults(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "mark": "\xef\xbb\xbf", "tables": "[lock]\r\n[log]\r\n", "comment": "# nothing",
	} {
		cfg, err := Load(write(t, content))
		if err != nil || !reflect.DeepEqual(cfg, Default()) {
			t.Errorf("%s: %+v, %v", name, cfg, err)
		}
	}
	if p := Default().Validate(); len(p) > 0 {
		t.Errorf("the defaults are not valid: %v", p)
	}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"unknown key":            {"[lock]\n\nmax_concurent = 2\n", `kured.toml:3: lock.max_concurent: unknown, did you mean "max_concurrent"?`},
		"dash for underscore":    {"[lock]\nmax-concurrent = 2", `kured.toml:2: lock.max-concurrent: unknown, did you mean "max_concurrent"?`},
		"case":                   {"[Lock]\nName = \"x\"", `kured.toml:1: Lock: unknown, did you mean "lock"?`},
		"wrong table":            {"[sentinel]\nmax_concurrent = 2", `kured.toml:2: sentinel.max_concurrent: unknown, did you mean "lock.max_concurrent"?`},
		"no table":               {"\nmax_concurrent = 2", `kured.toml:2: max_concurrent: unknown, did you mean "lock.max_concurrent"?`},
		"nothing near":           {"[log]\nrotation = 2", `kured.toml:2: log.rotation: unknown, the keys of [log] are level, format`},
		"no table near":          {"[monitoring]", `kured.toml:1: monitoring: unknown, expected one of the tables kubernetes, sentinel, schedule, window, freeze, gates, prometheus, alertmanager, lock, drain, node, hooks, reboot, return, notify, compat, retry, metrics, log`},
		"dotted":                 {"lock.name = \"a\"\nlock.nam = \"b\"", `kured.toml:2: lock.nam: unknown, did you mean "name"?`},
		"dotted unknown table":   {"\n\nmonitoring.port.number = 2", `kured.toml:3: monitoring: unknown, expected one of the tables kubernetes, sentinel, schedule, window, freeze, gates, prometheus, alertmanager, lock, drain, node, hooks, reboot, return, notify, compat, retry, metrics, log`},
		"quoted":                 {"[lock]\n\"na me\" = 1", `kured.toml:2: lock."na me": unknown, did you mean "name"?`},
		"quoted dot":             {"\n\"lock.name\" = 1", `kured.toml:2: "lock.name": unknown, expected one of the tables kubernetes, sentinel, schedule, window, freeze, gates, prometheus, alertmanager, lock, drain, node, hooks, reboot, return, notify, compat, retry, metrics, log`},
		"inline":                 {"\nlock = { name = \"a\", nmae = \"b\" }", `kured.toml:2: lock.nmae: unknown, did you mean "name"?`},
		"deep":                   {"[lock.name.more]\nx = 1", `kured.toml:1: lock.name: is a table, expected text in quotes`},
		"deep unknown":           {"[lock]\n[lock.extra]\nx = 1", `kured.toml:2: lock.extra: unknown, the keys of [lock] are namespace, name, policy, node_selector, max_concurrent, count_unavailable, min_ready, topology_key, waiting_room, priority`},
		"after text over lines":  {"[lock]\nname = \"\"\"\n\nBad\"\"\"\nnamme = 1", "kured.toml:2: lock.name: \"\\nBad\" is not a name that Kubernetes accepts: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character\nkured.toml:5: lock.namme: unknown, did you mean \"name\"?"},
		"line ends of Windows":   {"[lock]\r\n\r\nnamme = 1\r\n", `kured.toml:3: lock.namme: unknown, did you mean "name"?`},
		"list of tables":         {"[[lock]]\nname = \"a\"\n[[lock]]\n", `kured.toml:3: lock: is a list of tables, expected one table: [lock]`},
		"table expected":         {"lock = 3", `kured.toml:1: lock: is a whole number, expected one table: [lock]`},
		"number as text":         {"[lock]\nwaiting_room = \"2\"", `kured.toml:2: lock.waiting_room: "2" is text, expected a whole number`},
		"boolean as text":        {"[lock]\ncount_unavailable = \"no\"", `kured.toml:2: lock.count_unavailable: "no" is text, expected true or false`},
		"text as number":         {"[lock]\nname = 2.5", `kured.toml:2: lock.name: 2.5 is a decimal number, expected text in quotes`},
		"duration as number":     {"[drain]\ntimeout = 30", `kured.toml:2: drain.timeout: 30 is a whole number, expected a duration in quotes such as "90s" or "30m"`},
		"duration without unit":  {"[drain]\ntimeout = \"30\"", `kured.toml:2: drain.timeout: "30" is not a duration such as "90s", "30m" or "1h30m"`},
		"items":                  {"[sentinel]\npaths = [\n 1,\n \"/run/a\",\n true]", "kured.toml:2: sentinel.paths: item 1: 1 is a whole number, expected text in quotes\nkured.toml:2: sentinel.paths: item 3: true is a boolean, expected text in quotes"},
		"list expected":          {"[sentinel]\npaths = \"/run/a\"", `kured.toml:2: sentinel.paths: "/run/a" is text, expected a list of texts in quotes`},
		"empty list":             {"[sentinel]\npaths = []", `kured.toml:2: sentinel.paths: the list is empty, expected at least one path`},
		"paths":                  {"[sentinel]\npaths = [\"run/a\", \"/run/b\", \"/run/./b\", \"/run/b\", \"\", \"/run/\"]", "kured.toml:2: sentinel.paths: \"run/a\" is not an absolute path of a file\nkured.toml:2: sentinel.paths: \"/run/./b\" has parts that lead nowhere, expected \"/run/b\"\nkured.toml:2: sentinel.paths: \"/run/b\" is listed twice\nkured.toml:2: sentinel.paths: \"\" is not an absolute path of a file\nkured.toml:2: sentinel.paths: \"/run/\" is not an absolute path of a file"},
		"relative kubeconfig":    {"[kubernetes]\nkubeconfig = \"kubelet.conf\"", `kured.toml:2: kubernetes.kubeconfig: "kubelet.conf" is not an absolute path of a file (or empty to search the kubelet's places)`},
		"settle":                 {"[sentinel]\nsettle = \"61s\"", `kured.toml:2: sentinel.settle: "1m1s" is out of range, expected "0s" to "1m"`},
		"settle negative":        {"[sentinel]\nsettle = \"-1ns\"", `kured.toml:2: sentinel.settle: "-1ns" is out of range, expected "0s" to "1m"`},
		"concurrency":            {"[lock]\nmax_concurrent = 0", `kured.toml:2: lock.max_concurrent: 0 is out of range, expected 1 to 9999, or "1%" to "100%"`},
		"concurrency beyond":     {"[lock]\nmax_concurrent = 10000", `kured.toml:2: lock.max_concurrent: 10000 is out of range, expected 1 to 9999, or "1%" to "100%"`},
		"concurrency far beyond": {"[lock]\nmax_concurrent = 4294967297", `kured.toml:2: lock.max_concurrent: 4294967297 is too large`},
		"concurrency in quotes":  {"[lock]\nmax_concurrent = \"2\"", `kured.toml:2: lock.max_concurrent: "2" is not known, expected a number without quotes: 1 to 9999, or "1%" to "100%"`},
		"concurrency of a part":  {"[lock]\nmax_concurrent = 0.1", `kured.toml:2: lock.max_concurrent: 0.1 is a decimal number, expected a whole number, or text in quotes such as "10%"`},
		"no percent":             {"[lock]\nmax_concurrent = \"0%\"", `kured.toml:2: lock.max_concurrent: "0%" is out of range, expected 1 to 9999, or "1%" to "100%"`},
		"percent beyond":         {"[lock]\nmax_concurrent = \"101%\"", `kured.toml:2: lock.max_concurrent: "101%" is not known, expected 1 to 9999, or "1%" to "100%"`},
		"percent with a sign":    {"[lock]\nmax_concurrent = \"+5%\"", `kured.toml:2: lock.max_concurrent: "+5%" is not known, expected 1 to 9999, or "1%" to "100%"`},
		"no quorum here":         {"[lock]\nmax_concurrent = \"quorum\"", `kured.toml:2: lock.max_concurrent: "quorum" is not known, expected 1 to 9999, or "1%" to "100%"`},
		"ready":                  {"[lock]\nmin_ready = -1", `kured.toml:2: lock.min_ready: -1 is out of range, expected 0 to 9999, or "0%" to "100%", or "quorum"`},
		"ready by a word":        {"[lock]\nmin_ready = \"half\"", `kured.toml:2: lock.min_ready: "half" is not known, expected 0 to 9999, or "0%" to "100%", or "quorum"`},
		"topology":               {"[lock]\ntopology_key = \"a/b/c\"", `kured.toml:2: lock.topology_key: "a/b/c" is not a name that Kubernetes accepts: a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`},
		"selector":               {"[lock]\nnode_selector = \"pool=(a)\"", `kured.toml:2: lock.node_selector: "pool=(a)" is not a label selector: found '(', expected: identifier`},
		"policy":                 {"[lock]\npolicy = \"Kured\"", `kured.toml:2: lock.policy: "Kured" is not a name that Kubernetes accepts: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character`},
		"policy in the lock":     {"[lock]\nname = \"a\"\npolicy = \"a\"", `kured.toml:3: lock.policy: "a" is the lock itself (lock.name), expected another ConfigMap`},
		"policy by default":      {"[lock]\nname = \"kured-policy\"", `kured.toml:2: lock.policy: "kured-policy" is the lock itself (lock.name), expected another ConfigMap`},
		"waiting room":           {"[lock]\nwaiting_room = 17", `kured.toml:2: lock.waiting_room: 17 is out of range, expected 1 to 16`},
		"priority":               {"[lock]\npriority = -10000", `kured.toml:2: lock.priority: -10000 is out of range, expected -9999 to 9999`},
		"beside a path":          {"[sentinel]\npaths = [\"/run/a.pkgs\", \"/run/a\", \"/run/b.failed\"]", `kured.toml:2: sentinel.paths: "/run/a.pkgs" says something about "/run/a", and cannot be a path of its own`},
		"grace period":           {"[drain]\ngrace_period = \"169h\"", `kured.toml:2: drain.grace_period: "169h" is out of range, expected "0s" to "168h", or a negative time`},
		"no timeout":             {"[drain]\ntimeout = \"0s\"", `kured.toml:2: drain.timeout: "0s" is out of range, expected "1s" to "168h"`},
		"part of a second":       {"[drain]\ngrace_period = \"1500ms\"", `kured.toml:2: drain.grace_period: "1.5s" is not in whole seconds`},
		"no reboot":              {"[reboot]\nmax_per_day = 0", `kured.toml:2: reboot.max_per_day: 0 is too small, expected 1 or more`},
		"confirm":                {"[reboot]\nconfirm_within = \"-1s\"", `kured.toml:2: reboot.confirm_within: "-1s" is out of range, expected "1s" to "1h"`},
		"retry":                  {"[retry]\ninitial = \"0s\"", `kured.toml:2: retry.initial: "0s" is out of range, expected "1s" to "168h"`},
		"retry beyond a default": {"[retry]\ninitial = \"2h\"", `kured.toml:2: retry.max: "1h" is less than retry.initial, which is "2h"`},
		"level":                  {"[log]\nlevel = \"trace\"", `kured.toml:2: log.level: "trace" is not known, expected "debug", "info", "warn" or "error"`},
		"format":                 {"[log]\nformat = \"\"", `kured.toml:2: log.format: "" is not known, expected "auto", "journal", "text" or "json"`},
		"syntax":                 {"[lock]\nname = \n", `kured.toml:2: expected value but found '\n' instead`},
		"key twice":              {"[lock]\nname = \"a\"\nname = \"b\"", `kured.toml:3: Key 'lock.name' has already been defined.`},
		"UTF-16":                 {"\xff\xfe[\x00l\x00", `kured.toml:1: is UTF-16, expected UTF-8`},
		"not text":               {"\x7fELF\x02\x01", `kured.toml:1: TOML files cannot contain control characters: '0x7f'`},
		"nested":                 {"x = " + strings.Repeat("{a = ", 101), "kured.toml:1: more than 100 inline tables"},
		"long key":               {"\nx" + strings.Repeat(".x", 2048) + " = 1", "kured.toml:2: line of more than 4096 bytes"},
		"several at once": {
			"[lock]\nmax_concurrent = 0\nnaem = \"a\"\nwaiting_room = true\n[log]\nlevel = \"loud\"\n",
			"kured.toml:2: lock.max_concurrent: 0 is out of range, expected 1 to 9999, or \"1%\" to \"100%\"\n" +
				"kured.toml:3: lock.naem: unknown, did you mean \"name\"?\n" +
				"kured.toml:4: lock.waiting_room: true is a boolean, expected a whole number\n" +
				"kured.toml:6: log.level: \"loud\" is not known, expected \"debug\", \"info\", \"warn\" or \"error\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, c.content); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestProblemsAreAValue(t *testing.T) {
	_, err := Load(write(t, "[lock]\nnaem = 1\n"))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != 1 || e.Problems[0].Line != 2 || e.Problems[0].Key != "lock.naem" {
		t.Errorf("got %#v", err)
	}
	_, err = Load(write(t, "[sentinel]\npaths = ["+strings.Repeat("1,", 200)+"]"))
	if got := strings.Count(err.Error(), "\n"); got != maxProblems || !strings.HasSuffix(err.Error(), "and 150 more problems") {
		t.Errorf("%d lines, the last of them: %s", got+1, err.Error()[strings.LastIndex(err.Error(), "\n")+1:])
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("big"), make([]byte, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", at("loop")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing": "cannot be read: no such file or directory",
		".":       "is a directory, expected a file",
		"big":     "is larger than 64 KiB and cannot be a configuration of kured",
		"fifo":    "is not a regular file",
		"loop":    "cannot be read: too many levels of symbolic links",
	} {
		_, err := Load(at(name))
		if err == nil || err.Error() != at(name)+": "+want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		if _, err := LoadOptional(at(name)); (err == nil) != (name == "missing") {
			t.Errorf("%s, optional: %v", name, err)
		}
	}
	if cfg, err := LoadOptional(at("missing")); err != nil || !reflect.DeepEqual(cfg, Default()) {
		t.Errorf("a missing optional file: %+v, %v", cfg, err)
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{
		"30m": "30m", "1h": "1h", "90m": "1h30m", "0": "0s", "-1s": "-1s", "10s": "10s", "1h0m5s": "1h0m5s", "100ms": "100ms", "1m30s": "1m30s", "10m10s": "10m10s", "20h": "20h",
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil {
			t.Fatal(err)
		}
		text, err := d.MarshalText()
		if err != nil || string(text) != want {
			t.Errorf("%s: got %s, want %s", in, text, want)
		}
		var back Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Errorf("%s: %s reads back as %s, %v", in, text, back, err)
		}
	}
}
