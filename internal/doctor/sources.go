package doctor

import (
	"slices"
	"strings"

	"github.com/kured-host/kured/internal/status"
)

// Paths at which sentinels appear.
const (
	debianSentinel  = "/run/reboot-required"
	zypperSentinel  = "/run/reboot-needed"
	sentinelOfUnits = "/run/kured-sentinel/"
)

// source is something that makes a sentinel.
type source struct {
	name     string
	sentinel string
}

// Sources checks that something on this machine makes a sentinel, that kured
// looks at it, and that what makes it can. paths are those of sentinel.paths.
func (m Machine) Sources(paths []string) []Finding {
	name, remedy := m.distribution()
	sources := m.sources()
	var found []Finding
	for _, s := range sources {
		if !slices.Contains(paths, s.sentinel) {
			found = append(found, warn("add it to sentinel.paths in /etc/kured/kured.toml", "%s makes %s, but sentinel.paths does not have it", s.name, s.sentinel))
		}
	}
	watched := slices.ContainsFunc(sources, func(s source) bool { return slices.Contains(paths, s.sentinel) })
	own := slices.ContainsFunc(paths, func(path string) bool {
		return path != debianSentinel && path != zypperSentinel && !strings.HasPrefix(path, sentinelOfUnits)
	})
	switch {
	case watched:
		var names []string
		for _, s := range sources {
			if slices.Contains(paths, s.sentinel) {
				names = append(names, s.name)
			}
		}
		found = append([]Finding{ok("%s: a reboot is asked for by %s", name, strings.Join(names, ", "))}, found...)
	case own:
		found = append(found, ok("%s: nothing that is known asks for a reboot; sentinel.paths has files of yours", name))
	default:
		found = append(found, warn(remedy, "%s: nothing that is known asks for a reboot on this machine", name))
	}
	if m.enabled("kured-needs-restarting.path") && !m.exists("/usr/bin/needs-restarting", "/usr/bin/dnf", "/usr/bin/dnf5") {
		found = append(found, fail("dnf install dnf-utils", "kured-needs-restarting.path is enabled, but needs-restarting is not installed"))
	}
	if m.enabled("kured-sentinel-command.path") || m.enabled("kured-sentinel-command.timer") {
		if !m.exists("/etc/kured/sentinel-command") && !m.exists("/etc/systemd/system/kured-sentinel-command.service.d") {
			found = append(found, fail("put the command there, or name another one with systemctl edit kured-sentinel-command.service",
				"kured-sentinel-command is enabled, but there is no /etc/kured/sentinel-command"))
		}
	}
	return found
}

// sources are what makes a sentinel here. unattended-upgrades,
// update-notifier-common and reboot-notifier bring a hook for kernels, the last
// two also the program that the maintainer scripts of libraries call;
// needrestart makes no file. libzypp makes its file after packages that are
// marked so.
func (m Machine) sources() []source {
	var all []source
	for _, hook := range []struct{ path, name string }{
		{"/etc/kernel/postinst.d/update-notifier", "update-notifier-common"},
		{"/etc/kernel/postinst.d/unattended-upgrades", "unattended-upgrades"},
		{"/etc/kernel/postinst.d/reboot-notifier", "reboot-notifier"},
	} {
		if m.exists(hook.path) {
			all = append(all, source{hook.name, debianSentinel})
		}
	}
	if len(all) == 0 && m.exists("/usr/share/update-notifier/notify-reboot-required") {
		all = append(all, source{"/usr/share/update-notifier/notify-reboot-required", debianSentinel})
	}
	if m.exists("/usr/bin/zypper") {
		all = append(all, source{"zypper", zypperSentinel})
	}
	if m.enabled("transactional-update.timer") && m.transactionalMethod() == "kured" {
		all = append(all, source{"transactional-update", debianSentinel})
	}
	for _, unit := range []struct{ name, sentinel string }{
		{"kured-kernel.path", "kernel"},
		{"kured-needs-restarting.path", "needs-restarting"},
		{"kured-sentinel-command.path", "command"},
		{"kured-sentinel-command.timer", "command"},
	} {
		if m.enabled(unit.name) {
			all = append(all, source{unit.name, sentinelOfUnits + unit.sentinel})
		}
	}
	return all
}

// distribution names this one, by os-release(5), and says how something comes
// to ask for a reboot on it.
func (m Machine) distribution() (name, remedy string) {
	// Without it nothing is known, and the remedy is the one that fits all.
	_, text, _ := m.first("/etc/os-release", "/usr/lib/os-release")
	release := iniSettings(text)
	if name = status.Clean(release["pretty_name"], longest); name == "" {
		name = "a system without os-release"
	}
	is := func(ids ...string) bool {
		return slices.ContainsFunc(strings.Fields(release["id"]+" "+release["id_like"]), func(id string) bool { return slices.Contains(ids, id) })
	}
	const kernel = "systemctl enable --now kured-kernel.path"
	switch {
	case is("ubuntu"):
		remedy = "apt install update-notifier-common, or: " + kernel
	case is("debian"):
		remedy = kernel + ", or apt install unattended-upgrades"
	case is("rhel", "fedora", "centos"):
		remedy = "systemctl enable --now kured-needs-restarting.path"
	default:
		remedy = "systemctl enable --now kured-sentinel-command.path with a command of yours, see kured(8)"
	}
	return name, remedy
}
