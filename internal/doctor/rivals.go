package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Rivals looks for other programs of this machine that reboot it without
// asking for a turn. needrestart is none: it only tells.
func (m Machine) Rivals() []Finding {
	var found []Finding
	for _, look := range []func() []Finding{m.unattendedUpgrades, m.dnfAutomatic, m.transactionalUpdate, m.rebootmgr, m.zincati, m.locksmith} {
		found = append(found, look()...)
	}
	if len(found) == 0 {
		return one(ok("nothing else that is known reboots this machine"))
	}
	return found
}

func rival(who, remedy string) Finding {
	return fail(remedy, "%s reboots this machine without asking for its turn", who)
}

func (m Machine) unattendedUpgrades() []Finding {
	settings := map[string]string{}
	var unreadable []Finding
	read := func(path string) {
		if !m.exists(path) {
			return
		}
		text, err := m.read(path)
		if err != nil {
			unreadable = append(unreadable, warn("run kured doctor as root", "whether unattended-upgrades reboots cannot be read: %v", err))
			return
		}
		aptSettings(text, settings)
	}
	// The order of apt.conf(5). A directory that is not there has no files.
	entries, _ := os.ReadDir(m.path("/etc/apt/apt.conf.d"))
	for _, entry := range entries {
		if aptReads(entry.Name()) {
			read(filepath.Join("/etc/apt/apt.conf.d", entry.Name()))
		}
	}
	read("/etc/apt/apt.conf")
	if !aptTrue(settings["unattended-upgrade::automatic-reboot"]) {
		return unreadable
	}
	const remedy = `set Unattended-Upgrade::Automatic-Reboot "false"; in /etc/apt/apt.conf.d/52kured`
	if !m.exists("/usr/bin/unattended-upgrade", "/usr/bin/unattended-upgrades") {
		return append(unreadable, warn(remedy, "unattended-upgrades is not installed, but would reboot this machine without asking for its turn (Unattended-Upgrade::Automatic-Reboot)"))
	}
	return append(unreadable, rival("unattended-upgrades (Unattended-Upgrade::Automatic-Reboot)", remedy))
}

// aptReads reports whether apt reads a file of this name in apt.conf.d.
func aptReads(name string) bool {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || strings.HasPrefix(name, ".") {
		return false
	}
	end := filepath.Ext(name)
	return end == "" || end == ".conf"
}

func (m Machine) dnfAutomatic() []Finding {
	timers := []string{"dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer"}
	i := slices.IndexFunc(timers, m.enabled)
	if i < 0 {
		return nil
	}
	reboot := "never"
	// What is later counts more; that of dnf5 itself is a default.
	for _, path := range []string{"/usr/share/dnf5/dnf5-plugins/automatic.conf", "/etc/dnf/dnf5-plugins/automatic.conf", "/etc/dnf/automatic.conf"} {
		if !m.exists(path) {
			continue
		}
		text, err := m.read(path)
		if err != nil {
			return one(warn("run kured doctor as root", "whether %s reboots cannot be read: %v", timers[i], err))
		}
		if value, ok := iniSettings(text)["commands.reboot"]; ok {
			reboot = strings.ToLower(value)
		}
	}
	if reboot == "never" || reboot == "" {
		return nil
	}
	return one(rival(fmt.Sprintf("%s (reboot = %s)", timers[i], reboot), "set reboot = never in [commands] of /etc/dnf/automatic.conf"))
}

func (m Machine) transactionalUpdate() []Finding {
	if !m.enabled("transactional-update.timer") {
		return nil
	}
	method := m.transactionalMethod()
	switch method {
	case "kured", "none", "notify":
		return nil
	}
	return one(rival(fmt.Sprintf("transactional-update.timer (REBOOT_METHOD=%s)", method), "set REBOOT_METHOD=kured in /etc/transactional-update.conf"))
}

// transactionalMethod is how transactional-update(8) has the machine rebooted.
func (m Machine) transactionalMethod() string {
	method := "auto"
	for _, path := range []string{"/usr/etc/transactional-update.conf", "/etc/transactional-update.conf"} {
		// Not there or not to be read: the default, at which a rival is told.
		text, _ := m.read(path)
		if value := iniSettings(text)["reboot_method"]; value != "" {
			method = strings.ToLower(value)
		}
	}
	return method
}

func (m Machine) rebootmgr() []Finding {
	if !m.enabled("rebootmgr.service") {
		return nil
	}
	// Where it cannot be read the default counts, which reboots.
	_, text, _ := m.first("/etc/rebootmgr.conf", "/usr/etc/rebootmgr.conf")
	strategy := iniSettings(text)["rebootmgr.strategy"]
	if strategy == "" {
		strategy = "best-effort"
	}
	if strategy == "off" {
		return nil
	}
	return one(rival(fmt.Sprintf("rebootmgr.service (strategy=%s)", strategy), "systemctl disable --now rebootmgr.service"))
}

func (m Machine) zincati() []Finding {
	if !m.enabled("zincati.service") {
		return nil
	}
	enabled := true
	for _, dir := range []string{"/usr/lib/zincati/config.d", "/run/zincati/config.d", "/etc/zincati/config.d"} {
		entries, _ := os.ReadDir(m.path(dir)) // one that is not there has no files
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".toml") {
				continue
			}
			// Its TOML has this one key in this one form; what cannot be read leaves it on.
			text, _ := m.read(filepath.Join(dir, entry.Name()))
			if value, ok := iniSettings(text)["updates.enabled"]; ok {
				enabled = !strings.HasPrefix(value, "false") // a comment may follow
			}
		}
	}
	if !enabled {
		return nil
	}
	return one(rival("zincati.service", "set enabled = false in [updates] of /etc/zincati/config.d/90-kured.toml"))
}

func (m Machine) locksmith() []Finding {
	if !m.enabled("locksmithd.service") {
		return nil
	}
	_, text, _ := m.first("/etc/flatcar/update.conf", "/etc/coreos/update.conf") // else the default, which reboots
	if strings.EqualFold(iniSettings(text)["reboot_strategy"], "off") {
		return nil
	}
	return one(rival("locksmithd.service", "systemctl disable --now locksmithd.service"))
}
