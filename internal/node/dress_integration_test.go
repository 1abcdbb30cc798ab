package node_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/lab"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// dedicated is an identity of kured's own for that machine, under the policies of identity.yaml.
func dedicated(t *testing.T, l *lab.Lab, m *testenv.Node) kubernetes.Interface {
	t.Helper()
	manifest, err := os.ReadFile("../../packaging/kubernetes/identity.yaml")
	l.Must(err)
	l.Must(l.Plane.Apply(t.Context(), manifest))
	credential, err := l.Plane.Issue(testenv.Subject{User: "kured:node:" + m.Name(), Groups: []string{"kured:nodes"}})
	l.Must(err)
	config := credential.Config()
	config.UserAgent, config.QPS, config.Burst = l.Name, 200, 400
	client, err := kubernetes.NewForConfig(config)
	l.Must(err)
	l.Until("the policy is in force", func() bool {
		_, err := patchNode(t.Context(), client, m.Name(), `{"metadata":{"labels":{"example.org/probe":"x"}}}`, true)
		return err != nil && strings.Contains(err.Error(), "kured-node")
	})
	return client
}

func patchNode(ctx context.Context, client kubernetes.Interface, name, patch string, dry bool) (*corev1.Node, error) {
	var opts metav1.PatchOptions
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	return client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(patch), opts)
}

// What CheckDress says of a kubelet's labels and taints is what the API server does: each name is tried, to add it, to change
// it and to remove it.
func TestKubeletsNamesReal(t *testing.T) {
	l := plane.New(t, "names")
	machine := l.Machine("one")
	kubelet := l.Kubelet(machine, l.Name)
	refused := 0
	for _, key := range []string{
		"plain", "example.org/x", "kured.dev/x", "kubernetes.io.example.org/x", "notkubernetes.io/x", "x.notk8s.io/x",
		"kubernetes.io/x", "k8s.io/x", "sub.kubernetes.io/x", "sub.k8s.io/x", "node-role.kubernetes.io/worker", "node-role.kubernetes.io/control-plane",
		"kubelet.kubernetes.io/x", "sub.kubelet.kubernetes.io/x", "xkubelet.kubernetes.io/x", "kubelet.k8s.io/x",
		"node.kubernetes.io/x", "sub.node.kubernetes.io/x", "node.k8s.io/x", corev1.LabelNodeExcludeBalancers,
		"node-restriction.kubernetes.io/x", "sub.node-restriction.kubernetes.io/x", "sub.node-restriction.node.kubernetes.io/x",
		"alpha.service-controller.kubernetes.io/exclude-balancer", "service-controller.kubernetes.io/x",
		"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "kubernetes.io/role", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
		"beta.kubernetes.io/instance-type", "beta.kubernetes.io/x", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
		"topology.kubernetes.io/x", "topology.k8s.io/zone", "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
		"failure-domain.beta.kubernetes.io/x", "node.cluster.x-k8s.io/x", "cloud.google.com/x", "eks.amazonaws.com/x",
	} {
		says := node.CheckDress(node.Dress{LabelsBefore: map[string]string{key: "x"}}, "", true)
		if says != nil {
			refused++
		}
		try := func(what, patch string) {
			_, err := patchNode(t.Context(), kubelet, machine.Name(), patch, true)
			if err != nil && !apierrors.IsForbidden(err) || (err != nil) != (says != nil) {
				t.Errorf("%s: to %s it: the API server says %v, CheckDress says %v", key, what, err, says)
			}
		}
		label := func(value string) string { return fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value) }
		before, err := l.Admin.CoreV1().Nodes().Get(t.Context(), machine.Name(), metav1.GetOptions{})
		l.Must(err)
		if _, there := before.Labels[key]; !there {
			try("add", label(`"x"`))
		}
		_, err = patchNode(t.Context(), l.Admin, machine.Name(), label(`"theirs"`), false)
		l.Must(err)
		try("change", label(`"x"`))
		try("remove", label(`null`))
		again, there := before.Labels[key]
		value := "null"
		if there {
			value = fmt.Sprintf("%q", again)
		}
		_, err = patchNode(t.Context(), l.Admin, machine.Name(), label(value), false)
		l.Must(err)
	}
	if refused < 10 {
		t.Errorf("only %d names refused", refused)
	}
	// Annotations are no matter.
	_, err := patchNode(t.Context(), kubelet, machine.Name(), `{"metadata":{"annotations":{"node-role.kubernetes.io/x":"y"}}}`, true)
	l.Must(err)

	const taint = "example.org/waits"
	if node.CheckDress(node.Dress{}, taint, true) == nil || node.CheckDress(node.Dress{}, taint, false) != nil {
		t.Error("CheckDress of a taint")
	}
	if err := node.New(kubelet, machine.Name(), machine.BootID()).SetWaiting(t.Context(), taint, true); !apierrors.IsForbidden(err) {
		t.Errorf("a kubelet sets a taint: %v", err)
	}
}

// A whole cycle with a kubelet's credential: the dress of the boot before comes off in the next one, under a person's cordon,
// too, and while the kubelet goes on writing its status.
func TestDressReal(t *testing.T) {
	l := plane.New(t, "dress")
	machine := l.Machine("one")
	kubelet := l.Kubelet(machine, l.Name)
	dress := node.Dress{
		LabelsBefore: map[string]string{"example.org/state": "rebooting-{reason}"}, LabelsAfter: map[string]string{"example.org/state": "up-{boot}"},
		AnnotationsBefore:        map[string]string{"example.org/why": "{reason} since {time}"},
		ExcludeFromLoadBalancers: true,
		Reason:                   func() string { return "linux-image-6.1.0-40" },
	}
	l.Must(node.CheckDress(dress, "", true))
	self := func() *node.Node { return node.New(kubelet, machine.Name(), machine.BootID(), node.WithDress(dress)) }
	l.Must(self().Rehearse(t.Context()))
	shows := func(state string, lb bool, annotated bool) {
		t.Helper()
		obj, err := l.Admin.CoreV1().Nodes().Get(t.Context(), machine.Name(), metav1.GetOptions{})
		l.Must(err)
		_, hasLB := obj.Labels[corev1.LabelNodeExcludeBalancers]
		why := obj.Annotations["example.org/why"]
		if obj.Labels["example.org/state"] != state || hasLB != lb || (why != "") != annotated || annotated && !strings.HasPrefix(why, "linux-image-6.1.0-40 since 20") {
			t.Errorf("labels %v, annotations %v; want state %q, load balancers %v, why %v", obj.Labels, obj.Annotations, state, lb, annotated)
		}
	}
	shows("", false, false)
	for _, person := range []bool{false, true} {
		before := ""
		if person {
			l.Person(machine.Name(), true)
			obj, err := l.Admin.CoreV1().Nodes().Get(t.Context(), machine.Name(), metav1.GetOptions{})
			l.Must(err)
			before = obj.Labels["example.org/state"]
		}
		// Rolled back.
		marked, err := self().Cordon(t.Context())
		if l.Must(err); marked == person {
			t.Errorf("marked %v under a person's cordon: %v", marked, person)
		}
		shows("rebooting-linux-image-6.1.0-40", true, true)
		s := stateOf(t, self())
		if s.Dressed == "" || !person && s.Dressed != s.Mark {
			t.Errorf("state %+v", s)
		}
		_, err = self().Uncordon(t.Context(), s.Dressed)
		l.Must(err)
		shows(before, false, false)
		// Rebooted.
		_, err = self().Cordon(t.Context())
		l.Must(err)
		l.Must(machine.Reboot())
		l.Must(machine.AwaitReady(t.Context()))
		shows("rebooting-linux-image-6.1.0-40", true, true)
		s = stateOf(t, self())
		_, err = self().Uncordon(t.Context(), s.Dressed)
		l.Must(err)
		shows("up-"+stateOf(t, self()).BootID, false, false)
		if s := stateOf(t, self()); s.Unschedulable != person || s.Dressed != "" {
			t.Errorf("state %+v", s)
		}
	}
}

// What the policy of an identity of kured's own lets through, and what it does not.
func TestDressRealWithAnIdentityOfItsOwn(t *testing.T) {
	l := plane.New(t, "dress-own")
	machine, other := l.Machine("one"), l.Machine("two")
	client := dedicated(t, l, machine)
	self := func(d node.Dress) *node.Node {
		return node.New(client, machine.Name(), machine.BootID(), node.WithDress(d))
	}
	good := node.Dress{
		LabelsBefore: map[string]string{"kured.dev/rebooting": "true"}, AnnotationsAfter: map[string]string{"kured.dev/last-reboot": "{time}"},
		ExcludeFromLoadBalancers: true,
	}
	bad := node.Dress{LabelsAfter: map[string]string{"example.org/state": "up"}}
	l.Must(self(good).Rehearse(t.Context()))
	if _, err := self(good).Cordon(t.Context()); err != nil {
		t.Error(err)
	}
	if err := self(bad).Rehearse(t.Context()); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "the list of the policy kured-node") {
		t.Errorf("a label that is not in the list: %v", err)
	}
	_, err := self(good).Uncordon(t.Context(), stateOf(t, self(good)).Mark)
	l.Must(err)
	if got := stateOf(t, self(good)); got.Dressed != "" || got.Unschedulable {
		t.Errorf("state %+v", got)
	}

	l.Must(self(good).SetWaiting(t.Context(), "kured.dev/waiting", true))
	if got := stateOf(t, self(good)).SoftTaints; len(got) != 1 || got[0] != "kured.dev/waiting" {
		t.Errorf("taints %v", got)
	}
	l.Must(self(good).SetWaiting(t.Context(), "kured.dev/waiting", false))
	if err := self(good).SetWaiting(t.Context(), "example.org/waiting", true); err == nil || !strings.Contains(err.Error(), "the list of the policy kured-node") {
		t.Errorf("a taint that is not in the list: %v", err)
	}
	l.Must(self(good).SetConditions(t.Context(), node.Conditions(status.Draining, "", "x")))
	l.Must(self(good).SetConditions(t.Context(), nil))

	theirs := node.New(client, other.Name(), other.BootID(), node.WithDress(good))
	if _, err := theirs.Cordon(t.Context()); err == nil {
		t.Error("another node is cordoned")
	}
	if err := theirs.SetWaiting(t.Context(), "kured.dev/waiting", true); err == nil {
		t.Error("another node is tainted")
	}
	if err := theirs.SetConditions(t.Context(), node.Conditions(status.Draining, "", "x")); err == nil {
		t.Error("another node's conditions are set")
	}
}

// Conditions with a kubelet's credential: they outlive the kubelet's status updates and the reboot, and Ready is the kubelet's.
func TestConditionsReal(t *testing.T) {
	l := plane.New(t, "conditions")
	machine := testenv.NewNode(t, l.Plane, standin.Options{NodeName: l.Name + "-one", Heartbeat: 50 * time.Millisecond})
	kubelet := l.Kubelet(machine, l.Name)
	self := func() *node.Node { return node.New(kubelet, machine.Name(), machine.BootID()) }
	conditions := func() map[string]string {
		obj, err := l.Admin.CoreV1().Nodes().Get(t.Context(), machine.Name(), metav1.GetOptions{})
		l.Must(err)
		out := map[string]string{}
		for _, c := range obj.Status.Conditions {
			out[string(c.Type)] = string(c.Status) + " " + c.Reason
		}
		return out
	}
	heartbeat := func() time.Time {
		obj, err := l.Admin.CoreV1().Nodes().Get(t.Context(), machine.Name(), metav1.GetOptions{})
		l.Must(err)
		for _, c := range obj.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.LastHeartbeatTime.Time
			}
		}
		return time.Time{}
	}
	kubelets := conditions()
	l.Must(self().SetConditions(t.Context(), node.Conditions(status.Draining, "", "0 of 3 pods gone")))
	want := maps.Clone(kubelets)
	want["MaintenancePlanned"], want["DrainInProgress"] = "True RebootRequired", "True RebootRequired"
	for range 2 {
		since := heartbeat()
		l.Until("a heartbeat", func() bool { return heartbeat().After(since) })
		if got := conditions(); !maps.Equal(got, want) {
			t.Errorf("conditions %v\nwant %v", got, want)
		}
	}
	l.Must(self().SetConditions(t.Context(), node.Conditions(status.Rebooting, status.RebootDelayed, "in a minute")))
	l.Must(machine.Reboot())
	l.Must(machine.AwaitReady(t.Context()))
	want = maps.Clone(kubelets)
	want["Drained"], want["MaintenanceInProgress"] = "True RebootDelayed", "True RebootDelayed"
	if got := conditions(); !maps.Equal(got, want) {
		t.Errorf("conditions after the reboot %v\nwant %v", got, want)
	}
	if got := stateOf(t, self()).Conditions; len(got) != 2 {
		t.Errorf("ours: %v", got)
	}
	l.Must(self().SetConditions(t.Context(), nil))
	if got := conditions(); !maps.Equal(got, kubelets) {
		t.Errorf("conditions at the end %v\nwant %v", got, kubelets)
	}
	since := time.Now()
	l.Must(self().SetConditions(t.Context(), nil))
	if got := l.Requests(since, func(r testenv.Request) bool { return r.Verb == "patch" }); len(got) > 0 {
		t.Errorf("written again: %v", got)
	}
}

// After a fast reboot the API server still shows the DaemonSet pods as they were: that does not count. Then the node has to
// stay Ready.
func TestAwaitDaemonSetsReal(t *testing.T) {
	l := plane.New(t, "daemonsets")
	machine := l.Machine("one")
	l.DaemonSet("agent")
	l.DaemonSet("proxy")
	l.NakedPod("never", machine.Name(), map[string]string{standin.ReadyAfterAnnotation: "1h"})
	l.Until("the DaemonSet pods run", func() bool {
		ready := 0
		for _, pod := range l.PodsOn(machine.Name()) {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		return ready == 2
	})
	client := l.Kubelet(machine, l.Name)
	l.Must(machine.PowerOff())
	// A boot an hour from now, so that what is shown was certainly started before it.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := node.New(client, machine.Name(), machine.BootID(), node.WithBootTime(time.Now().Add(time.Hour))).AwaitDaemonSets(ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "2 of 2 DaemonSet pods not Ready: ") || !strings.Contains(err.Error(), "still shows what it was before this boot") {
		t.Errorf("pods of the boot before count: %v", err)
	}
	l.Must(machine.PowerOn())
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self := node.New(client, machine.Name(), machine.BootID(), node.WithBootTime(time.Now()))
	var told []string
	report := func(s string) { told = append(told, s) }
	l.Must(self.AwaitReadyReport(ctx, report))
	l.Must(self.AwaitDaemonSets(ctx, report))
	l.Must(self.AwaitStillReady(ctx, 200*time.Millisecond, report))
	if last := told[len(told)-1]; last != "has to stay Ready for 200ms" {
		t.Errorf("told %q", told)
	}
}
