//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// dropIns is where the configuration of a node has its drop-ins.
const dropIns = "/etc/kured/kured.toml.d"

// amend adds a drop-in to the configuration of a node and reloads the daemon, which goes on with what it does. At the
// end of the story the drop-in is gone.
func (s *story) amend(n *nodes.Node, name, text string) {
	s.t.Helper()
	file := dropIns + "/" + name
	s.afterwards("remove "+file, func(ctx context.Context) error {
		if err := n.Remove(file); err != nil {
			return err
		}
		_, err := n.Exec(ctx, "systemctl", "restart", "kured.service")
		return err
	})
	s.must(n.WriteFile(file, []byte(text), 0o644))
	s.reread(n)
}

// reread lets the daemon of a node read its configuration again.
func (s *story) reread(n *nodes.Node) {
	s.t.Helper()
	reloaded := func() int {
		entries := s.journal(n, "")
		return len(slices.DeleteFunc(entries, func(e nodes.Entry) bool { return e.Message != "configuration read again" }))
	}
	before := reloaded()
	_, err := n.Exec(s.ctx, "systemctl", "reload", "kured.service")
	s.must(err)
	ctx, cancel := cluster.Within(s.ctx, 30*time.Second, n.Name+" to read its configuration again")
	defer cancel()
	s.must(nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) { return reloaded() > before, nil }))
}

// slow runs a pod on a node that stops only when the story says so, by letStop or end.
func (s *story) slow(n *nodes.Node) cluster.Workload {
	s.t.Helper()
	o := &ordeal{story: s}
	return o.burden(n, forever)
}

// clock is what a node's own clock shows, in whole seconds of UTC.
func (s *story) clock(n *nodes.Node) time.Time {
	s.t.Helper()
	text, err := n.Exec(s.ctx, "date", "+%s")
	s.must(err)
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	s.must(err)
	return time.Unix(seconds, 0).UTC()
}

// neverAsked fails the test if a node asked logind for a reboot in a boot.
func (s *story) neverAsked(n *nodes.Node, boot string) {
	s.t.Helper()
	if slices.ContainsFunc(s.journal(n, boot), isReboot) {
		s.t.Errorf("%s asked for a reboot", n.Name)
	}
}

// The window closes while a pod does not stop: the node takes its pods again and says when it may reboot next. Then its
// owner gives it another window, by a drop-in and a reload.
func TestWindowClosesDuringDrain(t *testing.T) {
	s := begin(t, 3*time.Minute)
	n := s.Node("node-b")
	work := s.slow(n)
	before := s.bootIDs()
	now := s.clock(n)
	opened, closes := now.Add(-time.Hour), now.Add(12*time.Second)
	s.amend(n, "50-window.toml", fmt.Sprintf("[drain]\ntimeout = \"5m\"\n[[window]]\nstart = %q\nend = %q\ntime_zone = \"UTC\"\n",
		opened.Format(time.TimeOnly), closes.Format(time.TimeOnly)))

	s.want(n)
	s.awaitEvicted(work)
	s.awaitGivenBack(s.from, n, before[n.Name])
	told := s.awaitTold(n, status.OutsideWindow)
	if told.Fields["KURED_PHASE"] != string(status.RollingBack) || sent(told).Before(closes) {
		t.Errorf("told in phase %s at %s, want a roll-back from %s on", told.Fields["KURED_PHASE"], sent(told), closes)
	}
	blocked := s.awaitSays(n, status.Blocked, status.OutsideWindow)
	next := opened.AddDate(0, 0, 1)
	if blocked.Next == nil || !blocked.Next.Equal(next) {
		t.Errorf("kured status says that it goes on at %v, want %s", blocked.Next, next)
	}
	text, err := answer(s.ctx, n, "kured", "status")
	s.must(err)
	contains(t, "kured status", text, "blocked", "outside-window", next.Format(time.RFC3339))
	s.neverAsked(n, "")
	s.must(s.end(s.ctx, work))

	s.amend(n, "60-always.toml", "[[window]]\nstart = \"00:00\"\nend = \"24:00\"\n")
	s.awaitBack(s.from, n, before[n.Name])
	s.atRest()
	s.rebootedOnce(before, n)
	h := s.history()
	if held, cordoned := spansOf(n, h.HolderSpans()), spansOf(n, h.CordonSpans()); len(held) != 2 || len(cordoned) != 2 {
		t.Errorf("held %v and was cordoned %v, want two tries", held, cordoned)
	}
}

// localPause is the file with which a person pauses the node that it is on.
const localPause = "/var/lib/kured/pause"

// A node that waits for its turn is paused, in the cluster and on its own disk: it leaves the waiting room, the one behind
// it goes, and it goes itself when the pause is over.
func TestPauseDuringWait(t *testing.T) {
	s := begin(t, 3*time.Minute)
	holder, paused, third := s.Node("node-a"), s.Node("node-b"), s.Node("node-c")
	work := s.slow(holder)
	s.amend(holder, "50-e2e.toml", "[drain]\ntimeout = \"5m\"\n")
	s.amend(paused, "50-e2e.toml", "[gates]\nrecheck = \"1s\"\n")
	s.afterwards("end the pauses", func(ctx context.Context) error {
		if err := paused.Remove(localPause); err != nil {
			return err
		}
		return s.annotate(ctx, paused, "kured.dev/pause", nil)
	})
	waits := func(n *nodes.Node) func(cluster.State) bool {
		return func(c cluster.State) bool { return slices.Contains(c.Waiters(), n.Name) }
	}
	not := func(is func(cluster.State) bool) func(cluster.State) bool {
		return func(c cluster.State) bool { return !is(c) }
	}
	before := s.bootIDs()
	s.want(holder)
	s.awaitEvicted(work)
	s.want(paused)
	s.await(s.from, "the first one in the waiting room", waits(paused))
	s.want(third)
	at := s.await(s.from, "the second one in the waiting room", waits(third))

	s.must(s.annotate(s.ctx, paused, "kured.dev/pause", "e2e looks at it"))
	at = s.await(at, "it out of the room", not(waits(paused)))
	contains(t, "kured status", s.awaitSays(paused, status.Blocked, status.Paused).Detail, "kured.dev/pause", "e2e looks at it")
	s.must(s.annotate(s.ctx, paused, "kured.dev/pause", nil))
	at = s.await(at, "it in the room again", waits(paused))

	// From now on nothing but the file itself can tell that it comes or goes.
	s.amend(paused, "50-e2e.toml", "[gates]\nrecheck = \"1h\"\n")
	s.awaitStatus(paused, "the queue again", func(now status.Status) bool { return now.Phase == status.Queued && now.Reason != "" })
	s.must(s.Recorder.Sync(s.ctx))
	if s.Recorder.Since(at).Ever(not(waits(paused))) {
		t.Errorf("%s lost its place with another configuration", paused.Name)
	}
	until := s.clock(paused).Add(time.Hour)
	_, err := paused.Exec(s.ctx, "sh", "-c", "echo until="+until.Format(time.RFC3339)+" e2e repairs a disk >"+localPause)
	s.must(err)
	at = s.await(at, "it out of the room", not(waits(paused)))
	now := s.awaitSays(paused, status.Blocked, status.Paused)
	contains(t, "kured status", now.Detail, localPause, "e2e repairs a disk")
	if now.Next == nil || !now.Next.Equal(until) {
		t.Errorf("kured status says that it goes on at %v, want %s", now.Next, until)
	}

	s.letStop(work)
	at = s.awaitBack(at, holder, before[holder.Name])
	at = s.awaitBack(at, third, before[third.Name])
	s.awaitSays(paused, status.Blocked, status.Paused)
	if s.history().Ever(func(c cluster.State) bool { return c.Holds(paused.Name) || c.IsCordoned(paused.Name) }) {
		t.Errorf("%s took the lock although it is paused", paused.Name)
	}
	_, err = paused.Exec(s.ctx, "rm", localPause)
	s.must(err)
	s.awaitBack(at, paused, before[paused.Name])
	s.atRest()
	s.rebootedOnce(before, holder, paused, third)
}

// annotate sets or, with nil, removes an annotation of a node, as an admin.
func (s *story) annotate(ctx context.Context, n *nodes.Node, key string, value any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: value}}})
	if err != nil {
		return err
	}
	_, err = s.Client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// A pod that must not be disturbed comes to a node that waits, and to one that drains: the first leaves the waiting room,
// the second gives everything back. Both go when the pod is gone.
func TestBlockingPodComesAndGoes(t *testing.T) {
	s := begin(t, 3*time.Minute)
	drains, waits := s.Node("node-a"), s.Node("node-c")
	work := s.slow(drains)
	for _, n := range []*nodes.Node{drains, waits} {
		s.amend(n, "50-e2e.toml", "[gates]\nrecheck = \"1s\"\nblocking_pods = [\"job=payroll\"]\n[drain]\ntimeout = \"5m\"\n")
	}
	before := s.bootIDs()
	s.want(drains)
	s.awaitEvicted(work)
	s.want(waits)
	inRoom := func(c cluster.State) bool { return slices.Contains(c.Waiters(), waits.Name) }
	at := s.await(s.from, "the other one in the waiting room", inRoom)

	there := s.payroll(waits)
	at = s.await(at, "it out of the room", func(c cluster.State) bool { return !inRoom(c) })
	now := s.awaitSays(waits, status.Blocked, status.BlockingPods)
	contains(t, "kured status", now.Detail, "default/"+there.Name)
	s.must(s.kill(s.ctx, there))
	at = s.await(at, "it in the room again", inRoom)

	here := s.payroll(drains)
	at = s.awaitGivenBack(at, drains, before[drains.Name])
	told := s.awaitTold(drains, status.BlockingPods)
	contains(t, "the journal", told.Message, "default/"+here.Name)
	if told.Fields["KURED_PHASE"] != string(status.RollingBack) {
		t.Errorf("the pod is told in phase %s", told.Fields["KURED_PHASE"])
	}
	at = s.awaitBack(at, waits, before[waits.Name])
	now = s.awaitSays(drains, status.Blocked, status.BlockingPods)
	contains(t, "kured status", now.Detail, "default/"+here.Name)
	s.neverAsked(drains, "")

	s.must(s.end(s.ctx, work))
	s.must(s.kill(s.ctx, here))
	s.awaitBack(at, drains, before[drains.Name])
	s.atRest()
	s.rebootedOnce(before, drains, waits)
}

// payroll starts a pod on a node, cordoned or not, until the end of the story. A drain leaves it alone, as it leaves every
// pod that tolerates the cordon and comes later.
func (s *story) payroll(n *nodes.Node) corev1.Pod {
	s.t.Helper()
	pod, err := s.Client.CoreV1().Pods("default").Create(s.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "payroll-", Labels: map[string]string{"job": "payroll"}},
		Spec: corev1.PodSpec{
			NodeName:    n.Name,
			Tolerations: []corev1.Toleration{{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "work", Image: "example.invalid/work:1"}},
		},
	}, metav1.CreateOptions{})
	s.must(err)
	s.afterwards("remove "+pod.Name, func(ctx context.Context) error { return s.kill(ctx, *pod) })
	return *pod
}

// In a dry run the node takes its turn, says which pods would leave, and touches nothing.
func TestDryRun(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-c")
	s.amend(n, "50-e2e.toml", "[reboot]\ndry_run = true\n"+dress)
	work := cluster.Workload{Name: "rehearsed", Replicas: 2, On: n.Name}
	s.deploy(work)
	pods, err := s.Pods(s.ctx, work)
	s.must(err)
	before := s.bootIDs()

	s.want(n)
	held := s.await(s.from, n.Name+" to hold", func(c cluster.State) bool { return c.Holds(n.Name) })
	s.await(held, "its release", func(c cluster.State) bool { return c.AtRest() })
	now := s.awaitSays(n, status.BackingOff, status.DryRun)
	contains(t, "kured status", now.Detail, "dry run", "would be cordoned, drained and rebooted")
	told := s.awaitEntry(n, "the plan", func(e nodes.Entry) bool { return strings.HasPrefix(e.Message, "dry run: 2 pods have to leave") })
	contains(t, "the journal", told.Message, "default/"+pods[0].Name, "default/"+pods[1].Name)
	s.must(cluster.Unwant(n))
	s.awaitSays(n, status.Idle, "")

	s.rebootedOnce(before)
	s.neverAsked(n, "")
	if s.history().Ever(func(c cluster.State) bool {
		one := c.Nodes[n.Name]
		return c.IsCordoned(n.Name) || c.Mark(n.Name) != "" || one.Annotations[node.DressedAnnotation] != "" || one.Labels["example.com/maintenance"] != ""
	}) {
		t.Errorf("%s was touched", n.Name)
	}
	after, err := s.Pods(s.ctx, work)
	s.must(err)
	for _, p := range pods {
		if !slices.ContainsFunc(after, func(q corev1.Pod) bool { return q.UID == p.UID && q.DeletionTimestamp == nil }) {
			t.Errorf("pod %s is gone", p.Name)
		}
	}
}

// While the cluster moves away from the DaemonSet kured, its lock counts: before the node has begun and in the midst of its
// drain. It counts no more when it is free, and when the DaemonSet is gone.
func TestMigrationBesideTheDaemonSet(t *testing.T) {
	s := begin(t, 4*time.Minute)
	n := s.Node("node-b")
	rival := s.rival()
	s.amend(n, "50-e2e.toml", "[compat]\ndaemonset = \"kube-system/kured\"\n[gates]\nrecheck = \"1s\"\n[drain]\ntimeout = \"5m\"\n")
	work := s.slow(n)
	before := s.bootIDs()
	blockedBy := func(who string) {
		t.Helper()
		now := s.awaitSays(n, status.Blocked, status.RivalHolds)
		contains(t, "kured status", now.Detail, "DaemonSet kured", who)
	}

	rival.lock(`{"nodeID":"node-y","metadata":{"unschedulable":false},"created":"2026-11-22T12:00:00Z","TTL":0}`)
	s.want(n)
	blockedBy("node-y since 2026-11-22T12:00:00Z")
	if s.history().Ever(func(c cluster.State) bool { return !c.AtRest() }) {
		t.Error("it asked for the lock although the DaemonSet kured holds its own")
	}
	rival.lock(nil) // as the DaemonSet kured releases it
	s.awaitEvicted(work)

	rival.lock(`{"maxOwners":2,"locks":[{"nodeID":"node-z","metadata":{"unschedulable":false},"created":"2026-11-22T13:00:00Z","TTL":0}]}`)
	at := s.awaitGivenBack(s.from, n, before[n.Name])
	s.awaitEntry(n, "the roll-back", func(e nodes.Entry) bool {
		return e.Fields["KURED_REASON"] == string(status.RivalHolds) && e.Fields["KURED_PHASE"] == string(status.RollingBack) &&
			strings.Contains(e.Message, "node-z since 2026-11-22T13:00:00Z")
	})
	blockedBy("node-z")
	s.must(s.end(s.ctx, work))
	rival.lock(`{"maxOwners":2,"locks":[]}`)
	at = s.awaitBack(at, n, before[n.Name])
	s.atRest()
	s.rebootedOnce(before, n)

	second := s.bootIDs()[n.Name]
	rival.lock(`{"nodeID":"manual"}`) // as a person pauses it
	s.want(n)
	blockedBy("manual")
	s.neverAsked(n, second)
	s.must(rival.remove(s.ctx))
	s.awaitBack(at, n, second)
	s.atRest()
	if ids := s.history().BootIDs(n.Name); len(ids) != 3 {
		t.Errorf("boot ids %v, want two reboots", ids)
	}
}

// rivalSet is a DaemonSet with the name of the DaemonSet kured, for its lock alone: no node ever runs a pod of it.
type rivalSet struct{ *story }

func (s *story) rival() rivalSet {
	s.t.Helper()
	labels := map[string]string{"name": "kured"}
	_, err := s.Client.AppsV1().DaemonSets("kube-system").Create(s.ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kured"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					NodeSelector: map[string]string{"example.com/no": "such-node"},
					Containers:   []corev1.Container{{Name: "kured", Image: "example.invalid/inert:1"}},
				},
			},
		},
	}, metav1.CreateOptions{})
	s.must(err)
	r := rivalSet{s}
	s.afterwards("remove the DaemonSet", r.remove)
	return r
}

func (r rivalSet) remove(ctx context.Context) error {
	err := r.Client.AppsV1().DaemonSets("kube-system").Delete(ctx, "kured", metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// lock sets its lock; nil removes it.
func (r rivalSet) lock(text any) {
	r.t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{"weave.works/kured-node-lock": text}}})
	r.must(err)
	_, err = r.Client.AppsV1().DaemonSets("kube-system").Patch(r.ctx, "kured", types.MergePatchType, patch, metav1.PatchOptions{})
	r.must(err)
}
