package standin_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// cluster is shared by the tests of this package, none of which is parallel:
// one of them takes the API server away.
var cluster *testenv.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(testenv.Main(m, testenv.Options{Controllers: true, Scheduler: true},
		func(cp *testenv.ControlPlane) { cluster = cp }))
}

// startNode starts a node and removes its Node object at the test's end, so
// that the scheduler places nothing of another test there.
func startNode(t *testing.T, options standin.Options) *testenv.Node {
	t.Helper()
	t.Cleanup(func() {
		err := cluster.Admin().CoreV1().Nodes().Delete(context.Background(), options.NodeName, metav1.DeleteOptions{})
		if err != nil {
			t.Error(err)
		}
	})
	return testenv.NewNode(t, cluster, options)
}

func getNode(t *testing.T, name string) *corev1.Node {
	t.Helper()
	node, err := cluster.Admin().CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func readyCondition(node *corev1.Node) corev1.NodeCondition {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// newPod creates a pod that is bound to the node, with these annotations.
func newPod(t *testing.T, node, name string, grace int64, annotations ...string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}}
	pod.Spec.NodeName, pod.Spec.TerminationGracePeriodSeconds = node, &grace
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	for i := 0; i < len(annotations); i += 2 {
		pod.Annotations[annotations[i]] = annotations[i+1]
	}
	return createPod(t, pod)
}

func createPod(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	name := pod.Name
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "none"}}
	pods := cluster.Admin().CoreV1().Pods("default")
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := pods.Delete(context.Background(), name, *metav1.NewDeleteOptions(0))
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	return awaitPod(t, name, "ready", isReady)
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != ""
		}
	}
	return false
}

func awaitPod(t *testing.T, name, what string, is func(*corev1.Pod) bool) (pod *corev1.Pod) {
	t.Helper()
	eventually(t, "pod "+name+" is "+what, func() (err error) {
		pod, err = cluster.Admin().CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && !is(pod) {
			err = fmt.Errorf("it is %+v", pod.Status)
		}
		return err
	})
	return pod
}

func awaitGone(t *testing.T, name string) {
	t.Helper()
	eventually(t, "pod "+name+" is gone", func() error {
		_, err := cluster.Admin().CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("got %v", err)
	})
}

func evict(t *testing.T, node *testenv.Node, pod string) error {
	t.Helper()
	client, err := kubernetes.NewForConfig(node.Credential.Config())
	if err != nil {
		t.Fatal(err)
	}
	return client.CoreV1().Pods("default").EvictV1(t.Context(),
		&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: "default"}})
}

const workload = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {standin.kured.dev/ready-after: 300ms}}
    spec: {containers: [{name: web, image: none}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
`

// TestDeployment is the whole of what a drain relies on: pods spread over the
// nodes, become Ready, are evicted one at a time, and come back elsewhere.
func TestDeployment(t *testing.T) {
	first, second := startNode(t, standin.Options{NodeName: "deploy-1"}), startNode(t, standin.Options{NodeName: "deploy-2"})
	// The scheduler knows each of them when it has placed a pod there.
	for _, node := range []string{first.Name(), second.Name()} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "known-" + node}}
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
		createPod(t, pod)
	}
	if err := cluster.Apply(t.Context(), []byte(workload)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		background := metav1.DeletePropagationBackground
		err := cluster.Admin().AppsV1().Deployments("default").Delete(context.Background(), "web",
			metav1.DeleteOptions{PropagationPolicy: &background})
		if err != nil {
			t.Error(err)
		}
	})
	// perNode counts the ready pods, and fails while there are not six of them.
	perNode := func() (counts map[string][]string, err error) {
		pods, err := cluster.Admin().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return nil, err
		}
		counts, total := map[string][]string{}, 0
		addresses := map[string]bool{}
		for _, pod := range pods.Items {
			if isReady(&pod) && pod.DeletionTimestamp == nil {
				counts[pod.Spec.NodeName] = append(counts[pod.Spec.NodeName], pod.Name)
				addresses[pod.Status.PodIP] = true
				total++
			}
		}
		if total != 6 || len(addresses) != 6 {
			return nil, fmt.Errorf("%d ready pods with %d addresses, want 6", total, len(addresses))
		}
		return counts, nil
	}
	var counts map[string][]string
	eventually(t, "six pods are ready on two nodes", func() (err error) {
		if counts, err = perNode(); err == nil && len(counts) != 2 {
			err = fmt.Errorf("they are on %v", counts)
		}
		return err
	})

	cordon := []byte(`{"spec":{"unschedulable":true}}`)
	if _, err := cluster.Admin().CoreV1().Nodes().Patch(t.Context(), first.Name(), types.MergePatchType, cordon, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict(t, second, counts[first.Name()][0]); !apierrors.IsForbidden(err) {
		t.Errorf("eviction of another node's pod: got %v, want forbidden", err)
	}
	refused := 0
	for _, pod := range counts[first.Name()] {
		eventually(t, "eviction of "+pod, func() error {
			err := evict(t, first, pod)
			if apierrors.IsTooManyRequests(err) {
				refused++
			}
			return err
		})
	}
	if refused == 0 {
		t.Error("the budget never refused an eviction")
	}
	eventually(t, "all pods are ready on the other node", func() (err error) {
		if counts, err = perNode(); err == nil && len(counts[second.Name()]) != 6 {
			err = fmt.Errorf("they are on %v", counts)
		}
		return err
	})
}

func TestPodsStopAsTheyAsk(t *testing.T) {
	node := startNode(t, standin.Options{NodeName: "stop"})
	newPod(t, "stop", "quick", 30)
	newPod(t, "stop", "slow", 30, standin.StopAfterAnnotation, "1500ms")
	newPod(t, "stop", "limited", 1, standin.StopAfterAnnotation, "1h")
	newPod(t, "stop", "stuck", 1, standin.NeverStopsAnnotation, "true")
	begin := time.Now()
	for _, pod := range []string{"quick", "slow", "limited", "stuck"} {
		if err := evict(t, node, pod); err != nil {
			t.Fatal(err)
		}
	}
	awaitGone(t, "slow")
	if took := time.Since(begin); took < 1500*time.Millisecond {
		t.Errorf("the slow pod took %s to stop, want 1.5s at least", took)
	}
	awaitGone(t, "quick")
	awaitGone(t, "limited")
	awaitPod(t, "stuck", "terminating", func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	if err := node.Reboot(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, "stuck")
}

func TestRebootIsSeen(t *testing.T) {
	node := startNode(t, standin.Options{NodeName: "reboot", ReadyAfter: 500 * time.Millisecond})
	before := node.BootID()
	if got := getNode(t, "reboot").Status.NodeInfo.BootID; got != before {
		t.Errorf("reported boot id %s, want %s", got, before)
	}
	pod := newPod(t, "reboot", "survivor", 30)
	restarted := func(times int32) func(*corev1.Pod) bool {
		return func(pod *corev1.Pod) bool {
			return isReady(pod) && pod.Status.ContainerStatuses[0].RestartCount == times
		}
	}

	if err := node.RestartKubelet(); err != nil {
		t.Fatal(err)
	}
	if err := node.AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := getNode(t, "reboot").Status.NodeInfo.BootID; got != before {
		t.Errorf("after a restart of the kubelet: boot id %s, want %s as before", got, before)
	}
	awaitPod(t, "survivor", "as before", restarted(0))

	watch, err := cluster.Admin().CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{
		FieldSelector: "metadata.name=reboot", ResourceVersion: getNode(t, "reboot").ResourceVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if err := node.Reboot(); err != nil {
		t.Fatal(err)
	}
	if err := node.AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	var seen []corev1.ConditionStatus // of this boot, changes only
	for len(seen) < 2 {
		select {
		case event := <-watch.ResultChan():
			n, ok := event.Object.(*corev1.Node)
			if !ok {
				t.Fatalf("watch: %v", event)
			}
			status := readyCondition(n).Status
			if n.Status.NodeInfo.BootID == node.BootID() && (len(seen) == 0 || seen[len(seen)-1] != status) {
				seen = append(seen, status)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("after the reboot the Node was Ready: %v, want False, then True", seen)
		}
	}
	if seen[0] != corev1.ConditionFalse || seen[1] != corev1.ConditionTrue {
		t.Errorf("after the reboot the Node was Ready: %v, want False, then True", seen)
	}
	if node.BootID() == before {
		t.Error("the boot id did not change")
	}
	after := awaitPod(t, "survivor", "running again", restarted(1))
	if after.UID != pod.UID {
		t.Errorf("the pod was replaced")
	}
}

func TestHeartbeats(t *testing.T) {
	node := startNode(t, standin.Options{NodeName: "heart", Heartbeat: 200 * time.Millisecond})
	renewals := func() time.Time {
		lease, err := cluster.Admin().CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), "heart", metav1.GetOptions{})
		if err != nil {
			return time.Time{}
		}
		return lease.Spec.RenewTime.Time
	}
	begin := renewals()
	eventually(t, "the lease is renewed", func() error {
		if now := renewals(); !now.After(begin) {
			return fmt.Errorf("renewed %s", now)
		}
		return nil
	})
	// What the node controller does to a Node that was silent, and to its pods.
	newPod(t, "heart", "of-silent", 30)
	patch := []byte(`{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}`)
	notReady := []byte(`{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`)
	if _, err := cluster.Admin().CoreV1().Pods("default").Patch(t.Context(), "of-silent",
		types.StrategicMergePatchType, notReady, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	awaitPod(t, "of-silent", "ready again", isReady)
	if _, err := cluster.Admin().CoreV1().Nodes().PatchStatus(t.Context(), "heart", patch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is ready again", func() error {
		if c := readyCondition(getNode(t, "heart")); c.Status != corev1.ConditionTrue {
			return fmt.Errorf("it is %v", c)
		}
		return nil
	})
	if err := node.PowerOff(); err != nil {
		t.Fatal(err)
	}
	end := renewals()
	time.Sleep(time.Second)
	if now := renewals(); !now.Equal(end) {
		t.Errorf("the lease was renewed at %s, after the power was off", now)
	}
}

func TestOutageOfTheAPIServer(t *testing.T) {
	node := startNode(t, standin.Options{NodeName: "outage"})
	newPod(t, "outage", "of-before", 30)
	if err := cluster.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	// A kubelet that is restarted now has to wait for its API server.
	if err := node.Reboot(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-time.After(time.Second):
	case err := <-awaitReady(t, node):
		t.Errorf("without an API server: the node is ready (%v)", err)
	}
	if err := cluster.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-awaitReady(t, node); err != nil {
		t.Fatal(err)
	}
	awaitPod(t, "of-before", "running again", func(pod *corev1.Pod) bool {
		return isReady(pod) && pod.Status.ContainerStatuses[0].RestartCount == 1
	})

	// And one that runs has to come back to it.
	if err := cluster.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := cluster.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	newPod(t, "outage", "of-after", 30)
	if err := evict(t, node, "of-before"); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, "of-before")
}

func awaitReady(t *testing.T, node *testenv.Node) <-chan error {
	ready := make(chan error, 1)
	go func() { ready <- node.AwaitReady(t.Context()) }()
	return ready
}

func TestNewRefusesIncompleteOptions(t *testing.T) {
	complete := standin.Options{Config: cluster.AdminConfig(), NodeName: "n", BootID: standin.NewBootID()}
	if _, err := standin.New(complete); err != nil {
		t.Error(err)
	}
	for _, remove := range []func(*standin.Options){
		func(o *standin.Options) { o.Config = nil },
		func(o *standin.Options) { o.NodeName = "" },
		func(o *standin.Options) { o.BootID = "" },
	} {
		options := complete
		remove(&options)
		if _, err := standin.New(options); err == nil {
			t.Errorf("%+v was accepted", options)
		}
	}
}

// eventually calls check until it succeeds, for a minute.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
