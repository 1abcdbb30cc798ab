package explain

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/kured-host/kured/internal/status"
)

// maxText bounds a sentence, in characters: details carry texts of others.
const maxText = 600

// plain makes a sentence fit for a terminal, whatever others wrote into it.
func plain(text string) string { return status.Clean(text, maxText) }

// facts is what is in the way, with the names, numbers and times of the moment;
// "" where nothing more is known than what the reason means.
func (e *explainer) facts(g status.GateState) string {
	switch detail := e.told(g.Detail); g.Reason {
	case status.OutsideWindow:
		if g.Next != nil {
			return "outside the windows; the window opens " + e.at(*g.Next)
		}
		return detail
	case status.LockFull, status.BehindOthers:
		if q := e.s.Queue; q != nil && q.Place > 0 && len(q.Ahead) > 0 {
			return e.place(*q)
		}
		return detail
	default:
		if lead := lead(g.Reason); lead != "" && detail != "" {
			return lead + ": " + detail
		}
		return detail
	}
}

// lead begins the sentence of a reason whose detail does not say by itself what
// it is about: it names only who or what it is, or is the error of whoever was asked.
func lead(r status.Reason) string {
	switch r {
	case status.SentinelUnreadable:
		return "nobody knows whether a reboot is wanted"
	case status.Inhibited:
		return "a block inhibitor is held"
	case status.LogindUnavailable:
		return "logind cannot be asked"
	case status.BudgetUnreadable:
		return "the reboots of the last day are not known"
	case status.AlertsFiring:
		return "alerts are active"
	case status.DrainBlocked:
		return "the drain could not end now"
	case status.NodesUnreadable:
		return "the nodes of the pool cannot be listed"
	case status.TooFewReady:
		return "too few nodes would be left"
	case status.APIUnreachable:
		return "the API server does not answer"
	case status.APIForbidden:
		return "the API server does not allow it"
	case status.APIRefused:
		return "the API server does not accept it"
	case status.NoCredential:
		return "no credential for the API server can be used"
	case status.HookFailed:
		return "a hook has failed"
	case status.RebootRefused:
		return "logind refuses the reboot"
	case status.RebootUnknown:
		return "nobody knows whether the machine goes down"
	case status.RebootCancelled:
		return "the reboot was called off"
	case status.NotReady:
		return "the node is not Ready in this boot yet"
	case status.PodsNotReady:
		return "pods of DaemonSets are not Ready yet"
	case status.GaveUp:
		return "the node was not well in time"
	case status.Settling:
		return "the node has to stay Ready for a while"
	}
	return ""
}

// place is where this node stands in the queue, and behind whom: "place 4 of 9
// behind node-a (draining, holds the lock for 3 m), node-b and node-c".
func (e *explainer) place(q status.Queue) string {
	const most = 4
	var names []string
	for i, h := range q.Ahead {
		if more := len(q.Ahead) - i; i >= most-1 && more > 1 {
			names = append(names, fmt.Sprintf("%d more", more))
			break
		}
		name := h.Node
		if h.Phase != status.Queued {
			name += fmt.Sprintf(" (%s, holds the lock for %s)", h.Phase, Span(e.now.Sub(h.Since)))
		}
		names = append(names, name)
	}
	who := strings.Join(names, ", ")
	if n := len(names); n > 1 {
		who = strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	text := fmt.Sprintf("place %d of %d behind %s", q.Place, max(q.Place, q.Waiting), who)
	if q.Limit > 0 {
		text += fmt.Sprintf("; %d allowed at a time", q.Limit)
	}
	return text
}

// pattern compiles an expression when it is used first. The daemon has this
// package too, and explains nothing before somebody asks.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// command is what stands in double quotes in a Help.
var command = pattern(`"[^"]*"`)

// placeholder is a word of a command that stands for something known here.
var placeholder = pattern(`\b(NODE|HOLDER)\b`)

// fill puts the names of the moment into the commands of a Help. Help speaks of
// kured why, too; here it is the sentence itself that tells.
func (e *explainer) fill(reason status.Reason, do string) string {
	do = command().ReplaceAllStringFunc(do, func(text string) string {
		if text == `"kured why"` {
			return "the line above"
		}
		return placeholder().ReplaceAllStringFunc(text, func(word string) string {
			if name := e.named(reason, word); name != "" {
				return name
			}
			return word
		})
	})
	if rest, ok := strings.CutPrefix(do, "the line above"); ok {
		do = "The line above" + rest
	}
	return strings.ReplaceAll(do, ". the line above", ". The line above")
}

// named is what a placeholder stands for, "" if that is not known: NODE is this
// node, HOLDER the one that holds the lock. With several nobody here can say which
// of them is meant.
func (e *explainer) named(reason status.Reason, word string) string {
	q := e.s.Queue
	switch {
	case word == "NODE":
		return shellName(e.s.Node)
	case reason == status.LockUnreadable: // the lock's list names it
	case q != nil && len(q.Holders) == 1:
		return shellName(q.Holders[0])
	}
	return ""
}

// shellWord is what a person may paste into a shell without a second thought:
// the names of Kubernetes are of this form.
var shellWord = pattern(`^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$`)

func shellName(name string) string {
	if shellWord().MatchString(name) {
		return name
	}
	return ""
}

// The forms of drain.HeldPod's text.
var (
	heldPod    = pattern(`^pod ([-.a-z0-9]+)/([-.a-z0-9]+) `)
	heldBudget = pattern(`^pod \S+ held by PodDisruptionBudget ([-.a-z0-9]+)/([-.a-z0-9]+)(?::|$)`)
)

// podCommand is what shows why a pod holds up a drain.
func podCommand(held string) string {
	if m := heldBudget().FindStringSubmatch(held); m != nil && shellName(m[1]) != "" && shellName(m[2]) != "" {
		return fmt.Sprintf(`"kubectl -n %s describe pdb %s" shows what it asks for: more healthy pods, or a budget that allows one to leave, let it go.`, m[1], m[2])
	}
	if m := heldPod().FindStringSubmatch(held); m != nil && shellName(m[1]) != "" && shellName(m[2]) != "" {
		return fmt.Sprintf(`"kubectl -n %s describe pod %s" shows more.`, m[1], m[2])
	}
	return `"kured plan" shows all pods and what holds them.`
}
