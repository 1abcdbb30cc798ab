//go:build e2e

package e2e

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

// A configuration that is wrong is refused to whoever reloads, with file and line, and by the daemon itself: it goes on
// with the one that it has. With a good one it watches other files from then on.
func TestReloadWithABadFile(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-a")
	const other, unit, bad = "/run/e2e-other", "kured.service", dropIns + "/50-e2e.toml"
	s.afterwards("remove "+other, func(context.Context) error {
		return errors.Join(n.Remove(other), n.Remove(localPause), n.Remove(bad))
	})
	_, err := n.Exec(s.ctx, "sh", "-c", "echo e2e wants no reboot here >"+localPause)
	s.must(err)
	var pid, now uint32
	s.must(n.UnitProperty(s.ctx, unit, "MainPID", &pid))
	before := s.bootIDs()

	s.must(n.WriteFile(bad, []byte("[sentinel]\npaths = [\""+other+"\"]\n[drain]\ntimeot = \"1s\"\n"), 0o644))
	const wrong = bad + ":4: drain.timeot"
	_, err = n.Exec(s.ctx, "systemctl", "reload", unit)
	if failure, ok := errors.AsType[*nodes.ExitError](err); !ok || failure.Code == 0 {
		t.Errorf("systemctl reload with a bad file: %v", err)
	}
	check := s.awaitEntry(n, "what is wrong", func(e nodes.Entry) bool { return strings.Contains(e.Message, wrong) })
	if check.Fields["_PID"] == s.mainPID(n) {
		t.Errorf("the daemon was asked although the check had failed: %s", check.Message)
	}
	s.must(n.Kill(s.ctx, unit, syscall.SIGHUP))
	told := s.awaitEntry(n, "that nothing changes", func(e nodes.Entry) bool {
		return strings.HasPrefix(e.Message, "the configuration stays as it was: ") && strings.Contains(e.Message, wrong)
	})
	if told.Fields["PRIORITY"] != "3" || told.Fields["_PID"] != s.mainPID(n) {
		t.Errorf("not told as an error by the daemon: %v", told.Fields)
	}
	s.must(n.Touch(other))
	s.want(n)
	wanted := s.awaitSays(n, status.Blocked, status.Paused).Demand
	if wanted == nil || wanted.Path != cluster.Sentinel {
		t.Errorf("with the bad file the reboot is wanted by %+v", wanted)
	}
	s.must(n.UnitProperty(s.ctx, unit, "MainPID", &now))
	if now != pid {
		t.Errorf("the daemon was process %d and is %d", pid, now)
	}
	contains(t, "StatusText", s.statusText(n), "e2e wants no reboot here")

	s.amend(n, "50-e2e.toml", "[sentinel]\npaths = [\""+other+"\"]\n")
	s.awaitStatus(n, "the other file", func(now status.Status) bool {
		return now.Phase == status.Blocked && now.Demand != nil && now.Demand.Path == other
	})
	s.must(n.Remove(other))
	s.awaitSays(n, status.Idle, "")
	s.must(cluster.Unwant(n))
	s.rebootedNever(before)
}

// mainPID is the daemon's process, as journald writes it.
func (s *story) mainPID(n *nodes.Node) string {
	s.t.Helper()
	out, err := n.Exec(s.ctx, "systemctl", "show", "--property=MainPID", "--value", "kured.service")
	s.must(err)
	return strings.TrimSpace(out)
}

// rebootedNever fails the test if a node rebooted or anybody held the lock since the story began.
func (s *story) rebootedNever(before map[string]string) {
	s.t.Helper()
	h := s.history()
	for _, n := range s.Room.Nodes() {
		if ids := h.BootIDs(n.Name); !slices.Equal(ids, []string{before[n.Name]}) {
			s.t.Errorf("%s: boot ids %v, want only %s", n.Name, ids, before[n.Name])
		}
		s.neverAsked(n, "")
	}
	if spans := h.HolderSpans(); len(spans) != 0 {
		s.t.Errorf("the lock was held: %v", spans)
	}
}

// The reboot is announced, and a person on the node cancels it: the node gives everything back. The next announcement is
// left alone, and the node reboots when its time has come.
func TestAnnouncedRebootIsCancelled(t *testing.T) {
	s := begin(t, 3*time.Minute)
	n := s.Node("node-b") // with systemd 252, of which shutdown can show
	s.amend(n, "50-e2e.toml", "[reboot]\ndelay = \"12s\"\nmessage = \"e2e installs a kernel\"\n")
	before := s.bootIDs()
	shown := func() string {
		t.Helper()
		out, err := n.Exec(s.ctx, "sh", "-c", "shutdown --show 2>&1 || true")
		s.must(err)
		return out
	}
	announced := func(since time.Time) time.Time {
		t.Helper()
		now := s.awaitStatus(n, "the announcement", func(now status.Status) bool {
			return now.Reason == status.RebootDelayed && now.Next != nil && now.Next.After(since)
		})
		if now.Phase != status.Draining {
			t.Errorf("announced in phase %s", now.Phase)
		}
		contains(t, "kured status", now.Detail, now.Next.UTC().Format(time.RFC3339))
		return *now.Next
	}

	s.want(n)
	first := announced(s.began)
	s.must(nodes.Poll(s.ctx, 50*time.Millisecond, func() (bool, error) { return strings.Contains(shown(), "Reboot scheduled for"), nil }))
	_, err := n.Exec(s.ctx, "shutdown", "-c")
	s.must(err)
	at := s.awaitGivenBack(s.from, n, before[n.Name])
	told := s.awaitTold(n, status.RebootCancelled)
	contains(t, "the journal", told.Message, "the announced reboot was cancelled")
	if told.Fields["KURED_PHASE"] != string(status.RollingBack) {
		t.Errorf("told in phase %s", told.Fields["KURED_PHASE"])
	}
	if text := shown(); strings.Contains(text, "Reboot scheduled for") {
		t.Errorf("cancelled, and shutdown --show says: %s", text)
	}
	if there, err := n.Exists("/run/nologin"); there || err != nil {
		t.Errorf("cancelled, and nobody may log in: %v", err)
	}
	s.neverAsked(n, "")

	second := announced(first.Add(time.Second))
	s.awaitBack(at, n, before[n.Name])
	if asked := sent(s.awaitEntry(n, "the reboot", isReboot)); asked.Before(second) {
		t.Errorf("announced for %s, asked for at %s", second, asked)
	}
	s.atRest()
	s.rebootedOnce(before, n)
	if spans := spansOf(n, s.history().HolderSpans()); len(spans) != 2 {
		t.Errorf("held %v, want two tries", spans)
	}
}

// A budget allows nothing, and the owner has said that the reboot comes first: when the time is up the pod is deleted.
func TestDrainByForce(t *testing.T) {
	s := begin(t, 2*time.Minute)
	n := s.Node("node-a")
	s.amend(n, "50-e2e.toml", "[drain]\ntimeout = \"6s\"\non_timeout = \"force\"\n")
	stuck := cluster.Workload{Name: "forced", Replicas: 1, MinAvailable: 1, On: n.Name}
	s.deploy(stuck)
	pods, err := s.Pods(s.ctx, stuck)
	s.must(err)
	pod := pods[0].Name
	before := s.bootIDs()

	s.want(n)
	held := s.await(s.from, n.Name+" to hold", func(c cluster.State) bool { return c.Holds(n.Name) })
	s.awaitBack(held, n, before[n.Name])
	s.atRest()
	s.rebootedOnce(before, n)
	if spans := spansOf(n, s.history().HolderSpans()); len(spans) != 1 {
		t.Errorf("held %v, want once", spans)
	}
	told := s.awaitEntry(n, "the end of the drain", func(e nodes.Entry) bool { return strings.HasPrefix(e.Message, "drained by force: 1 pod gone") })
	contains(t, "the journal", told.Message, "deleted when the time was up", "default/"+pod)
	filter := evictions
	filter.Name, filter.Since = pod, s.began
	asked, err := s.Plane.Requests(filter)
	s.must(err)
	if len(asked) == 0 || slices.ContainsFunc(asked, func(r testenv.Request) bool { return r.Code != 429 }) {
		t.Errorf("%d evictions, want some, all refused: %+v", len(asked), asked)
	}
	filter.Verb, filter.Subresource = "delete", "-"
	deleted, err := s.Plane.Requests(filter)
	s.must(err)
	deleted = slices.DeleteFunc(deleted, func(r testenv.Request) bool { return !strings.HasPrefix(r.UserAgent, "kured/") })
	if len(deleted) != 1 || deleted[0].Code != 200 || deleted[0].Time.Before(asked[len(asked)-1].Time) {
		t.Errorf("kured deleted the pod with %+v, after %+v", deleted, asked)
	}
}

// The same, and the owner wants to look at it: nothing moves until the reboot is not required any more.
func TestDrainThatIsHeld(t *testing.T) {
	o := beginOrdeal(t, 2*time.Minute)
	n, other := o.Node("node-a"), o.Node("node-c")
	o.amend(n, "50-e2e.toml", "[drain]\ntimeout = \"3s\"\non_timeout = \"hold\"\n")
	stuck := cluster.Workload{Name: "held", Replicas: 1, MinAvailable: 1, On: n.Name}
	o.deploy(stuck)
	pods, err := o.Pods(o.ctx, stuck)
	o.must(err)
	pod, budget := "default/"+pods[0].Name, "default/"+stuck.Name

	o.queue(n)
	o.queue(other)
	now := o.awaitSays(n, status.Held, status.DrainTimeout)
	contains(t, "kured status", now.Detail, pod, budget)
	text, err := answer(o.ctx, n, "kured", "status")
	o.must(err)
	contains(t, "kured status", text, "held", "drain-timeout", pod)
	contains(t, "StatusText", o.statusText(n), "held: ", pod)
	told := o.awaitTold(n, status.DrainTimeout)
	if told.Fields["KURED_PHASE"] != string(status.Held) || told.Fields["PRIORITY"] != "4" {
		t.Errorf("told with %v, want a warning", told.Fields)
	}
	o.staysSo(6*time.Second, "cordoned and held", func() (bool, error) {
		c := o.Recorder.State()
		up, err := o.stayedUp(n)
		return up && c.Holds(n.Name) && c.Mark(n.Name) == o.before[n.Name] && slices.Equal(c.Waiters(), []string{other.Name}), err
	})
	o.awaitSays(n, status.Held, status.DrainTimeout)

	o.must(cluster.Unwant(n))
	at := o.awaitGivenBack(o.from, n, o.before[n.Name])
	o.awaitTold(n, status.SentinelGone)
	o.awaitSays(n, status.Idle, "")
	o.awaitBack(at, other, o.before[other.Name])
	o.atRest()
	o.rebootedOnce(o.before, other)
	if spans := spansOf(n, o.history().HolderSpans()); len(spans) != 1 {
		t.Errorf("held %v, want once", spans)
	}
}

// dressed is a node that shows in labels, annotations and conditions what happens to it.
type dressed struct {
	*story
	n       *nodes.Node
	before  string // boot id
	foreign bool   // the cordon is a person's
}

const dress = `[node]
labels_before = { "example.com/maintenance" = "{reason}" }
labels_after = { "example.com/kernel" = "{reason}" }
annotations_before = { "example.com/boot" = "{boot}" }
annotations_after = { "example.com/boot" = "{boot}", "example.com/rebooted" = "{time}" }
exclude_from_load_balancers = true
conditions = true
`

// What a node shows is there for exactly the time of the cycle, over the reboot; also where the cordon is a person's.
func TestNodeShowsItsReboot(t *testing.T) {
	s := begin(t, 3*time.Minute)
	before := s.bootIDs()
	plain := &dressed{story: s, n: s.Node("node-c"), before: before["node-c"]}
	theirs := &dressed{story: s, n: s.Node("node-a"), before: before["node-a"], foreign: true}
	for _, d := range []*dressed{plain, theirs} {
		s.amend(d.n, "50-e2e.toml", dress)
		s.afterwards("undress "+d.n.Name, d.undress)
		at := s.from
		if d.foreign {
			at = s.personCordons(d.n)
		}
		s.want(d.n)
		at = s.awaitBack(at, d.n, d.before)
		s.await(at, "no conditions of kured's", func(c cluster.State) bool { return len(d.conditions(c)) == 0 })
		s.atRest()
		d.check()
	}
	s.staysCordoned(theirs.n)
	s.rebootedOnce(before, plain.n, theirs.n)
}

// staysCordoned fails the test unless a node is cordoned and has no mark.
func (s *story) staysCordoned(n *nodes.Node) {
	s.t.Helper()
	if c := s.Recorder.State(); !c.IsCordoned(n.Name) || c.Mark(n.Name) != "" {
		s.t.Errorf("%s, which a person cordoned: %s", n.Name, c)
	}
}

func (d *dressed) undress(ctx context.Context) error {
	const patch = `{"metadata":{"labels":{"example.com/kernel":null},"annotations":{"example.com/boot":null,"example.com/rebooted":null}}}`
	_, err := d.Client.CoreV1().Nodes().Patch(ctx, d.n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// conditions are those of kured's that are true, joined.
func (d *dressed) conditions(c cluster.State) string {
	var all []string
	for _, one := range c.Nodes[d.n.Name].Status.Conditions {
		if strings.HasPrefix(one.Message, "kured: ") && one.Status == corev1.ConditionTrue {
			all = append(all, string(one.Type))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// check looks at every version of the Node.
func (d *dressed) check() {
	d.t.Helper()
	after, err := d.n.BootID()
	d.must(err)
	seen, returned := map[string]bool{}, false
	h := d.history()
	h.States(func(at time.Time, c cluster.State) bool {
		n := c.Nodes[d.n.Name]
		begun := c.Mark(d.n.Name) != ""
		if d.foreign {
			begun = n.Annotations[node.DressedAnnotation] != ""
		}
		worn := []bool{
			n.Labels["example.com/maintenance"] == "linux-image-e2e", n.Labels[corev1.LabelNodeExcludeBalancers] == "true",
			n.Annotations["example.com/boot"] == d.before, n.Annotations[node.DressedAnnotation] != "",
		}
		if slices.Contains(worn, !begun) {
			d.t.Errorf("%s at %s: begun is %t, and of what it wears then there is %v: %v %v", d.n.Name, at, begun, worn, n.Labels, n.Annotations)
			return false
		}
		late := n.Labels["example.com/kernel"] == "linux-image-e2e" && n.Annotations["example.com/boot"] == after && n.Annotations["example.com/rebooted"] != ""
		if back := c.BootID(d.n.Name) == after && !begun; back != late {
			d.t.Errorf("%s at %s: back is %t: %v %v", d.n.Name, at, back, n.Labels, n.Annotations)
			return false
		}
		returned = returned || begun && c.BootID(d.n.Name) == after && c.IsReady(d.n.Name)
		boot := "new: "
		if c.BootID(d.n.Name) == d.before {
			boot = "old: "
		}
		seen[boot+d.conditions(c)] = true
		return true
	})
	if !returned {
		d.t.Errorf("%s was never Ready in its new boot before it took off what it wore", d.n.Name)
	}
	const drains, down = "DrainInProgress MaintenancePlanned", "Drained MaintenanceInProgress"
	for _, want := range []string{"old: ", "old: " + drains, "old: " + down, "new: " + down, "new: "} {
		if !seen[want] {
			d.t.Errorf("%s never showed %q, only %v", d.n.Name, want, seen)
		}
	}
	if seen["new: "+drains] {
		d.t.Errorf("%s drains in its new boot: %v", d.n.Name, seen)
	}
}

// A person uncordons the node in the midst of its drain, and new pods come: it is cordoned again, they leave too, and the
// node reboots.
func TestPersonUncordonsDuringDrain(t *testing.T) {
	s := begin(t, 3*time.Minute)
	n := s.Node("node-b")
	s.amend(n, "50-e2e.toml", "[drain]\ntimeout = \"5m\"\n")
	work := s.slow(n)
	before := s.bootIDs()
	s.want(n)
	s.awaitEvicted(work)
	at := s.await(s.from, "the cordon", func(c cluster.State) bool { return c.Mark(n.Name) != "" })
	s.must(s.SetCordon(s.ctx, n.Name, false))
	at = s.await(at, "the person's uncordon", func(c cluster.State) bool { return !c.IsCordoned(n.Name) })
	again := s.await(at, "the cordon again", func(c cluster.State) bool { return c.IsCordoned(n.Name) && c.Mark(n.Name) == before[n.Name] })
	s.awaitEntry(n, "what happened", func(e nodes.Entry) bool {
		return e.Fields["KURED_PHASE"] == string(status.Draining) && strings.Contains(e.Message, "somebody uncordoned the node")
	})

	ctx, cancel := cluster.Within(s.ctx, time.Minute, "the end of the drain")
	defer cancel()
	s.must(nodes.Poll(ctx, 200*time.Millisecond, func() (bool, error) {
		s.letStop(work)
		return s.Recorder.State().BootID(n.Name) != before[n.Name], nil
	}))
	s.awaitBack(again, n, before[n.Name])
	s.atRest()
	s.rebootedOnce(before, n)
	if s.Recorder.Since(again).Ever(func(c cluster.State) bool { return c.BootID(n.Name) == before[n.Name] && !c.IsCordoned(n.Name) }) {
		t.Errorf("%s was uncordoned before its reboot", n.Name)
	}
	if moved := s.evicted(work); moved < 4 {
		t.Errorf("%d evictions, want those of the first two pods and of all that came", moved)
	}
	if spans := spansOf(n, s.history().HolderSpans()); len(spans) != 1 {
		t.Errorf("held %v, want once", spans)
	}
}
