// Package lab is where tests see what kured does with real Nodes and pods: a control plane for all tests of a package, and for each
// test a namespace and a pool of nodes with stand-in kubelets.
package lab

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

	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
	manifests "github.com/kured-host/kured/packaging/kubernetes"
)

// Plane is one real control plane for all tests of a package that need it, started by the first of them, so
// that the others run without it.
type Plane struct {
	once  sync.Once
	plane *testenv.ControlPlane
	err   error
	labs  atomic.Int32
}

// Main runs the tests, stops the control plane, if there is one, and returns the exit code.
func (p *Plane) Main(m *testing.M) int {
	code := m.Run()
	if p.plane != nil {
		if err := p.plane.Err(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		p.plane.Stop()
	}
	return code
}

func (p *Plane) started(t testing.TB) *testenv.ControlPlane {
	t.Helper()
	p.once.Do(func() {
		// Not the test's context: the control plane outlives it.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		p.plane, p.err = testenv.Start(ctx, testenv.Options{Controllers: true, Scheduler: true, Audit: true})
		if p.err == nil {
			p.err = p.plane.Apply(ctx, manifests.Base())
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.plane
}

// Lab is a pool of nodes and a namespace of one test. Pods of the test run on its pool only.
type Lab struct {
	Plane *testenv.ControlPlane
	Name  string // namespace, pool, and the user agent of kured's requests
	Admin kubernetes.Interface

	t testing.TB
}

// New makes the lab of a test.
func (p *Plane) New(t testing.TB, name string) *Lab {
	t.Helper()
	cp := p.started(t)
	name = fmt.Sprintf("%s-%d", name, p.labs.Add(1)) // go test -count
	l := &Lab{Plane: cp, Name: name, Admin: cp.Admin(), t: t}
	if _, err := l.Admin.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// Machine starts a node of the lab's pool.
func (l *Lab) Machine(name string) *testenv.Node {
	l.t.Helper()
	return testenv.NewNode(l.t, l.Plane, standin.Options{NodeName: l.Name + "-" + name, Labels: map[string]string{"pool": l.Name}})
}

// Kured is what kured has on that machine: the kubelet's credential, and nothing else.
func (l *Lab) Kured(m *testenv.Node) kubernetes.Interface {
	l.t.Helper()
	client := l.Kubelet(m, l.Name)
	// Rights take effect an instant after they were given.
	l.Until("the right to read DaemonSets", func() bool {
		_, err := client.AppsV1().DaemonSets(l.Name).Get(l.t.Context(), "none", metav1.GetOptions{})
		return err != nil && !strings.Contains(err.Error(), "forbidden")
	})
	return client
}

// Kubelet is a client with the machine's own credential, under the name of that agent.
func (l *Lab) Kubelet(m *testenv.Node, agent string) kubernetes.Interface {
	l.t.Helper()
	config := m.Credential.Config()
	config.UserAgent, config.QPS, config.Burst = agent, 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

// Requests are those that kured made since then.
func (l *Lab) Requests(since time.Time, filter func(testenv.Request) bool) []testenv.Request {
	l.t.Helper()
	all, err := l.Plane.Requests(testenv.RequestFilter{Since: since})
	if err != nil {
		l.t.Fatal(err)
	}
	var out []testenv.Request
	for _, r := range all {
		if r.UserAgent == l.Name && filter(r) {
			out = append(out, r)
		}
	}
	return out
}

// IsEviction is a filter for Requests.
func IsEviction(r testenv.Request) bool { return r.Subresource == "eviction" }

// Until waits for something that the cluster does in its own time.
func (l *Lab) Until(what string, done func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("after a minute still not: %s", what)
		}
	}
}

// PodsOn returns the pods of the lab on the machine.
func (l *Lab) PodsOn(machine string) []corev1.Pod {
	l.t.Helper()
	list, err := l.Admin.CoreV1().Pods(l.Name).List(l.t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + machine})
	if err != nil {
		l.t.Fatal(err)
	}
	return list.Items
}

// Running waits until exactly so many pods of the lab run on the machine.
func (l *Lab) Running(machine string, want int) {
	l.t.Helper()
	l.Until(fmt.Sprintf("%d pods run on %s", want, machine), func() bool {
		n := 0
		for _, pod := range l.PodsOn(machine) {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
					n++
				}
			}
		}
		return n == want
	})
}

// PodSpec is a pod of the lab's pool. With a machine it goes there without the scheduler.
func (l *Lab) PodSpec(machine string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName:     machine,
		NodeSelector: map[string]string{"pool": l.Name},
		Containers:   []corev1.Container{{Name: "main", Image: "example.invalid/main"}},
	}
}

func (l *Lab) template(app string, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}, Annotations: annotations},
		Spec:       l.PodSpec(""),
	}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// Must ends the test on an error.
func (l *Lab) Must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// Deployment makes a Deployment.
func (l *Lab) Deployment(app string, replicas int32, annotations map[string]string) {
	l.t.Helper()
	_, err := l.Admin.AppsV1().Deployments(l.Name).Create(l.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector(app), Template: l.template(app, annotations)},
	}, metav1.CreateOptions{})
	l.Must(err)
}

// StatefulSet makes a StatefulSet whose pods come all at once.
func (l *Lab) StatefulSet(app string, replicas int32) {
	l.t.Helper()
	_, err := l.Admin.AppsV1().StatefulSets(l.Name).Create(l.t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, Selector: selector(app), Template: l.template(app, nil),
			PodManagementPolicy: appsv1.ParallelPodManagement,
		},
	}, metav1.CreateOptions{})
	l.Must(err)
}

// DaemonSet makes a DaemonSet on the pool.
func (l *Lab) DaemonSet(app string) {
	l.t.Helper()
	_, err := l.Admin.AppsV1().DaemonSets(l.Name).Create(l.t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec:       appsv1.DaemonSetSpec{Selector: selector(app), Template: l.template(app, nil)},
	}, metav1.CreateOptions{})
	l.Must(err)
}

// NakedPod makes a pod that nobody makes anew.
func (l *Lab) NakedPod(name, machine string, annotations map[string]string) *corev1.Pod {
	l.t.Helper()
	pod, err := l.Admin.CoreV1().Pods(l.Name).Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: map[string]string{"app": name}},
		Spec:       l.PodSpec(machine),
	}, metav1.CreateOptions{})
	l.Must(err)
	return pod
}

// MirrorPod shows a static pod, as the kubelet of the machine does.
func (l *Lab) MirrorPod(name string, m *testenv.Node) {
	l.t.Helper()
	kubelet := l.Kubelet(m, "kubelet")
	obj, err := kubelet.CoreV1().Nodes().Get(l.t.Context(), m.Name(), metav1.GetOptions{})
	l.Must(err)
	yes := true
	_, err = kubelet.CoreV1().Pods(l.Name).Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "hash"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: obj.Name, UID: obj.UID, Controller: &yes,
			}},
		},
		Spec: corev1.PodSpec{NodeName: m.Name(), Containers: l.PodSpec("").Containers},
	}, metav1.CreateOptions{})
	l.Must(err)
}

// Budget makes a PodDisruptionBudget and waits until it is evaluated.
func (l *Lab) Budget(name, app string, minAvailable int) {
	l.t.Helper()
	budgets := l.Admin.PolicyV1().PodDisruptionBudgets(l.Name)
	amount := intstr.FromInt(minAvailable)
	_, err := budgets.Create(l.t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &amount, Selector: selector(app)},
	}, metav1.CreateOptions{})
	l.Must(err)
	l.Until("budget "+name+" is evaluated", func() bool {
		b, err := budgets.Get(l.t.Context(), name, metav1.GetOptions{})
		return err == nil && b.Status.ObservedGeneration == b.Generation && b.Status.ExpectedPods > 0
	})
}

// Person makes the Node schedulable or not, as kubectl cordon does.
func (l *Lab) Person(machine string, unschedulable bool) {
	l.t.Helper()
	_, err := l.Admin.CoreV1().Nodes().Patch(l.t.Context(), machine, types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, unschedulable), metav1.PatchOptions{})
	l.Must(err)
}

// Pod makes a pod on the machine, changed as the test wants it.
func (l *Lab) Pod(name, machine string, change func(*corev1.Pod)) *corev1.Pod {
	l.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: l.PodSpec(machine)}
	change(pod)
	pod, err := l.Admin.CoreV1().Pods(l.Name).Create(l.t.Context(), pod, metav1.CreateOptions{})
	l.Must(err)
	return pod
}
