package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// cyclePods are on the node when the cycle begins, beside one of a DaemonSet.
const cyclePods = 10

// wholeCycle counts what kured asks of the API server from the sentinel to the
// daemon's rest after the reboot. requests lists them by kind, in Markdown.
func (s *stage) wholeCycle(ctx context.Context) (figures []figure, requests string, err error) {
	m, err := s.newMachine(ctx, cycleMachine)
	if err != nil {
		return nil, "", err
	}
	defer m.stop()
	if err := s.runPods(ctx, m.name, cyclePods, func(int) map[string]string {
		return map[string]string{standin.StopAfterAnnotation: "500ms"}
	}); err != nil {
		return nil, "", err
	}
	if err := s.runDaemonSetPod(ctx, m.name); err != nil {
		return nil, "", err
	}
	goesDown := make(chan struct{}, 1)
	m.login.OnReboot(func() { goesDown <- struct{}{} })
	if err := m.start(); err != nil {
		return nil, "", err
	}
	if err := m.await(ctx, status.Idle); err != nil {
		return nil, "", err
	}

	began, from := time.Now(), s.witness.next()
	if err := m.want(); err != nil {
		return nil, "", err
	}
	select {
	case <-goesDown:
	case <-time.After(patience):
		return nil, "", fmt.Errorf("no reboot was asked for in %s; kured logged: %s", patience, m.daemon.log.tail())
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
	if err := m.reboot(ctx); err != nil {
		return nil, "", err
	}
	if err := m.await(ctx, status.Idle); err != nil {
		return nil, "", err
	}
	if _, err := s.witness.await(ctx, from, "a holder", func(l lock.State) bool { return len(l.Holders) == 1 }); err != nil {
		return nil, "", err
	}
	if _, err := s.witness.await(ctx, s.witness.latest(), "a free lock", free); err != nil {
		return nil, "", err
	}
	all, err := s.requestsOf(m.name, began)
	if err != nil {
		return nil, "", err
	}
	figures, requests = countCycle(all)
	return figures, requests, nil
}

// reboot is what happens to a machine on which logind has accepted it.
func (m *machine) reboot(ctx context.Context) error {
	m.stop()
	if err := m.unwant(); err != nil { // /run is empty after boot
		return err
	}
	if err := m.node.Reboot(); err != nil {
		return err
	}
	if err := m.login.Restart(); err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	return m.comeBack(ctx)
}

// requestsOf are those of kured, not of the kubelet that has the same credential.
func (s *stage) requestsOf(node string, since time.Time) ([]testenv.Request, error) {
	all, err := s.plane.Requests(testenv.RequestFilter{User: testenv.NodeSubject(node).User, Since: since})
	return slices.DeleteFunc(all, func(r testenv.Request) bool { return !strings.HasPrefix(r.UserAgent, "kured/") }), err
}

// countCycle makes the figures of one cycle of its requests.
func countCycle(all []testenv.Request) ([]figure, string) {
	kinds := map[string]int{}
	writes, evictions := 0, 0
	for _, r := range all {
		resource := r.Resource
		if r.Subresource != "" {
			resource += "/" + r.Subresource
		}
		kinds[r.Verb+" "+resource]++
		switch {
		case r.Subresource == "eviction":
			evictions++
		case strings.Contains(r.URI, "dryRun="): // kured asks whether there is a wall
		case r.Resource == "configmaps" && (r.Verb == "patch" || r.Verb == "update"):
			writes++
		}
	}
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if kinds[a] != kinds[b] {
			return kinds[b] - kinds[a]
		}
		return strings.Compare(a, b)
	})
	var list strings.Builder
	list.WriteString("Requests of that cycle, by kind:")
	for i, name := range names {
		if i > 0 {
			list.WriteString(",")
		}
		fmt.Fprintf(&list, "\n%d %s", kinds[name], name)
	}
	list.WriteString(".\n")
	return []figure{
		atMost("lock writes of a whole cycle", 8, float64(writes), "%.0f"),
		{name: "API requests of a whole cycle beside the evictions", measured: fmt.Sprint(len(all) - evictions), verdict: noBudget},
	}, list.String()
}
