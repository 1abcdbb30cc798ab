//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

// moment is where a daemon is killed. Most of them last milliseconds, so that
// something keeps the daemon there.
type moment struct {
	name    string
	node    string
	prepare func(*ordeal, *nodes.Node) // before a reboot is wanted
	arrive  func(*ordeal, *nodes.Node) // waits until the daemon is there
	phase   string                     // of its lock entry then
	marked  bool                       // whether the node is cordoned then
	stops   time.Duration              // how long pods take to stop
	says    status.Phase               // by the next daemon, which is kept there too
	because status.Reason
}

// The daemon is killed in the midst of everything, while another node waits
// for the lock. The next daemon goes on where the first one was: the machine
// reboots once, truly, and nobody takes the start of a daemon for a reboot.
func TestDaemonIsKilled(t *testing.T) {
	for _, m := range []moment{
		{
			name: "after lock", node: "node-a", phase: "locked",
			prepare: func(o *ordeal, n *nodes.Node) { o.forbidCordon(n) },
			arrive:  func(o *ordeal, n *nodes.Node) { o.awaitSays(n, status.Locked, status.APIForbidden) },
			says:    status.Locked, because: status.APIForbidden,
		},
		{
			name: "after cordon", node: "node-b", phase: "locked", marked: true,
			prepare: func(o *ordeal, n *nodes.Node) { o.forbidDraining(n) },
			arrive:  func(o *ordeal, n *nodes.Node) { o.awaitSays(n, status.Draining, status.APIForbidden) },
			says:    status.Draining, because: status.APIForbidden,
		},
		{
			name: "mid-drain", node: "node-c", phase: "draining", marked: true, stops: forever,
			arrive: func(o *ordeal, n *nodes.Node) {
				o.awaitEvicted(o.work)
				o.release = func() { o.letStop(o.work) }
			},
			says: status.Draining,
		},
		{
			name: "after drain", node: "node-a", phase: "draining", marked: true, stops: forever,
			arrive: func(o *ordeal, n *nodes.Node) {
				o.awaitEvicted(o.work)
				i := o.inhibit(n, "block", "apt", "packages are being installed")
				o.release = func() { i.release(o.story) }
				o.letStop(o.work)
				o.awaitSays(n, status.Draining, status.Inhibited)
			},
			says: status.Draining, because: status.Inhibited,
		},
		{
			name: "after logind accepted", node: "node-c", phase: "rebooting", marked: true,
			prepare: func(o *ordeal, n *nodes.Node) {
				o.inhibitDelay(n, time.Minute)
				i := o.inhibit(n, "delay", "database", "saving what is left to save")
				o.release = func() { i.release(o.story) }
			},
			arrive: func(o *ordeal, n *nodes.Node) { o.awaitAccepted(n) },
			says:   status.Rebooting,
		},
	} {
		t.Run(m.name, func(t *testing.T) { killAt(beginOrdeal(t, 3*time.Minute), m) })
	}
}

func killAt(o *ordeal, m moment) {
	t := o.t
	victim, rival := o.Node(m.node), o.Node("node-b")
	if victim == rival {
		rival = o.Node("node-c")
	}
	o.work = o.burden(victim, m.stops)
	if m.prepare != nil {
		m.prepare(o, victim)
	}
	o.queue(victim)
	o.queue(rival)
	m.arrive(o, victim)

	was := o.Recorder.State()
	if phase := o.holderPhase(was, victim); phase != m.phase || (was.Mark(victim.Name) != "") != m.marked {
		t.Fatalf("too late for this moment: %s", was)
	}
	o.killDaemon(victim)
	o.awaitSays(victim, m.says, m.because)
	if starts := o.told(victim, "kured started"); len(starts) != 1 {
		t.Errorf("kured was started %d times again", len(starts))
	}
	if now := o.Recorder.State(); !now.Holds(victim.Name) || (now.Mark(victim.Name) != "") != m.marked {
		t.Errorf("the restart changed what the node holds: %s", now)
	}
	if ok, err := o.stayedUp(victim); !ok {
		t.Errorf("rebooted too early (%v)", err)
	}
	o.release()
	o.allReturn(victim, rival)
	if undone := o.told(victim, "rolled back"); len(undone) > 0 {
		t.Errorf("rolled back: %v", undone)
	}
}

// awaitAccepted waits until logind has accepted the reboot, and the daemon knows.
func (o *ordeal) awaitAccepted(n *nodes.Node) {
	o.t.Helper()
	o.until("logind to accept the reboot", func() (bool, error) { return o.goingDown(n) })
	o.awaitSays(n, status.Rebooting, "")
}

// forbidCordon keeps a daemon from the step after taking the lock.
func (o *ordeal) forbidCordon(n *nodes.Node) {
	o.t.Helper()
	o.release = o.forbid("nodes",
		"object.metadata.name != '"+n.Name+"' || !has(object.spec.unschedulable) || !object.spec.unschedulable",
		func(ctx context.Context) error {
			_, err := o.Client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType,
				[]byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		})
}

// forbidDraining keeps a daemon from the step after the cordon.
func (o *ordeal) forbidDraining(n *nodes.Node) {
	o.t.Helper()
	key := "holder." + n.Name
	o.release = o.forbid("configmaps",
		"object.metadata.name != '"+cluster.LockName+"' || !has(object.data) || !('"+key+"' in object.data) || "+
			`!object.data['`+key+`'].contains('"phase":"draining"')`,
		func(ctx context.Context) error {
			_, err := o.Client.CoreV1().ConfigMaps(cluster.LockNamespace).Patch(ctx, cluster.LockName, types.MergePatchType,
				[]byte(`{"data":{"`+key+`":"{\"phase\":\"draining\"}"}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		})
}

// forbid makes the API server refuse changes for which an expression is false,
// until the function is called. try must be such a change, as a dry run.
func (o *ordeal) forbid(resource, unless string, try func(context.Context) error) (allow func()) {
	o.t.Helper()
	const name = "e2e-forbid"
	reason := metav1.StatusReasonForbidden
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: unless, Message: "not now", Reason: &reason}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	api := o.Client.AdmissionregistrationV1()
	remove := func(ctx context.Context) error {
		err := api.ValidatingAdmissionPolicyBindings().Delete(ctx, name, metav1.DeleteOptions{})
		if err == nil || apierrors.IsNotFound(err) {
			err = api.ValidatingAdmissionPolicies().Delete(ctx, name, metav1.DeleteOptions{})
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	o.afterwards("remove the policy", remove)
	_, err := api.ValidatingAdmissionPolicies().Create(o.ctx, policy, metav1.CreateOptions{})
	o.must(err)
	_, err = api.ValidatingAdmissionPolicyBindings().Create(o.ctx, binding, metav1.CreateOptions{})
	o.must(err)
	o.until("the API server to refuse", func() (bool, error) {
		err := try(o.ctx)
		if err == nil || apierrors.IsForbidden(err) {
			return err != nil, nil
		}
		return false, err
	})
	return func() { o.must(remove(o.ctx)) }
}
