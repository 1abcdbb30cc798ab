//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// says is what `kured status` answers on a node.
func (s *story) says(ctx context.Context, n *nodes.Node) (status.Status, error) {
	out, err := answer(ctx, n, "kured", "status", "--output=json")
	if err != nil {
		return status.Status{}, err
	}
	var now status.Status
	err = json.Unmarshal([]byte(out), &now)
	return now, err
}

// answer is what a command writes whose exit code may be the state of kured.
func answer(ctx context.Context, n *nodes.Node, line ...string) (string, error) {
	out, err := n.Exec(ctx, line...)
	if exit, ok := errors.AsType[*nodes.ExitError](err); ok && exit.Result == "exit-code" && exit.Code >= 1 && exit.Code <= 4 {
		return exit.Stdout, nil
	}
	return out, err
}

// awaitSays waits until `kured status` shows a phase with a reason on a node.
func (s *story) awaitSays(n *nodes.Node, phase status.Phase, reason status.Reason) status.Status {
	s.t.Helper()
	return s.awaitStatus(n, fmt.Sprintf("%s to be %s %s", n.Name, phase, reason), func(now status.Status) bool {
		return now.Phase == phase && now.Reason == reason
	})
}

// awaitStatus waits until `kured status` shows something on a node.
func (s *story) awaitStatus(n *nodes.Node, what string, ok func(status.Status) bool) status.Status {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, time.Minute, what)
	defer cancel()
	var now status.Status
	var failure error
	err := nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		answer, err := s.says(ctx, n)
		if failure = err; err != nil {
			return false, nil
		}
		now = answer
		return ok(now), nil
	})
	if err != nil {
		s.t.Fatalf("%v; kured status on %s was %q (%s) last, its last error: %v", err, n.Name, now.Line(), now.Reason, failure)
	}
	return now
}

// statusText is the line that `systemctl status kured` shows.
func (s *story) statusText(n *nodes.Node) string {
	s.t.Helper()
	var text string
	s.must(n.UnitProperty(s.ctx, "kured.service", "StatusText", &text))
	return text
}

// awaitTold waits until the journal of a node has an entry with a reason, and
// returns the first.
func (s *story) awaitTold(n *nodes.Node, reason status.Reason) nodes.Entry {
	s.t.Helper()
	return s.awaitEntry(n, "an entry with reason "+string(reason), func(e nodes.Entry) bool {
		return e.Fields["KURED_REASON"] == string(reason)
	})
}

// awaitEntry waits for an entry of kured's in the journal of a node, and
// returns the first.
func (s *story) awaitEntry(n *nodes.Node, what string, ok func(nodes.Entry) bool) nodes.Entry {
	s.t.Helper()
	ctx, cancel := cluster.Within(s.ctx, time.Minute, n.Name+": "+what)
	defer cancel()
	var found nodes.Entry
	s.must(nodes.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		entries := s.journal(n, "")
		i := slices.IndexFunc(entries, ok)
		if i >= 0 {
			found = entries[i]
		}
		return i >= 0, nil
	}))
	return found
}

// isReboot tells whether an entry says that logind is asked to reboot.
func isReboot(e nodes.Entry) bool {
	return e.Fields["KURED_PHASE"] == string(status.Rebooting) && strings.HasPrefix(e.Message, "rebooting: everything checked")
}

// toldNoSuccess fails the test if, in one boot of a node, kured told that the
// node has rebooted or is back.
func (s *story) toldNoSuccess(n *nodes.Node, bootID string) {
	s.t.Helper()
	for _, e := range s.journal(n, bootID) {
		if e.Fields["KURED_PHASE"] == string(status.Returning) || strings.Contains(e.Message, "boot id changed") ||
			strings.Contains(e.Message, "back in service") {
			s.t.Errorf("%s did not reboot, and the journal tells: %s", n.Name, e.Message)
		}
	}
}

// awaitBack waits until a node has rebooted and given back what it held.
func (s *story) awaitBack(from cluster.Position, n *nodes.Node, before string) cluster.Position {
	s.t.Helper()
	return s.await(from, n.Name+" back from its reboot", func(c cluster.State) bool {
		return c.BootID(n.Name) != before && c.IsReady(n.Name) && !c.Holds(n.Name) && c.Mark(n.Name) == ""
	})
}

// awaitGivenBack waits until a node that held the lock holds it no more, is
// uncordoned, and still in its boot.
func (s *story) awaitGivenBack(from cluster.Position, n *nodes.Node, boot string) cluster.Position {
	s.t.Helper()
	from = s.await(from, n.Name+" to hold", func(c cluster.State) bool { return c.Holds(n.Name) })
	at := s.await(from, n.Name+" rolled back", func(c cluster.State) bool {
		return !c.Holds(n.Name) && c.Mark(n.Name) == "" && !c.IsCordoned(n.Name)
	})
	if now, err := n.BootID(); err != nil || now != boot {
		s.t.Fatalf("%s was rolled back, and its boot id is %s, %v; it was %s", n.Name, now, err, boot)
	}
	return at
}

// rebootedOnce fails the test unless just the given nodes rebooted since the
// story began, each once, and never two held the lock.
func (s *story) rebootedOnce(before map[string]string, rebooted ...*nodes.Node) {
	s.t.Helper()
	h, now := s.history(), s.bootIDs()
	if n := h.MaxHolders(); n != 1 {
		s.t.Errorf("at most %d holders at once, want 1", n)
	}
	for _, n := range s.Room.Nodes() {
		want := []string{before[n.Name]}
		if slices.Contains(rebooted, n) {
			want = append(want, now[n.Name])
		}
		if got := h.BootIDs(n.Name); !slices.Equal(got, want) || now[n.Name] != want[len(want)-1] {
			s.t.Errorf("%s: boot ids %v, now %s; want %v", n.Name, got, now[n.Name], want)
		}
	}
}

// spansOf are those of one node.
func spansOf(n *nodes.Node, all []cluster.Span) []cluster.Span {
	return slices.DeleteFunc(all, func(span cluster.Span) bool { return span.Node != n.Name })
}

// afterwards undoes something at the end of the story, passed or failed, so
// that it does not disturb the next one.
func (s *story) afterwards(what string, undo func(context.Context) error) {
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
		defer cancel()
		if err := undo(ctx); err != nil {
			s.t.Errorf("%s: %v", what, err)
		}
	})
}

// want asks nodes for a reboot until the end of the story.
func (s *story) want(all ...*nodes.Node) {
	s.t.Helper()
	s.afterwards("remove the sentinel", func(context.Context) error { return cluster.Unwant(all...) })
	s.must(cluster.Want(all...))
}

// deploy runs a workload until the end of the story.
func (s *story) deploy(w cluster.Workload) {
	s.t.Helper()
	s.must(s.Deploy(s.ctx, w))
	s.afterwards("undeploy "+w.Name, func(ctx context.Context) error { return s.Undeploy(ctx, w) })
}

// configure changes values of the configuration on a node, given as pairs of
// old and new lines, until the end of the story.
func (s *story) configure(n *nodes.Node, pairs ...string) {
	s.t.Helper()
	text := strings.NewReplacer(pairs...).Replace(cluster.QuickConfig)
	for i := 1; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			s.t.Fatalf("the configuration has no %s", pairs[i-1])
		}
	}
	s.afterwards("configure "+n.Name, func(ctx context.Context) error { return s.Configure(ctx, n, cluster.QuickConfig) })
	s.must(s.Configure(s.ctx, n, text))
}

// contains fails the test unless text has all the parts.
func contains(t *testing.T, where, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not mention %q: %s", where, part, text)
		}
	}
}
