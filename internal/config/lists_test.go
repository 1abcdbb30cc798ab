package config

import (
	"strings"
	"testing"
	_ "time/tzdata" // the machine that tests may have none
)

func TestProblemsOfLists(t *testing.T) {
	const (
		p = "[[prometheus]]\nurls = [\"http://a\"]\n"
		a = "[[alertmanager]]\nurls = [\"http://a\"]\n"
		w = "[[window]]\nstart = \"22:00\"\nend = \"04:00\"\n"
	)
	for name, c := range map[string]struct{ content, want string }{
		"one table":       {"[window]\nstart = \"22:00\"", `kured.toml:1: window: is a table, expected a list of tables: [[window]]`},
		"text for tables": {"\nwindow = \"22:00\"", `kured.toml:2: window: is text, expected a list of tables: [[window]]`},
		"items":           {"window = [\"22:00\"]", `kured.toml:1: window: item 1: "22:00" is text, expected a table`},
		"unknown": {w + "\n[[window]]\nstart = \"1:00\"\n[lock]\n[[window]]\nbegin = 3", `kured.toml:5: window[2]: end is missing, expected a time such as "04:00"
kured.toml:8: window[3]: start and end are missing, expected times such as "22:00" and "04:00"
kured.toml:9: window[3].begin: unknown, the keys of [[window]] are days, start, end, time_zone`},
		"unknown table": {"[[windows]]\n[[windows]]\n", `kured.toml:2: windows: unknown, did you mean "window"?`},
		"line of each": {w + "[[window]]\n\nstart = 3\nend = 4\n[[window]]\nend = true\nstart = true\n[log]\nlevel = 1\n[[window]]\ndays=1\nstart = \"a\"\nend = \"b\"", `kured.toml:6: window[2].start: 3 is a whole number, expected text in quotes
kured.toml:7: window[2].end: 4 is a whole number, expected text in quotes
kured.toml:9: window[3].end: true is a boolean, expected text in quotes
kured.toml:10: window[3].start: true is a boolean, expected text in quotes
kured.toml:12: log.level: 1 is a whole number, expected text in quotes
kured.toml:14: window[4].days: 1 is a whole number, expected a list of texts in quotes
kured.toml:15: window[4].start: "a" is not a time of day such as "22:00" or "22:00:30"
kured.toml:16: window[4].end: "b" is not a time of day such as "22:00" or "22:00:30"`},
		"in one line": {"\nwindow = [{start = \"1:00\", end = \"2:00\"}, {begin = 1}]", `kured.toml:2: window[2].begin: unknown, the keys of [[window]] are days, start, end, time_zone
kured.toml:2: window[2]: start and end are missing, expected times such as "22:00" and "04:00"`},
		"headers in text": {"[log]\nlevel = '''\n[[window]]\n'''\n[reboot] # \"\"\"\nmessage = \"\"\"\n[[window]]\\\"\"\"\"\"\"\n[[ 'window' ]] # \"\"\"\n\nstart = 1\n[sentinel]\npaths = [\n\"#\", [\n[[\"window\"]]\n]]", `kured.toml:2: log.level: "[[window]]\n" is not known, expected "debug", "info", "warn" or "error"
kured.toml:10: window[1].start: 1 is a whole number, expected text in quotes
kured.toml:12: sentinel.paths: item 2: is a list, expected text in quotes`},
		"map": {"[node]\nlabels_before = 1\nlabels_after = {a = 1, b.c = \"x\", d = \"\"}\n[node.annotations_before]\n\nkured.dev = \"x\"\n", `kured.toml:2: node.labels_before: 1 is a whole number, expected a table of texts in quotes such as { name = "value" }
kured.toml:3: node.labels_after.a: 1 is a whole number, expected text in quotes
kured.toml:3: node.labels_after.b: is a table, expected text in quotes; a name with dots needs quotes too, such as "example.com/name"
kured.toml:6: node.annotations_before.kured: is a table, expected text in quotes; a name with dots needs quotes too, such as "example.com/name"`},
		"map in a list": {"[[notify]]\nurl = \"a://\"\n[notify.templates]\n\nback = 1\n[[notify]]\nurl = \"a://\"\n[notify.templates]\n\n\nback = 2\nsent = \"\"", `kured.toml:5: notify[1].templates.back: 1 is a whole number, expected text in quotes
kured.toml:11: notify[2].templates.back: 2 is a whole number, expected text in quotes
kured.toml:12: notify[2].templates.sent: is not an event, expected "waiting", "drain", "reboot", "back", "failed" or "held"`},

		"window empty": {"[[window]]\n", `kured.toml:1: window[1]: start and end are missing, expected times such as "22:00" and "04:00"`},
		"window half": {"[[window]]\nstart = \"22:00\"\n[[window]]\nend = \"22:00\"", `kured.toml:1: window[1]: end is missing, expected a time such as "04:00"
kured.toml:3: window[2]: start is missing, expected a time such as "22:00"`},
		"window equal": {"[[window]]\nstart = \"22:00\"\nend = \"22:00:00\"", `kured.toml:3: window[1].end: start and end are both "22:00": write "00:00" to "24:00" for a whole day`},
		"window": {"[[window]]\ndays = [\"mon\", \"m\"]\nstart = \"24:00\"\nend = \"5pm\"\ntime_zone = \"Berlin\"", `kured.toml:2: window[1].days: "m" is not a day of the week such as "mon" or "monday"
kured.toml:3: window[1].start: "24:00" is a day's end: write "00:00" and the next day
kured.toml:4: window[1].end: "5pm" is not a time of day such as "22:00" or "22:00:30"
kured.toml:5: window[1].time_zone: "Berlin" is not a time zone that this machine knows, such as "Europe/Berlin", "UTC" or "Local"`},
		"window at midnight": {"[[window]]\nstart = \"00:00\"\nend = \"24:01\"\n[[window]]\nstart = \"12:00\"\nend = \"00:00\"\n[[window]]\nstart = \"00:00\"\nend = \"12:00\"", `kured.toml:3: window[1].end: "24:01" is not a time of day such as "22:00" or "22:00:30"`},
		"zone": {"[schedule]\ntime_zone = \"\"\nmin_remaining = \"25h\"", `kured.toml:2: schedule.time_zone: "" is not a time zone that this machine knows, such as "Europe/Berlin", "UTC" or "Local"
kured.toml:3: schedule.min_remaining: "25h" is out of range, expected "0s" to "24h"`},
		"zone of a freeze": {"[schedule]\ntime_zone = \"Mars\"\n[[freeze]]\nfrom = \"2026-12-20\"\nuntil = \"2026-12-19\"", `kured.toml:2: schedule.time_zone: "Mars" is not a time zone that this machine knows, such as "Europe/Berlin", "UTC" or "Local"`},
		"freeze empty": {"[[freeze]]\nreason = \"\"\"a\nb\"\"\"", `kured.toml:1: freeze[1]: from and until are missing, expected dates such as "2026-12-20" and "2027-01-06"
kured.toml:2: freeze[1].reason: has control characters, more than one line, or more than 300 bytes`},
		"freeze": {"[[freeze]]\nfrom = \"20.12.2026\"\nuntil = \"2026-12-32\"\ntime_zone = \"x\"", `kured.toml:2: freeze[1].from: "20.12.2026" is not a date such as "2026-12-20", nor a date and time such as "2026-12-20 22:00" or "2026-12-20T22:00:00+01:00"
kured.toml:3: freeze[1].until: "2026-12-32" is not a date such as "2026-12-20", nor a date and time such as "2026-12-20 22:00" or "2026-12-20T22:00:00+01:00"
kured.toml:4: freeze[1].time_zone: "x" is not a time zone that this machine knows, such as "Europe/Berlin", "UTC" or "Local"`},
		"freeze backwards": {"[[freeze]]\nfrom = \"2026-12-20 22:00\"\nuntil = \"2026-12-20 21:00\"", `kured.toml:3: freeze[1].until: "2026-12-20 21:00" is not after from "2026-12-20 22:00"`},
		"freeze of a date": {"[[freeze]]\nfrom = 2026-12-20\nuntil = \"2026-12-20\"", `kured.toml:2: freeze[1].from: is a date or time, expected text in quotes`},

		"remaining":        {"[schedule]\nmin_remaining = \"2h\"\n[[window]]\nstart = \"22:00\"\nend = \"23:00\"", `kured.toml:2: schedule.min_remaining: no window is longer than 2h0m0s, which have to remain for something to begin`},
		"remaining of two": {"[schedule]\nmin_remaining = \"2h\"\n[[window]]\nstart = \"22:00\"\nend = \"24:00\"\n[[window]]\nstart = \"00:00\"\nend = \"01:00\"", ``},
		"prometheus empty": {"[[prometheus]]\n", `kured.toml:1: prometheus[1]: urls is missing or empty, expected at least one such as "http://prometheus.example:9090"`},
		"urls": {"[[prometheus]]\nurls = [\"a:9090\", \"http://a\", \"http://a/\", \"https://u:secret@b\", \"ftp://c\", \"http://d?secret\", \"http://\", \"http://[::1\"]", `kured.toml:2: prometheus[1].urls: item 1 is not an address such as "http://prometheus.example:9090"
kured.toml:2: prometheus[1].urls: item 3 is listed twice
kured.toml:2: prometheus[1].urls: item 4 has a user or a password: put them into http_config_file (basic_auth)
kured.toml:2: prometheus[1].urls: item 5 is not an address such as "http://prometheus.example:9090"
kured.toml:2: prometheus[1].urls: item 6 has a query or a fragment, expected an address such as "http://prometheus.example:9090"
kured.toml:2: prometheus[1].urls: item 7 is not an address such as "http://prometheus.example:9090"
kured.toml:2: prometheus[1].urls: item 8 is not an address such as "http://prometheus.example:9090"`},
		"url alone": {"[[prometheus]]\nurls = \"https://u:secret@b\"", `kured.toml:2: prometheus[1].urls: is text, expected a list of texts in quotes`},
		"nothing asked": {p + "alerts = \"none\"\n[[prometheus]]\nurls = [\"http://a\"]\nalerts = \"none\"\nqueries = [\"up\"]\n" + a + "alerts = false", `kured.toml:3: prometheus[1].alerts: "none" without queries or return_queries asks nothing
kured.toml:10: alertmanager[1].alerts: false without silence asks nothing`},
		"alerts": {p + "alerts = \"all\"\n" + a + "alerts = \"firing\"", `kured.toml:3: prometheus[1].alerts: "all" is not known, expected "firing", "pending" or "none"
kured.toml:6: alertmanager[1].alerts: "firing" is text, expected true or false`},
		"filter": {p + "ignore_names = [\"(\", \"\"]\nonly_names = [\"a\", \"[\"]\nignore = [\"a\", 'b=\"c\"']\nonly = ['a=~\"(\"', \"\"]", "kured.toml:3: prometheus[1].ignore_names: \"(\" is not a regular expression: missing closing ): `(`\nkured.toml:3: prometheus[1].ignore_names: an empty regular expression matches every name\nkured.toml:4: prometheus[1].only_names: \"[\" is not a regular expression: missing closing ]: `[`\nkured.toml:5: prometheus[1].ignore: \"a\": expected =, !=, =~ or !~ after the label name a, found the end\nkured.toml:6: prometheus[1].only: \"a=~\\\"(\\\"\": value of the label a: regular expression: missing closing ): \"(\"\nkured.toml:6: prometheus[1].only: \"\": no label matcher such as severity=\"info\""},
		"queries": {p + "queries = [\"up < 1\", \" \"]\nreturn_queries = [\"\"]", `kured.toml:3: prometheus[1].queries: a query is empty
kured.toml:4: prometheus[1].return_queries: a query is empty`},
		"server": {p + "http_config_file = \"http.yml\"\ntimeout = \"500ms\"\n" + a + "timeout = \"6m\"\nhttp_config_file = \"a/\"\nsilence_for = \"30s\"", `kured.toml:3: prometheus[1].http_config_file: "http.yml" is not an absolute path of a file
kured.toml:4: prometheus[1].timeout: "500ms" is out of range, expected "1s" to "5m"
kured.toml:7: alertmanager[1].timeout: "6m" is out of range, expected "1s" to "5m"
kured.toml:8: alertmanager[1].http_config_file: "a/" is not an absolute path of a file
kured.toml:9: alertmanager[1].silence_for: "30s" is out of range, expected "1m" to "24h"`},
		"silence": {a + "silence = ['instance=~\"{node}:.*\"', 'a']\n" + a + "silence = ['a=~\".*\"']", `kured.toml:3: alertmanager[1].silence: "a": expected =, !=, =~ or !~ after the label name a, found the end
kured.toml:6: alertmanager[2].silence: no matcher of the silence has {node} in its value, such as instance=~"{node}(:[0-9]+)?"`},

		"notify empty": {"[[notify]]\n", `kured.toml:1: notify[1]: url and url_file are missing, expected one of them`},
		"notify both": {"[[notify]]\nurl = \"slack://secret\"\nurl_file = \"etc/slack\"", `kured.toml:3: notify[1].url_file: there is a url as well, expected only one of them
kured.toml:3: notify[1].url_file: "etc/slack" is not an absolute path of a file`},
		"notify url": {"[[notify]]\nurl = \"secret\"\n[[notify]]\nurl = [\"slack://secret\"]", `kured.toml:2: notify[1].url: is not an address of shoutrrr such as "slack://…" or "generic+https://…"
kured.toml:4: notify[2].url: is a list, expected text in quotes`},
		"events": {"[[notify]]\nurl = \"a://b\"\nevents = [\"drain\", \"uncordon\"]\ntemplates = {drain = \"{{.Node}\", back = \"{{.Nose}}\", uncordon = \"\"}", `kured.toml:3: notify[1].events: "uncordon" is not known, expected "waiting", "drain", "reboot", "back", "failed" or "held"
kured.toml:4: notify[1].templates.back: is for an event that is not among notify.events
kured.toml:4: notify[1].templates.back: template, line 1:2: at <.Nose>: can't evaluate field Nose in type status.Occurrence
kured.toml:4: notify[1].templates.drain: template, line 1: bad character U+007D '}'
kured.toml:4: notify[1].templates.uncordon: is not an event, expected "waiting", "drain", "reboot", "back", "failed" or "held"`},
		"templates": {"[[notify]]\nurl = \"a://b\"\ntemplates = {drain = '{{join .Packages \", \"}}', back = \"{{index .Packages 0}}\", held = '{{range 100000000}}{{.}}{{end}}'}", `kured.toml:3: notify[1].templates.back: template, line 1:2: at <index .Packages 0>: error calling index: reflect: slice index out of range`},
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, c.content)
			if got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
			if strings.Contains(got, "secret") {
				t.Error("shows a secret")
			}
		})
	}
}
