package doctor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kured-host/kured/internal/logind"
)

// Logind checks that logind answers and would reboot this machine in the
// configured way.
func Logind(ctx context.Context, login logind.Manager, method logind.Method) []Finding {
	const remedy = "systemctl status systemd-logind.service dbus.socket; run kured doctor as root"
	answer, err := login.CanReboot(ctx)
	if err != nil {
		return one(fail(remedy, "%v", err))
	}
	found := one(canReboot(answer))
	if err := login.Supports(ctx, method); err != nil {
		var unsupported *logind.UnsupportedError
		if errors.As(err, &unsupported) {
			return append(found, fail(`set method = "reboot" in [reboot] of /etc/kured/kured.toml`, "%v", err))
		}
		return append(found, warn(remedy, "whether reboot.method %q can be used is not known: %v", method, err))
	}
	return found
}

func canReboot(answer string) Finding {
	switch {
	case answer == "yes":
		return ok("logind would reboot this machine")
	case answer == "na":
		return fail("see systemctl status reboot.target", "logind says that this machine cannot be rebooted (CanReboot: na)")
	case strings.Contains(answer, "inhibit"):
		return ok("logind would reboot this machine once nobody inhibits it (CanReboot: %s; systemd-inhibit --list)", answer)
	case answer == "challenge":
		return warn("run kured doctor as root, as the daemon runs", "logind wants a person to confirm a reboot (CanReboot: challenge)")
	}
	return fail("run kured doctor as root; see the rules of polkit", "logind does not let us reboot this machine (CanReboot: %s)", answer)
}

// KubeletConfigs are the places of the kubelet's configuration.
func KubeletConfigs() []string {
	return []string{"/var/lib/kubelet/config.yaml", "/etc/kubernetes/kubelet-config.yaml", "/etc/kubernetes/kubelet/kubelet-config.json", "/etc/kubernetes/kubelet/config.json"}
}

// Delay compares how long logind lets the kubelet hold back a shutdown with how
// long the kubelet wants that for the pods that are left.
func (m Machine) Delay(ctx context.Context, login logind.Manager) []Finding {
	limit, err := login.InhibitDelayMax(ctx)
	if err != nil {
		return one(warn("systemctl status systemd-logind.service", "how long logind lets a shutdown be delayed is not known: %v", err))
	}
	path, text, err := m.first(KubeletConfigs()...)
	if err != nil {
		return one(warn("run kured doctor as root", "shutdownGracePeriod of the kubelet cannot be read: %v", err))
	}
	if path == "" {
		return one(ok("logind lets a shutdown be delayed for %s; no configuration of a kubelet is in its usual places", span(limit)))
	}
	wanted, err := gracePeriod(text)
	if err != nil {
		return one(warn("see whether the kubelet starts with it", "%s: shutdownGracePeriod: %v", path, err))
	}
	return one(delay(limit, wanted, path))
}

func delay(limit, wanted time.Duration, path string) Finding {
	switch {
	case wanted == 0:
		return ok("the kubelet does not delay a shutdown (shutdownGracePeriod in %s)", path)
	case limit < wanted:
		return warn(fmt.Sprintf("set InhibitDelayMaxSec=%d in /etc/systemd/logind.conf.d/kured.conf and restart systemd-logind, then the kubelet", int64(math.Ceil(wanted.Seconds()))),
			"the kubelet wants %s for the pods that are left at a shutdown (%s), but logind gives it %s: they are killed", span(wanted), path, span(limit))
	}
	return ok("logind lets a shutdown be delayed for %s, the kubelet needs %s", span(limit), span(wanted))
}

func span(d time.Duration) string {
	if d == math.MaxInt64 {
		return "ever"
	}
	return d.String()
}

// gracePeriod is how long a kubelet with this configuration holds back a
// shutdown (KubeletConfiguration, kubelet.config.k8s.io/v1beta1).
func gracePeriod(text string) (time.Duration, error) {
	var c struct {
		ShutdownGracePeriod              string
		ShutdownGracePeriodByPodPriority []struct{ ShutdownGracePeriodSeconds int64 }
	}
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		return 0, errors.New("not the YAML of a kubelet's configuration")
	}
	var total time.Duration
	for _, p := range c.ShutdownGracePeriodByPodPriority {
		const most = 365 * 24 * 3600 // seconds
		if p.ShutdownGracePeriodSeconds < 0 || p.ShutdownGracePeriodSeconds > most || total > most*time.Second {
			return 0, fmt.Errorf("%d seconds make no sense", p.ShutdownGracePeriodSeconds)
		}
		total += time.Duration(p.ShutdownGracePeriodSeconds) * time.Second
	}
	if c.ShutdownGracePeriod == "" || total > 0 {
		return total, nil
	}
	wanted, err := time.ParseDuration(c.ShutdownGracePeriod)
	if err == nil && wanted < 0 {
		err = fmt.Errorf("%s makes no sense", wanted)
	}
	return wanted, err
}
