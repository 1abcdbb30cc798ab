package source

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRelease(t *testing.T) {
	for name, want := range map[string][2]string{
		"6.1.0-40-amd64":               {"6.1.0-40", "amd64"},
		"6.1.0-40-cloud-amd64":         {"6.1.0-40", "cloud-amd64"},
		"6.12.9+bpo-rt-amd64":          {"6.12.9+bpo", "rt-amd64"},
		"6.12.48+deb13-amd64":          {"6.12.48+deb13", "amd64"},
		"6.12-rc6-amd64":               {"6.12-rc6", "amd64"},
		"5.15.0-91-generic":            {"5.15.0-91", "generic"},
		"6.8.0-1021-aws":               {"6.8.0-1021", "aws"},
		"6.8.12-1-pve":                 {"6.8.12-1", "pve"},
		"5.14.0-427.13.1.el9_4.x86_64": {"5.14.0-427.13.1.el9_4.x86_64", ""},
		"6.11.4-301.fc41.x86_64+debug": {"6.11.4-301.fc41.x86_64", "debug"},
		"6.1.2":                        {"6.1.2", ""},
		"6.1.2-custom":                 {"6.1.2", "custom"},
		"6.1.2+":                       {"6.1.2+", ""},
		"":                             {"", ""},
		"6.1-":                         {"6.1-", ""},
	} {
		if got := ParseRelease(name); got.Version != want[0] || got.Flavour != want[1] || got.Name != name {
			t.Errorf("%s: %q of flavour %q", name, got.Version, got.Flavour)
		}
	}
}

var versions = []string{
	"5.4.0-9", "5.4.0-10", "5.10.0-8", "5.10.0-21", "6.1.0-9", "6.1.0-40", "6.1.9", "6.1.10", "6.1.10+bpo", "6.12~rc6", "6.12", "6.12.9+bpo",
	"6.12.48+deb13", "6.12.48+deb13+1", "6.12.48-1", "6.12.048", "5.14.0-427.el9.x86_64", "5.14.0-70.el9.x86_64", "6", "", "1.0a", "1.0a~", "1.0+", "1.0-",
}

// dpkg itself is the judge of Debian's order.
func TestCompareVersionsAsDpkg(t *testing.T) {
	for _, a := range versions {
		for _, b := range versions {
			// As upstream versions: without an epoch, and with a revision that takes the hyphens out of play.
			relation := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[sign(CompareVersions(a, b))]
			if out, err := exec.Command("dpkg", "--compare-versions", "0"+a+"-1", relation, "0"+b+"-1").CombinedOutput(); err != nil {
				t.Errorf("%q is not %s %q to dpkg: %v %s", a, relation, b, err, out)
			}
		}
	}
	if CompareVersions("6.12-rc6", "6.12") >= 0 || CompareVersions("6.12-rc6", "6.11.9") <= 0 || CompareVersions("3.2.0-trunk", "3.2.0-1") >= 0 {
		t.Error("a release candidate is not just before its release")
	}
}

func sign(n int) int { return min(1, max(-1, n)) }

func FuzzCompareVersions(f *testing.F) {
	f.Add("6.1.0-40", "6.1.0-9", "6.12-rc1")
	f.Add("~", "", "a")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, bc, ac := sign(CompareVersions(a, b)), sign(CompareVersions(b, c)), sign(CompareVersions(a, c))
		if sign(CompareVersions(b, a)) != -ab || CompareVersions(a, a) != 0 {
			t.Errorf("%q and %q: not the other way round", a, b)
		}
		if ab == bc && ac != ab {
			t.Errorf("%q, %q, %q: no order", a, b, c)
		}
		if r := ParseRelease(a); !strings.HasPrefix(a, r.Version) || !strings.HasSuffix(a, r.Flavour) {
			t.Errorf("%q became %+v", a, r)
		}
	})
}

// world is a root directory with kernels in it. Times are relative to the boot.
type world struct {
	*testing.T
	root string
	k    Kernel
	told []string
}

func newWorld(t *testing.T, running string) *world {
	w := &world{T: t, root: t.TempDir()}
	must(t, os.MkdirAll(w.root+"/boot", 0o755))
	must(t, os.MkdirAll(w.root+"/lib/modules", 0o755))
	w.k = Kernel{Root: w.root, Running: running, Booted: time.Now(), Note: func(line string) { w.told = append(w.told, line) }}
	return w
}

// add makes an image; with a package, dpkg knows it.
func (w *world) add(release string, withPackage bool) {
	must(w.T, os.WriteFile(w.root+"/boot/vmlinuz-"+release, nil, 0o644))
	if withPackage {
		list := w.k.packageList(release)
		must(w.T, os.MkdirAll(filepath.Dir(list), 0o755))
		must(w.T, os.WriteFile(list, nil, 0o644))
	}
}

// boot makes everything so far older than the boot.
func (w *world) boot() {
	// Change times cannot be set; the coarse clock of the file system can lag behind time.Now.
	for {
		probe := filepath.Join(w.root, "probe")
		w.k.Booted = time.Now()
		must(w.T, os.WriteFile(probe, nil, 0o644))
		at, err := changed(probe, created)
		must(w.T, err)
		must(w.T, os.Remove(probe))
		if at.After(w.k.Booted) {
			return
		}
	}
}

func TestKernelCheck(t *testing.T) {
	const running = "6.1.0-9-amd64"
	for _, test := range []struct {
		name string
		do   func(w *world)
		want []string
		note string
	}{
		{name: "none installed", do: func(w *world) { w.boot() }},
		{name: "nothing there at all", do: func(w *world) { must(t, os.RemoveAll(w.root)) }},
		{name: "only the running one", do: func(w *world) { w.add(running, true); w.boot() }},
		{name: "newer, by number and not by letter", do: func(w *world) { w.add(running, true); w.boot(); w.add("6.1.0-10-amd64", true) },
			want: []string{"linux-image-6.1.0-10-amd64"}},
		{name: "newer, built by hand", do: func(w *world) { w.add(running, true); w.boot(); w.add("6.2-amd64", false) }, want: []string{"linux 6.2-amd64"}},
		{name: "two newer ones", do: func(w *world) {
			w.add(running, true)
			w.boot()
			w.add("6.1.0-10-amd64", true)
			w.add("6.12.48+deb13-amd64", true)
		}, want: []string{"linux-image-6.1.0-10-amd64", "linux-image-6.12.48+deb13-amd64"}},
		{name: "older", do: func(w *world) { w.add(running, true); w.boot(); w.add("6.1.0-8-amd64", true) }},
		{name: "of another flavour", do: func(w *world) { w.add(running, true); w.boot(); w.add("6.12.0-1-cloud-amd64", true) }},
		{name: "newer, but there before the boot", do: func(w *world) { w.add(running, true); w.add("6.1.0-10-amd64", true); w.boot() },
			note: "6.1.0-10-amd64 is newer than the running 6.1.0-9-amd64, but was installed before the boot"},
		{name: "the running one anew", do: func(w *world) { w.add(running, true); w.boot(); w.add(running, true) },
			want: []string{"linux-image-6.1.0-9-amd64 (installed anew)"}},
		{name: "the running one removed", do: func(w *world) {
			w.add(running, true)
			w.add("6.1.0-8-amd64", true)
			must(t, os.Mkdir(w.root+"/lib/modules/"+running, 0o755))
			w.boot()
			must(t, os.Remove(w.root+"/boot/vmlinuz-"+running))
			must(t, os.Remove(w.root+"/lib/modules/"+running))
		}, want: []string{"linux-image-6.1.0-9-amd64 (running, but removed)"}},
		{name: "the running one was never here", do: func(w *world) { w.add("6.1.0-8-amd64", true); w.boot() },
			note: "the running 6.1.0-9-amd64 is not installed here"},
		{name: "copies, rescue images, modules without a kernel, broken links", do: func(w *world) {
			w.add(running, true)
			w.boot()
			for _, name := range []string{"9.1.0-1-amd64.dpkg-new", "9.1.0-1-amd64.old", "9.1.0-1-amd64~", "0-rescue-amd64", "", "cd", "9 9-amd64"} {
				w.add(name, false)
			}
			must(t, os.Mkdir(w.root+"/lib/modules/9.9.0-1-amd64", 0o755))
			must(t, os.Symlink("nowhere", w.root+"/boot/vmlinuz-9.8.0-1-amd64"))
		}},
		{name: "image among the modules", do: func(w *world) {
			w.add(running, true)
			w.boot()
			must(t, os.Mkdir(w.root+"/lib/modules/6.1.0-11-amd64", 0o755))
			must(t, os.WriteFile(w.root+"/lib/modules/6.1.0-11-amd64/vmlinuz", nil, 0o644))
		}, want: []string{"linux 6.1.0-11-amd64"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, running)
			test.do(w)
			got, err := w.k.Check()
			slices.Sort(got.Reasons)
			if err != nil || got.Wanted != (len(test.want) > 0) || !slices.Equal(got.Reasons, test.want) {
				t.Errorf("got %+v, %v, want %q", got, err, test.want)
			}
			if note := strings.Join(w.told, "\n"); (note == "") != (test.note == "") || !strings.Contains(note, test.note) {
				t.Errorf("notes %q, want %q", note, test.note)
			}
		})
	}
	w := newWorld(t, running)
	must(t, os.Remove(w.root+"/boot"))
	must(t, os.WriteFile(w.root+"/boot", nil, 0o644))
	if _, err := w.k.Check(); err == nil || !strings.Contains(err.Error(), "look for kernels") {
		t.Errorf("a directory that cannot be read: %v", err)
	}
}

func TestBootTime(t *testing.T) {
	proc := t.TempDir()
	must(t, os.Mkdir(proc+"/1", 0o755))
	must(t, os.WriteFile(proc+"/stat", []byte("cpu  1 2\nbtime 1700000000\nprocesses 5\n"), 0o644))
	must(t, os.WriteFile(proc+"/1/stat", fmt.Appendf(nil, "1 (a) b (c)) S 0 1 1 0 -1 4194560 %s 12345 1 2\n", strings.Repeat("7 ", 12)), 0o644))
	if got, err := bootTime(proc); err != nil || !got.Equal(time.Unix(1700000123, 450e6)) {
		t.Errorf("got %v, %v", got.UnixMilli(), err)
	}
	must(t, os.WriteFile(proc+"/1/stat", []byte("1 (a) S 0\n"), 0o644))
	if _, err := bootTime(proc); err == nil {
		t.Error("a line that is cut short is believed")
	}
	if got, err := bootTime("/proc"); err != nil || got.After(time.Now()) || got.Before(time.Unix(1e9, 0)) {
		t.Errorf("of this machine: %v, %v", got, err)
	}
}
