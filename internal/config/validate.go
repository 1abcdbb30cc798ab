package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits that are not obvious from the keys.
const (
	maxSettle      = Duration(time.Minute)
	maxWaitingRoom = 16   // keeps the lock object within its 4 KB
	maxNodes       = 9999 // what the lock's entries have room for
	maxPriority    = 9999 // the same
	second         = Duration(time.Second)
)

// Validate returns every value that cannot be used, without file and line.
func (c Config) Validate() []Problem {
	var problems []Problem
	for _, f := range c.check() {
		problems = append(problems, Problem{Key: f.at.String(), Message: f.message})
	}
	return problems
}

// check finds every value that cannot be used.
func (c Config) check() []finding {
	var v validator
	if p := c.Kubernetes.Kubeconfig; p != "" && !absolute(p) {
		v.add(at("kubernetes", "kubeconfig"), "%q is not an absolute path of a file (or empty to search the kubelet's places)", p)
	}
	if n := c.Kubernetes.NodeName; n != "" {
		v.name(at("kubernetes", "node_name"), n, validation.IsDNS1123Subdomain)
	}
	v.paths(at("sentinel", "paths"), c.Sentinel.Paths)
	if d := c.Sentinel.Settle; d < 0 || d > maxSettle {
		v.add(at("sentinel", "settle"), "%q is out of range, expected \"0s\" to %q", d, maxSettle)
	}
	v.name(at("lock", "namespace"), c.Lock.Namespace, validation.IsDNS1123Label)
	v.name(at("lock", "name"), c.Lock.Name, validation.IsDNS1123Subdomain)
	v.lock(c.Lock)
	// Zero would end every drain before its first eviction; "no limit" would
	// let one pod hold the lock for ever.
	v.atLeastSecond(at("drain", "timeout"), c.Drain.Timeout)
	// The API takes whole seconds: "500ms" would become 0, which kills at once.
	if d := c.Drain.GracePeriod; d > 0 && d%second != 0 {
		v.add(at("drain", "grace_period"), "%q is not in whole seconds", d)
	}
	v.atLeast(at("reboot", "max_per_day"), c.Reboot.MaxPerDay, 1)
	v.atLeastSecond(at("reboot", "confirm_within"), c.Reboot.ConfirmWithin)
	v.atLeastSecond(at("retry", "initial"), c.Retry.Initial)
	if c.Retry.Max < c.Retry.Initial {
		v.clash(at("retry", "initial"), at("retry", "max"), "%q is less than retry.initial, which is %q", c.Retry.Max, c.Retry.Initial)
	}
	v.oneOf(at("log", "level"), c.Log.Level, LogLevels())
	v.oneOf(at("log", "format"), c.Log.Format, LogFormats())
	return v.found
}

// lock checks what [lock] says beyond the object's name.
func (v *validator) lock(l Lock) {
	if p := l.Policy; p != "" {
		v.name(at("lock", "policy"), p, validation.IsDNS1123Subdomain)
		if p == l.Name {
			v.clash(at("lock", "name"), at("lock", "policy"), "%q is the lock itself, expected another ConfigMap", p)
		}
	}
	if s := l.NodeSelector; s != "" {
		if _, err := labels.Parse(s); err != nil {
			v.add(at("lock", "node_selector"), "%s is not a label selector: %s", strings.TrimSpace(show(s)), oneLine(strings.TrimPrefix(err.Error(), "unable to parse requirement: ")))
		}
	}
	v.share(at("lock", "max_concurrent"), l.MaxConcurrent, 1, "")
	v.share(at("lock", "min_ready"), l.MinReady, 0, Quorum)
	if k := l.TopologyKey; k != "" {
		v.name(at("lock", "topology_key"), k, content.IsLabelKey)
	}
	v.between(at("lock", "waiting_room"), l.WaitingRoom, 1, maxWaitingRoom)
	v.between(at("lock", "priority"), l.Priority, -maxPriority, maxPriority)
}

type validator struct{ found []finding }

func (v *validator) add(p place, format string, args ...any) {
	v.found = append(v.found, finding{at: p, message: fmt.Sprintf(format, args...)})
}

// clash is add for a value of p that does not go with that of other.
func (v *validator) clash(other, p place, format string, args ...any) {
	v.found = append(v.found, finding{at: p, message: fmt.Sprintf(format, args...), with: []place{other}})
}

func (v *validator) between(p place, n, least, most int) {
	if n < least || n > most {
		v.add(p, "%d is out of range, expected %d to %d", n, least, most)
	}
}

// percent is a share of the pool without sign and leading zeros.
var percent = regexp.MustCompile(`^(0|[1-9][0-9]?|100)%$`)

// share checks a number of nodes, or a share of the pool in percent, from
// least on, or a word.
func (v *validator) share(p place, n intstr.IntOrString, least int, word string) {
	expected := fmt.Sprintf("%d to %d, or \"%d%%\" to \"100%%\"", least, maxNodes, least)
	if word != "" {
		expected += fmt.Sprintf(", or %q", word)
	}
	switch {
	case n.Type == intstr.Int:
		if i := int(n.IntVal); i < least || i > maxNodes {
			v.add(p, "%d is out of range, expected %s", i, expected)
		}
	case word != "" && n.StrVal == word:
	case !percent.MatchString(n.StrVal):
		if _, err := strconv.Atoi(n.StrVal); err == nil {
			expected = "a number without quotes: " + expected
		}
		v.add(p, "%q is not known, expected %s", n.StrVal, expected)
	case least > 0 && n.StrVal == "0%":
		v.add(p, "%q is out of range, expected %s", n.StrVal, expected)
	}
}

func (v *validator) atLeast(p place, n, least int) {
	if n < least {
		v.add(p, "%d is too small, expected %d or more", n, least)
	}
}

func (v *validator) atLeastSecond(p place, d Duration) {
	if d < second {
		v.add(p, "%q is too short, expected %q or more", d, second)
	}
}

func (v *validator) name(p place, name string, check func(string) []string) {
	if wrong := check(name); len(wrong) > 0 {
		for i := range wrong {
			wrong[i], _, _ = strings.Cut(wrong[i], " (e.g. ") // the regular expression helps nobody
		}
		v.add(p, "%q is not a name that Kubernetes accepts: %s", name, strings.Join(wrong, "; "))
	}
}

func (v *validator) oneOf(p place, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		v.add(p, "%q is not known, expected %s", value, list(allowed))
	}
}

func (v *validator) paths(p place, paths []string) {
	if len(paths) == 0 {
		v.add(p, "the list is empty, expected at least one path")
	}
	seen := map[string]bool{}
	for _, path := range paths {
		if !absolute(path) {
			v.add(p, "%q is not an absolute path of a file", path)
			continue
		}
		if clean := filepath.Clean(path); seen[clean] {
			v.add(p, "%q is listed twice", path)
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
