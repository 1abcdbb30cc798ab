package config

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/schedule"
)

// FuzzLoad: no file and no drop-in makes the loader panic, and what it accepts
// is valid.
func FuzzLoad(f *testing.F) {
	data, err := os.ReadFile(shipped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, []byte(everything))
	f.Add([]byte(everything), []byte(commented.ReplaceAllString(string(data), "$1")))
	for _, s := range []string{
		"", "[lock]\nname = \"a\"", "lock = {name = \"a\", x.y = 1}", "[[lock]]\n[[lock]]", "a.b.c = 1\n[a.b]", "\"\" = 1",
		"[sentinel]\npaths = [\"/a\", [1]]", "x = '''\n\n'''", "[drain]\ntimeout = 1979-05-27", "\xef\xbb\xbf[a", "\r\n[lock]\r\n",
		"[[window]]\nstart = 1\n[[ \"window\" ]] # x\n  end = \"1:00\"\n", "window = [{start = \"1:00\", end = '2'}, [{}], 1]", "[window]\n[window.a]", "[[window.start]]",
		"[[notify]]\nurl = \"a://b\"\n[notify.templates]\nback = \"{{.Node}}\"\n[[notify]]\n[notify.templates]\nback = 1", "[node.labels_before]\na.b = 1\n\"\" = 2",
		"x = \"\"\"\n[[window]]\n\"\"\"\"\"\n[[window]]", "x = [\n[[1]],\n[[window]]\n]", "[[window]]]\n", "[[window]]\n[[window.days]]", "[['window']]\r\nstart = 1",
		"[schedule]\ntime_zone = \"../etc\"\n[[freeze]]\nfrom = \"0000-01-01\"\nuntil = \"9999-12-31\"\ntime_zone = \"Local\"",
		"[[alertmanager]]\nurls = [\"http://a\"]\nsilence = ['a=~\"{node}\"', '{']\nonly = ['\"a b\"!~`c`']",
	} {
		f.Add([]byte(s), []byte("[[window]]\nstart = \"1:00\"\nend = \"2:00\""))
		f.Add([]byte("[retry]\nmax = \"10m\"\n[node]\nlabels_before = {a = \"b\"}"), []byte(s))
	}
	f.Fuzz(func(t *testing.T, data, dropIn []byte) {
		files := []file{{"f", data}, {"d", dropIn}}
		listsOf(t, files)
		cfg, err := parse(files, nil)
		if err == nil {
			if p := cfg.Validate(); len(p) > 0 {
				t.Errorf("accepted and not valid: %v", p)
			}
			usable(t, cfg)
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("not an *Error with problems: %v", err)
		}
		for _, p := range e.Problems {
			if strings.ContainsAny(p.Error(), "\n\r") {
				t.Errorf("more than one line: %q", p.Error())
			}
			lines := 1 + strings.Count(string(data), "\n")
			if p.File == "d" {
				lines = 1 + strings.Count(string(dropIn), "\n")
			}
			if p.Line < 1 || p.Line > lines {
				t.Errorf("line %d of a file of %d lines: %v", p.Line, lines, p)
			}
		}
	})
}

// listsOf checks that our survey of a file and its parser see the same lists.
func listsOf(t *testing.T, files []file) {
	t.Helper()
	for _, f := range files {
		doc, problem := f.open()
		if problem != nil {
			continue
		}
		for name, value := range doc.tree {
			if list, ok := value.([]map[string]any); ok && len(doc.lists[name]) != len(list) {
				t.Errorf("%d headers %q of %d", len(doc.lists[name]), name, len(list))
			}
		}
	}
}

// usable checks that the parts of kured take what was accepted.
func usable(t *testing.T, cfg Config) {
	t.Helper()
	var errs []error
	zone := func(name string) *time.Location {
		at, err := time.LoadLocation(cmp.Or(name, cfg.Schedule.TimeZone))
		errs = append(errs, err)
		return at
	}
	for _, w := range cfg.Windows {
		_, err := schedule.ParseWindow(w.Days, w.Start, w.End, zone(w.TimeZone))
		errs = append(errs, err)
	}
	for _, f := range cfg.Freezes {
		_, err := schedule.ParseFreeze(f.From, f.Until, f.Reason, zone(f.TimeZone))
		errs = append(errs, err)
	}
	server := func(urls []string, timeout Duration, f Filter) alert.Server {
		s, err := alert.NewServer(urls, "", time.Duration(timeout))
		errs = append(errs, err)
		_, err = alert.NewFilter(f.IgnoreNames, f.OnlyNames, f.Ignore, f.Only)
		errs = append(errs, err)
		return s
	}
	for _, p := range cfg.Prometheus {
		server(p.URLs, p.Timeout, p.Filter)
	}
	for _, a := range cfg.Alertmanager {
		s := server(a.URLs, a.Timeout, a.Filter)
		if len(a.Silence) > 0 {
			_, err := alert.NewSilence(s, "node-a.example.com", a.Silence, time.Duration(a.SilenceFor))
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Errorf("accepted and not usable: %v", err)
	}
}
