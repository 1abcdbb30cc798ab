package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits that are not obvious from the keys.
const (
	maxSettle      = Duration(time.Minute)
	maxWaitingRoom = 64 // keeps the lock object within its 4 KB
	second         = Duration(time.Second)
)

// Validate returns every value that cannot be used, without file and line.
func (c Config) Validate() []Problem {
	var v validator
	if p := c.Kubernetes.Kubeconfig; p != "" && !absolute(p) {
		v.add("kubernetes.kubeconfig", "%q is not an absolute path of a file (or empty to search the kubelet's places)", p)
	}
	if n := c.Kubernetes.NodeName; n != "" {
		v.name("kubernetes.node_name", n, validation.IsDNS1123Subdomain)
	}
	v.paths("sentinel.paths", c.Sentinel.Paths)
	if d := c.Sentinel.Settle; d < 0 || d > maxSettle {
		v.add("sentinel.settle", "%q is out of range, expected \"0s\" to %q", d, maxSettle)
	}
	v.name("lock.namespace", c.Lock.Namespace, validation.IsDNS1123Label)
	v.name("lock.name", c.Lock.Name, validation.IsDNS1123Subdomain)
	v.atLeast("lock.max_concurrent", c.Lock.MaxConcurrent, 1)
	if n := c.Lock.WaitingRoom; n < 1 || n > maxWaitingRoom {
		v.add("lock.waiting_room", "%d is out of range, expected 1 to %d", n, maxWaitingRoom)
	}
	// Zero would end every drain before its first eviction; "no limit" would
	// let one pod hold the lock for ever.
	v.atLeastSecond("drain.timeout", c.Drain.Timeout)
	// The API takes whole seconds: "500ms" would become 0, which kills at once.
	if d := c.Drain.GracePeriod; d > 0 && d%second != 0 {
		v.add("drain.grace_period", "%q is not in whole seconds", d)
	}
	v.atLeast("reboot.max_per_day", c.Reboot.MaxPerDay, 1)
	v.atLeastSecond("reboot.confirm_within", c.Reboot.ConfirmWithin)
	v.atLeastSecond("retry.initial", c.Retry.Initial)
	if c.Retry.Max < c.Retry.Initial {
		v.add("retry.max", "%q is less than retry.initial, which is %q", c.Retry.Max, c.Retry.Initial)
	}
	v.oneOf("log.level", c.Log.Level, LogLevels())
	v.oneOf("log.format", c.Log.Format, LogFormats())
	return v.problems
}

type validator struct{ problems []Problem }

func (v *validator) add(key, format string, args ...any) {
	v.problems = append(v.problems, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (v *validator) atLeast(key string, n, least int) {
	if n < least {
		v.add(key, "%d is too small, expected %d or more", n, least)
	}
}

func (v *validator) atLeastSecond(key string, d Duration) {
	if d < second {
		v.add(key, "%q is too short, expected %q or more", d, second)
	}
}

func (v *validator) name(key, name string, check func(string) []string) {
	if wrong := check(name); len(wrong) > 0 {
		for i := range wrong {
			wrong[i], _, _ = strings.Cut(wrong[i], " (e.g. ") // the regular expression helps nobody
		}
		v.add(key, "%q is not a name that Kubernetes accepts: %s", name, strings.Join(wrong, "; "))
	}
}

func (v *validator) oneOf(key, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		v.add(key, "%q is not known, expected %s", value, list(allowed))
	}
}

func (v *validator) paths(key string, paths []string) {
	if len(paths) == 0 {
		v.add(key, "the list is empty, expected at least one path")
	}
	seen := map[string]bool{}
	for _, p := range paths {
		if !absolute(p) {
			v.add(key, "%q is not an absolute path of a file", p)
			continue
		}
		if clean := filepath.Clean(p); seen[clean] {
			v.add(key, "%q is listed twice", p)
		} else {
			seen[clean] = true
		}
	}
}

// absolute reports whether p can name a file from the root.
func absolute(p string) bool {
	return filepath.IsAbs(p) && !strings.HasSuffix(p, "/") && !strings.ContainsAny(p, "\x00\n") &&
		filepath.Base(p) != "." && filepath.Base(p) != ".."
}

// list is `"a", "b" or "c"`.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}
