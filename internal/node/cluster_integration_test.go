package node_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// One real control plane for all tests of the package that need it, started by the first of them, so
// that the others run without it.
var plane struct {
	once sync.Once
	*testenv.ControlPlane
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if plane.ControlPlane != nil {
		if err := plane.Err(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		plane.Stop()
	}
	os.Exit(code)
}

func controlPlane(t testing.TB) *testenv.ControlPlane {
	t.Helper()
	plane.once.Do(func() {
		// Not the test's context: the control plane outlives it.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		plane.ControlPlane, plane.err = testenv.Start(ctx, testenv.Options{Controllers: true, Scheduler: true, Audit: true})
		if plane.err != nil {
			return
		}
		var manifest []byte
		if manifest, plane.err = os.ReadFile("../../packaging/kubernetes/kured.yaml"); plane.err == nil {
			plane.err = plane.Apply(ctx, manifest)
		}
	})
	if plane.err != nil {
		t.Fatal(plane.err)
	}
	return plane.ControlPlane
}

// lab is a pool of nodes and a namespace of one test. Pods of the test run on its pool only.
type lab struct {
	t    testing.TB
	cp   *testenv.ControlPlane
	name string // namespace, pool, and the user agent of kured's requests
	k8s  kubernetes.Interface
}

var labs atomic.Int32

func newLab(t testing.TB, name string) *lab {
	t.Helper()
	cp := controlPlane(t)
	name = fmt.Sprintf("%s-%d", name, labs.Add(1)) // go test -count
	l := &lab{t: t, cp: cp, name: name, k8s: cp.Admin()}
	if _, err := l.k8s.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// machine starts a node of the lab's pool.
func (l *lab) machine(name string) *testenv.Node {
	l.t.Helper()
	return testenv.NewNode(l.t, l.cp, standin.Options{NodeName: l.name + "-" + name, Labels: map[string]string{"pool": l.name}})
}

// kured is what kured has on that machine: the kubelet's credential, and nothing else.
func (l *lab) kured(m *testenv.Node) *node.Node {
	l.t.Helper()
	client := l.kubelet(m, l.name)
	// Rights take effect an instant after they were given.
	l.until("the right to read DaemonSets", func() bool {
		_, err := client.AppsV1().DaemonSets(l.name).Get(l.t.Context(), "none", metav1.GetOptions{})
		return err != nil && !strings.Contains(err.Error(), "forbidden")
	})
	bootID, err := node.NormalizeBootID(m.BootID())
	if err != nil {
		l.t.Fatal(err)
	}
	return node.New(client, m.Name(), bootID)
}

func (l *lab) kubelet(m *testenv.Node, agent string) kubernetes.Interface {
	l.t.Helper()
	config := m.Credential.Config()
	config.UserAgent, config.QPS, config.Burst = agent, 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

// requests are those that kured made since then.
func (l *lab) requests(since time.Time, filter func(testenv.Request) bool) []testenv.Request {
	l.t.Helper()
	all, err := l.cp.Requests(testenv.RequestFilter{Since: since})
	if err != nil {
		l.t.Fatal(err)
	}
	var out []testenv.Request
	for _, r := range all {
		if r.UserAgent == l.name && filter(r) {
			out = append(out, r)
		}
	}
	return out
}

func isEviction(r testenv.Request) bool { return r.Subresource == "eviction" }

// until waits for something that the cluster does in its own time.
func (l *lab) until(what string, done func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("after a minute still not: %s", what)
		}
	}
}

func (l *lab) podsOn(machine string) []corev1.Pod {
	l.t.Helper()
	list, err := l.k8s.CoreV1().Pods(l.name).List(l.t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + machine})
	if err != nil {
		l.t.Fatal(err)
	}
	return list.Items
}

// running waits until exactly so many pods of the lab run on the machine.
func (l *lab) running(machine string, want int) {
	l.t.Helper()
	l.until(fmt.Sprintf("%d pods run on %s", want, machine), func() bool {
		n := 0
		for _, pod := range l.podsOn(machine) {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
					n++
				}
			}
		}
		return n == want
	})
}

// podSpec is a pod of the lab's pool. With a machine it goes there without the scheduler.
func (l *lab) podSpec(machine string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName:     machine,
		NodeSelector: map[string]string{"pool": l.name},
		Containers:   []corev1.Container{{Name: "main", Image: "example.invalid/main"}},
	}
}

func (l *lab) template(app string, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}, Annotations: annotations},
		Spec:       l.podSpec(""),
	}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) deployment(app string, replicas int32, annotations map[string]string) {
	l.t.Helper()
	_, err := l.k8s.AppsV1().Deployments(l.name).Create(l.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector(app), Template: l.template(app, annotations)},
	}, metav1.CreateOptions{})
	l.must(err)
}

func (l *lab) statefulSet(app string, replicas int32) {
	l.t.Helper()
	_, err := l.k8s.AppsV1().StatefulSets(l.name).Create(l.t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, Selector: selector(app), Template: l.template(app, nil),
			PodManagementPolicy: appsv1.ParallelPodManagement,
		},
	}, metav1.CreateOptions{})
	l.must(err)
}

func (l *lab) daemonSet(app string) {
	l.t.Helper()
	_, err := l.k8s.AppsV1().DaemonSets(l.name).Create(l.t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec:       appsv1.DaemonSetSpec{Selector: selector(app), Template: l.template(app, nil)},
	}, metav1.CreateOptions{})
	l.must(err)
}

func (l *lab) nakedPod(name, machine string, annotations map[string]string) *corev1.Pod {
	l.t.Helper()
	pod, err := l.k8s.CoreV1().Pods(l.name).Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: map[string]string{"app": name}},
		Spec:       l.podSpec(machine),
	}, metav1.CreateOptions{})
	l.must(err)
	return pod
}

// mirrorPod shows a static pod, as the kubelet of the machine does.
func (l *lab) mirrorPod(name string, m *testenv.Node) {
	l.t.Helper()
	kubelet := l.kubelet(m, "kubelet")
	obj, err := kubelet.CoreV1().Nodes().Get(l.t.Context(), m.Name(), metav1.GetOptions{})
	l.must(err)
	yes := true
	_, err = kubelet.CoreV1().Pods(l.name).Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "hash"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: obj.Name, UID: obj.UID, Controller: &yes,
			}},
		},
		Spec: corev1.PodSpec{NodeName: m.Name(), Containers: l.podSpec("").Containers},
	}, metav1.CreateOptions{})
	l.must(err)
}

// budget makes a PodDisruptionBudget and waits until it is evaluated.
func (l *lab) budget(name, app string, minAvailable int) {
	l.t.Helper()
	budgets := l.k8s.PolicyV1().PodDisruptionBudgets(l.name)
	amount := intstr.FromInt(minAvailable)
	_, err := budgets.Create(l.t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &amount, Selector: selector(app)},
	}, metav1.CreateOptions{})
	l.must(err)
	l.until("budget "+name+" is evaluated", func() bool {
		b, err := budgets.Get(l.t.Context(), name, metav1.GetOptions{})
		return err == nil && b.Status.ObservedGeneration == b.Generation && b.Status.ExpectedPods > 0
	})
}

// person makes the Node schedulable or not, as kubectl cordon does.
func (l *lab) person(machine string, unschedulable bool) {
	l.t.Helper()
	_, err := l.k8s.CoreV1().Nodes().Patch(l.t.Context(), machine, types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, unschedulable), metav1.PatchOptions{})
	l.must(err)
}

func (l *lab) get(n *node.Node) node.State {
	l.t.Helper()
	state, err := n.Get(l.t.Context())
	l.must(err)
	return state
}
