package config

import (
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/notify/message"
	"github.com/kured-host/kured/internal/schedule"
	"github.com/kured-host/kured/internal/status"
)

// schedule checks windows and freezes with what is in force for all of them.
func (v *validator) schedule(c Config) {
	v.zone(at("schedule", "time_zone"), c.Schedule.TimeZone)
	v.duration(at("schedule", "min_remaining"), c.Schedule.MinRemaining, 0, day)
	for i, w := range c.Windows {
		p := place{table: "window", index: i + 1}
		if w.TimeZone != "" {
			v.zone(p.in("time_zone"), w.TimeZone)
		}
		v.window(p, w)
	}
	v.remaining(c)
	for i, f := range c.Freezes {
		p := place{table: "freeze", index: i + 1}
		zoned := at("schedule", "time_zone")
		if f.TimeZone != "" {
			zoned = p.in("time_zone")
			v.zone(zoned, f.TimeZone)
		}
		zone, _ := c.zone(f.TimeZone) // what is wrong with it is told
		v.freeze(p, f, zone, zoned)
	}
}

// remaining refuses windows of which none is long enough to begin something.
// What is wrong with a window by itself is told where it stands.
func (v *validator) remaining(c Config) {
	windows, err := c.windows()
	if err != nil {
		return
	}
	all := schedule.Schedule{Windows: windows, MinRemaining: time.Duration(c.Schedule.MinRemaining)}
	if err := all.Check(time.Now()); err != nil {
		v.add(at("schedule", "min_remaining"), "%s", err)
	}
}

// window asks the parser of windows about one key after the other, so that
// each problem is told where it stands.
func (v *validator) window(p place, w Window) {
	const midnight, noon, midnightAfter = "00:00", "12:00", "24:00"
	wrong := func(key string, days []string, start, end string) bool {
		_, err := schedule.ParseWindow(days, start, end, time.UTC)
		if err != nil {
			v.add(p.in(key), "%s", strings.TrimPrefix(err.Error(), key+" "))
		}
		return err != nil
	}
	for _, d := range w.Days {
		wrong("days", []string{d}, midnight, midnightAfter)
	}
	other := midnight // than the end
	if _, err := schedule.ParseWindow(nil, noon, w.End, time.UTC); err == nil {
		other = noon
	}
	switch {
	case w.Start == "" && w.End == "":
		v.clash(p, []place{p.in("start"), p.in("end")}, "start and end are missing, expected times such as \"22:00\" and \"04:00\"")
	case w.Start == "":
		v.clash(p, []place{p.in("start")}, "start is missing, expected a time such as \"22:00\"")
	case w.End == "":
		v.clash(p, []place{p.in("end")}, "end is missing, expected a time such as \"04:00\"")
	case wrong("start", nil, w.Start, midnightAfter):
		wrong("end", nil, other, w.End)
	case wrong("end", nil, other, w.End):
	default:
		if _, err := schedule.ParseWindow(nil, w.Start, w.End, time.UTC); err != nil {
			v.clash(p.in("end"), []place{p.in("start")}, "%s", err)
		}
	}
}

// freeze does the same for a freeze. zone is nil if there is none of the name at zoned.
func (v *validator) freeze(p place, f Freeze, zone *time.Location, zoned place) {
	const early, late = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
	wrong := func(key, from, until string) bool {
		_, err := schedule.ParseFreeze(from, until, "", time.UTC)
		if err != nil {
			v.add(p.in(key), "%s", strings.TrimPrefix(err.Error(), key+" "))
		}
		return err != nil
	}
	switch {
	case f.From == "" && f.Until == "":
		v.clash(p, []place{p.in("from"), p.in("until")}, "from and until are missing, expected dates such as \"2026-12-20\" and \"2027-01-06\"")
	case f.From == "":
		v.clash(p, []place{p.in("from")}, "from is missing, expected a date such as \"2026-12-20\"")
	case f.Until == "":
		v.clash(p, []place{p.in("until")}, "until is missing, expected a date such as \"2027-01-06\"")
	case wrong("from", f.From, late):
		wrong("until", early, f.Until)
	case wrong("until", early, f.Until):
	case zone == nil:
	default:
		if _, err := schedule.ParseFreeze(f.From, f.Until, "", zone); err != nil {
			v.clash(p.in("until"), []place{zoned, p.in("from")}, "%s", strings.TrimPrefix(err.Error(), "until "))
		}
	}
	if oneLine(f.Reason) != f.Reason {
		v.add(p.in("reason"), "has control characters, more than one line, or more than 300 bytes")
	}
}

func (v *validator) prometheus(p place, s Prometheus) {
	v.urls(p, s.URLs, "http://prometheus.example:9090")
	v.oneOf(p.in("alerts"), s.Alerts, AlertStates())
	v.filter(p, s.Filter)
	for _, key := range []struct {
		name    string
		queries []string
	}{{"queries", s.Queries}, {"return_queries", s.ReturnQueries}} {
		for _, q := range key.queries {
			if strings.TrimSpace(q) == "" {
				v.add(p.in(key.name), "a query is empty")
			}
		}
	}
	if s.Alerts == "none" && len(s.Queries)+len(s.ReturnQueries) == 0 {
		v.clash(p.in("alerts"), []place{p.in("queries"), p.in("return_queries")}, "\"none\" without queries or return_queries asks nothing")
	}
	v.file(p.in("http_config_file"), s.HTTPConfigFile)
	v.duration(p.in("timeout"), s.Timeout, second, 5*minute)
}

func (v *validator) alertmanager(p place, s Alertmanager) {
	v.urls(p, s.URLs, "http://alertmanager.example:9093")
	v.filter(p, s.Filter)
	good := len(s.Silence) > 0 && v.duration(p.in("silence_for"), s.SilenceFor, minute, day)
	for _, item := range s.Silence {
		if _, err := alert.ParseMatchers(item); err != nil {
			v.add(p.in("silence"), "%s: %s", text(item), err)
			good = false
		}
	}
	if good {
		if _, err := alert.NewSilence(alert.Server{}, "node", s.Silence, time.Duration(s.SilenceFor)); err != nil {
			v.add(p.in("silence"), "%s", err)
		}
	}
	if !s.Alerts && len(s.Silence) == 0 {
		v.clash(p.in("alerts"), []place{p.in("silence")}, "false without silence asks nothing")
	}
	if len(s.Silence) == 0 {
		v.duration(p.in("silence_for"), s.SilenceFor, minute, day)
	}
	v.file(p.in("http_config_file"), s.HTTPConfigFile)
	v.duration(p.in("timeout"), s.Timeout, second, 5*minute)
}

// urls checks the addresses of a server. They may have a password by mistake,
// so none of them is shown.
func (v *validator) urls(p place, urls []string, example string) {
	if len(urls) == 0 {
		v.clash(p, []place{p.in("urls")}, "urls is missing or empty, expected at least one such as %q", example)
	}
	p = p.in("urls")
	seen := map[string]bool{}
	for i, address := range urls {
		u, err := url.Parse(address)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
			v.add(p, "item %d is not an address such as %q", i+1, example)
		case u.User != nil:
			v.add(p, "item %d has a user or a password: put them into http_config_file (basic_auth)", i+1)
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(address, "#"):
			v.add(p, "item %d has a query or a fragment, expected an address such as %q", i+1, example)
		case seen[strings.TrimRight(address, "/")]:
			v.add(p, "item %d is listed twice", i+1)
		}
		seen[strings.TrimRight(address, "/")] = true
	}
}

func (v *validator) filter(p place, f Filter) {
	v.regexps(p.in("ignore_names"), f.IgnoreNames)
	v.regexps(p.in("only_names"), f.OnlyNames)
	for _, key := range []struct {
		name  string
		items []string
	}{{"ignore", f.Ignore}, {"only", f.Only}} {
		for _, item := range key.items {
			if _, err := alert.ParseMatchers(item); err != nil {
				v.add(p.in(key.name), "%s: %s", text(item), err)
			}
		}
	}
}

// isScheme matches the scheme of an address (RFC 3986, section 3.1).
var isScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// notify checks one place that is told. Its address is a secret.
func (v *validator) notify(p place, n Notify) {
	switch {
	case n.URL == "" && n.URLFile == "":
		v.clash(p, []place{p.in("url"), p.in("url_file")}, "url and url_file are missing, expected one of them")
	case n.URL != "" && n.URLFile != "":
		v.clash(p.in("url_file"), []place{p.in("url")}, "there is a url as well, expected only one of them")
	case n.URL != "":
		if scheme, _, ok := strings.Cut(n.URL, "://"); !ok || !isScheme.MatchString(scheme) {
			v.add(p.in("url"), "is not an address of shoutrrr such as \"slack://…\" or \"generic+https://…\"")
		}
	}
	v.file(p.in("url_file"), n.URLFile)
	for _, e := range n.Events {
		v.oneOf(p.in("events"), e, NotifyEvents())
	}
	for _, event := range slices.Sorted(maps.Keys(n.Templates)) {
		key := p.in("templates", event)
		switch {
		case !slices.Contains(NotifyEvents(), event):
			v.add(key, "is not an event, expected %s", list(NotifyEvents()))
			continue
		case len(n.Events) > 0 && !slices.Contains(n.Events, event):
			v.clash(key, []place{p.in("events")}, "is for an event that is not among notify.events")
		}
		if err := tryTemplate(n.Templates[event], event); err != nil {
			v.add(key, "%s", err)
		}
	}
}

// tryTemplate says what is wrong with the template of an event.
func tryTemplate(source, event string) error {
	err := message.Check(status.Event(event), source)
	if err == nil {
		return nil
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner // the key names the event
	}
	return errors.New(strings.NewReplacer("template: "+event+":", "template, line ", "executing \""+event+"\" ", "").Replace(err.Error()))
}
