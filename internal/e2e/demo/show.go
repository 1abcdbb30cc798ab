package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

var errNotProved = errors.New("not proved")

// Limits, so that a demonstration that hangs says so.
const (
	startLimit = 5 * time.Minute
	rollLimit  = 10 * time.Minute
	idleFor    = 5 * time.Second
)

// web has a budget: two of its six pods may move at a time.
func web() cluster.Workload {
	return cluster.Workload{Name: "web", Replicas: 6, MinAvailable: 4, StopAfter: time.Second}
}

// api has none, and takes longer to stop.
func api() cluster.Workload {
	return cluster.Workload{Name: "api", Replicas: 3, StopAfter: 3 * time.Second}
}

// show is the demonstration from the first boot to the proof. It leaves nothing running.
func show(ctx context.Context, s *screen) (err error) {
	starting, cancel := cluster.Within(ctx, startLimit, "the start")
	defer cancel()
	c, err := start(starting, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	systems, err := introduce(starting, c, s)
	if err != nil {
		return err
	}
	if err := deploy(starting, c); err != nil {
		return err
	}
	s.say("pods: Deployment web (6, a PodDisruptionBudget keeps 4), Deployment api (3, stop in 3 s), DaemonSet agent")
	if err := c.AtRest(starting); err != nil {
		return err
	}

	s.step("All three want to reboot at the same moment: " + cluster.Sentinel + " appears on each")
	watching, stop := context.WithCancel(ctx)
	defer stop()
	o, err := observe(watching, c, web().Name)
	if err != nil {
		return err
	}
	e := evidence{machines: machines(c, systems), budget: web().MinAvailable, idleFor: idleFor}
	from := c.Recorder.Now()
	e.wanted = time.Now()
	if err := cluster.Want(c.Room.Nodes()...); err != nil {
		return err
	}
	if err := roll(ctx, c, &watcher{observer: o, screen: s, systems: systems, start: e.wanted}); err != nil {
		return err
	}
	s.say("", "Nothing is wanted any more. Watching for "+seconds(idleFor)+" that kured asks the API server for nothing …")
	if err := e.collect(ctx, c, o, from); err != nil {
		return err
	}
	return judge(ctx, c, s, e)
}

// introduce says what the nodes are, and returns their systems' short names.
func introduce(ctx context.Context, c *cluster.Cluster, s *screen) (map[string]string, error) {
	systems := make(map[string]string)
	var cells [][]string
	for _, n := range c.Room.Nodes() {
		out, err := n.Exec(ctx, "sh", "-c", `. /etc/os-release; echo "Debian $VERSION_ID"; echo "$PRETTY_NAME"
			systemctl --version | head -n1; kured version | cut -d, -f1`)
		if err != nil {
			return nil, err
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		systems[n.Name] = lines[0]
		cells = append(cells, append([]string{n.Name, n.IP.String()}, lines[1:]...))
	}
	s.say(columns(cells, s.width())...)
	return systems, nil
}

func deploy(ctx context.Context, c *cluster.Cluster) error {
	labels := map[string]string{"app": "agent"}
	agent := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "example.invalid/agent:1"}}},
			},
		},
	}
	daemonSets := c.Client.AppsV1().DaemonSets(metav1.NamespaceDefault)
	if _, err := daemonSets.Create(ctx, agent, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("deploy agent: %w", err)
	}
	for _, w := range []cluster.Workload{web(), api()} {
		if err := c.Deploy(ctx, w); err != nil {
			return err
		}
	}
	return nodes.Poll(ctx, every, func() (bool, error) {
		d, err := daemonSets.Get(ctx, agent.Name, metav1.GetOptions{})
		return err == nil && int(d.Status.NumberReady) == len(c.Room.Nodes()), err
	})
}

func machines(c *cluster.Cluster, systems map[string]string) []machine {
	var all []machine
	for _, n := range c.Room.Nodes() {
		boots := n.Boots()
		all = append(all, machine{name: n.Name, system: systems[n.Name], before: boots[len(boots)-1].ID})
	}
	return all
}

// roll shows the nodes until every one has rebooted, all is at rest, and every daemon knows it: it does not
// see at once that kured-uncordon.service has finished.
func roll(ctx context.Context, c *cluster.Cluster, w *watcher) error {
	ctx, cancel := cluster.Within(ctx, rollLimit, "the roll")
	defer cancel()
	before := w.rows(w.systems)
	done := make(chan error, 1)
	go func() {
		for _, r := range before {
			if _, err := c.Node(r.name).WaitBooted(ctx, r.boot); err != nil {
				done <- err
				return
			}
		}
		done <- c.AtRest(ctx)
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	atRest := false
	for {
		w.show()
		if atRest && !slices.ContainsFunc(w.shown, func(r row) bool { return r.phase != string(status.Idle) }) {
			w.keep()
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-done:
			if err != nil {
				return err
			}
			atRest = true
			w.show()
			w.tell("all are back in service")
		case <-tick.C:
		}
	}
}

// watcher shows the observer's rows on the screen.
type watcher struct {
	*observer
	*screen
	systems map[string]string
	start   time.Time
	shown   []row
}

// show tells what has changed and redraws the table.
func (w *watcher) show() {
	now := w.rows(w.systems)
	if w.shown != nil {
		for _, news := range report(w.shown, now) {
			w.tell(news)
		}
	}
	w.shown = now
	title := w.style.dim(seconds(time.Since(w.start)) + " since the sentinels appeared")
	w.draw(append([]string{"", title}, table(now, w.width(), w.style)...))
}

// tell says what happened, with the time since the sentinels.
func (w *watcher) tell(what string) {
	w.say(cut(fmt.Sprintf("%7s  %s", seconds(time.Since(w.start)), what), w.width()))
}

// collect completes the evidence after the roll.
func (e *evidence) collect(ctx context.Context, c *cluster.Cluster, o *observer, from cluster.Position) (err error) {
	if err := c.Recorder.Sync(ctx); err != nil {
		return err
	}
	rested := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(e.idleFor):
	}
	e.history = c.Recorder.Since(from)
	requests, err := c.Plane.Requests(testenv.RequestFilter{Since: e.wanted})
	if err != nil {
		return err
	}
	for _, r := range requests {
		switch {
		case !strings.HasPrefix(r.UserAgent, "kured/"):
			continue
		case r.Time.After(rested):
			e.idle = append(e.idle, r)
		default:
			e.requests = append(e.requests, r)
		}
		if r.Subresource == "eviction" && r.Code == 201 {
			e.moved++
		}
	}
	for i, m := range e.machines {
		n := c.Node(m.name)
		if e.machines[i].after, err = n.BootID(); err != nil {
			return err
		}
		e.machines[i].boots = n.Boots()
	}
	e.fewest, err = o.fewestReady()
	return err
}

// judge tells the proof, or why it is none.
func judge(ctx context.Context, c *cluster.Cluster, s *screen, e evidence) error {
	p := prove(e)
	s.step("The journal of " + p.outages[0].name)
	entries, err := c.Node(p.outages[0].name).Journal(ctx, "", "kured.service", "kured-uncordon.service")
	if err != nil {
		return err
	}
	for _, j := range entries {
		if j.Fields["SYSLOG_IDENTIFIER"] == "kured" && j.Time.After(e.wanted) {
			s.say(fmt.Sprintf("%s boot %s  %s", j.Time.UTC().Format("15:04:05.000"), short(j.Boot), j.Message))
		}
	}
	s.step("The proof, from what the API server, its audit log and the machines' firmware recorded")
	s.say(p.lines(e, s.style)...)
	s.say("")
	if len(p.failures) > 0 {
		for _, f := range p.failures {
			s.say(s.style.red("NOT PROVED: " + f))
		}
		return errNotProved
	}
	s.say(s.style.green(fmt.Sprintf("PROVED: %d nodes wanted to reboot at once, and did so one at a time, each exactly once.", len(p.outages))))
	return nil
}
