package gate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

// lab is a real API server, and the client of a kubelet's credential with the
// rights of the shipped manifest.
type lab struct {
	*testing.T
	plane   *testenv.ControlPlane
	admin   kubernetes.Interface
	kubelet kubernetes.Interface
}

const self = "node-a"

func newLab(t *testing.T) *lab {
	t.Helper()
	plane := testenv.New(t, testenv.Options{Audit: true})
	manifest, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kubernetes", "kured.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	credential, err := plane.NodeCredential(self)
	if err != nil {
		t.Fatal(err)
	}
	config := credential.Config()
	config.QPS = -1
	kubelet, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t, plane, plane.Admin(), kubelet}
	for _, name := range []string{self, "node-b"} {
		_, err := l.admin.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		l.must(err)
	}
	return l
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// expect looks until the gate's answer is the one that is wanted: rights and
// the API server's caches come a moment later.
func (l *lab) expect(what string, g gate.Gate, reason status.Reason, detail string) {
	l.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		v := g.Check(l.Context(), gate.Before)
		if v.Open == (reason == "") && v.Reason == reason && strings.Contains(v.Detail, detail) {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("%s: %+v, want %q with %q", what, v, reason, detail)
		}
	}
}

func (l *lab) pod(name, nodeName, labelled string) {
	l.Helper()
	key, value, _ := strings.Cut(labelled, "=")
	_, err := l.admin.CoreV1().Pods("default").Create(l.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{key: value}},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	l.must(err)
}

func (l *lab) phase(name string, phase corev1.PodPhase) {
	l.Helper()
	_, err := l.admin.CoreV1().Pods("default").Patch(l.Context(), name, types.MergePatchType,
		fmt.Appendf(nil, `{"status":{"phase":%q}}`, phase), metav1.PatchOptions{}, "status")
	l.must(err)
}

// ownNode is wired as in kured.
type ownNode struct{ *node.Node }

func (n ownNode) PauseText(ctx context.Context) (*string, error) {
	s, err := n.Get(ctx)
	return s.Pause, err
}

func TestGatesReal(t *testing.T) {
	l := newLab(t)
	for _, story := range []struct {
		name string
		tell func(*lab)
	}{
		{"blocking pods", blockingPodsReal}, {"node pause", nodePauseReal}, {"rival", rivalReal}, {"outage", outageReal},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(&lab{t, l.plane, l.admin, l.kubelet}) })
	}
}

// Pods with the labels come to this node and go; those of other nodes, with
// other labels or finished do not count.
func blockingPodsReal(l *lab) {
	g := gate.BlockingPods{Pods: l.kubelet.CoreV1().Pods(""), Node: self, Selectors: []string{"job=backup", "app in (db,queue),!harmless"}}
	l.expect("no pods", g, "", "")
	l.pod("elsewhere", "node-b", "job=backup")
	l.pod("web", self, "app=web")
	l.expect("other pods", g, "", "")
	l.pod("backup", self, "job=backup")
	l.expect("one comes", g, status.BlockingPods, "default/backup")
	l.phase("backup", corev1.PodRunning)
	l.pod("db", self, "app=db")
	l.expect("another comes", g, status.BlockingPods, "default/backup, default/db")
	l.phase("backup", corev1.PodSucceeded)
	l.expect("one succeeds", g, status.BlockingPods, "waits for pods: default/db")
	l.must(l.admin.CoreV1().Pods("default").Delete(l.Context(), "db", *metav1.NewDeleteOptions(0)))
	l.expect("the other goes", g, "", "")

	// More than one answer holds, the first of them finished: those do not fill it.
	for i := range 60 {
		name := fmt.Sprintf("backup-%02d", i)
		l.pod(name, self, "job=backup")
		if i < 55 {
			l.phase(name, corev1.PodFailed)
		}
	}
	l.expect("many finished", g, status.BlockingPods, "default/backup-55, default/backup-56, default/backup-57 and 2 more")

	before, err := l.plane.CountRequests(testenv.RequestFilter{User: "system:node:" + self, Resource: "pods"})
	l.must(err)
	g.Check(l.Context(), gate.Before)
	after, err := l.plane.CountRequests(testenv.RequestFilter{User: "system:node:" + self, Resource: "pods"})
	l.must(err)
	if after-before != 2 {
		l.Errorf("%d requests for two selectors", after-before)
	}

	g.Node = "node-b"
	l.expect("another node's pods", g, status.PodsUnreadable, "forbidden")
	g.Node, g.Selectors = self, []string{"=="}
	l.expect("a selector that is none", g, status.PodsUnreadable, "==")
}

// The annotation is read with the kubelet's credential, in the way that kured does it.
func nodePauseReal(l *lab) {
	g := gate.NodePause{Node: ownNode{node.New(l.kubelet, self, strings.Repeat("0", 32))}, Now: time.Now}
	annotate := func(value any) {
		l.Helper()
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{node.PauseAnnotation: value}}})
		l.must(err)
		_, err = l.admin.CoreV1().Nodes().Patch(l.Context(), self, types.MergePatchType, patch, metav1.PatchOptions{})
		l.must(err)
	}
	l.expect("no annotation", g, "", "")
	annotate("")
	l.expect("an empty one", g, status.Paused, "annotation "+node.PauseAnnotation+": paused")
	annotate("until=" + time.Now().Add(time.Hour).Format(time.RFC3339) + " disk is being replaced")
	l.expect("one with an end", g, status.Paused, "(disk is being replaced)")
	annotate("until=2020-01-01T00:00:00Z")
	l.expect("one that is over", g, "", "")
	annotate("until=tomorrow")
	l.expect("one that cannot be read", g, status.PauseUnreadable, "until=tomorrow")
	annotate(nil)
	l.expect("it goes", g, "", "")
	g.Node = ownNode{node.New(l.kubelet, "node-z", strings.Repeat("0", 32))}
	l.expect("no such Node", g, status.PauseUnreadable, "node-z")
}

// A DaemonSet carries the lock as the DaemonSet kured writes it: an update of
// the whole object, with the JSON of its types.
func rivalReal(l *lab) {
	const annotation = "weave.works/kured-node-lock"
	sets := l.admin.AppsV1().DaemonSets("kube-system")
	g := gate.Rival{DaemonSets: l.kubelet.AppsV1().DaemonSets("kube-system"), DaemonSet: "kured", Annotation: annotation, Now: time.Now}
	l.expect("no DaemonSet", g, "", "")

	labels := map[string]string{"name": "kured"}
	_, err := sets.Create(l.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kured"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kured", Image: "none"}}},
			},
		},
	}, metav1.CreateOptions{})
	l.must(err)
	l.expect("nobody holds its lock", g, "", "")

	type meta struct {
		Unschedulable bool `json:"unschedulable"`
	}
	type entry struct {
		NodeID   string        `json:"nodeID"`
		Metadata meta          `json:"metadata,omitempty"`
		Created  time.Time     `json:"created"`
		TTL      time.Duration `json:"TTL"`
	}
	type list struct {
		MaxOwners int     `json:"maxOwners"`
		Locks     []entry `json:"locks"`
	}
	write := func(value any) {
		l.Helper()
		set, err := sets.Get(l.Context(), "kured", metav1.GetOptions{})
		l.must(err)
		text, isText := value.(string)
		if !isText {
			encoded, err := json.Marshal(value)
			l.must(err)
			text = string(encoded)
		}
		if set.Annotations == nil {
			set.Annotations = map[string]string{}
		}
		if set.Annotations[annotation] = text; value == nil {
			delete(set.Annotations, annotation)
		}
		_, err = sets.Update(l.Context(), set, metav1.UpdateOptions{})
		l.must(err)
	}
	now := time.Now().UTC()
	write(entry{NodeID: "node-b", Created: now})
	l.expect("one holds it", g, status.RivalHolds, "node-b since "+now.Format(time.RFC3339))
	write(nil)
	l.expect("it is released", g, "", "")
	write(entry{NodeID: "node-b", Created: now.Add(-time.Hour), TTL: 30 * time.Minute})
	l.expect("it has timed out", g, "", "")
	write(list{MaxOwners: 2, Locks: []entry{{NodeID: "node-b", Created: now}, {NodeID: "node-c", Created: now}}})
	l.expect("two hold it", g, status.RivalHolds, "node-b since "+now.Format(time.RFC3339)+", node-c since")
	write(list{MaxOwners: 2, Locks: []entry{}})
	l.expect("both have released it", g, "", "")
	write(`{"nodeID":"manual"}`)
	l.expect("a person pauses it", g, status.RivalHolds, "held by manual")
	write("held by bob")
	l.expect("nobody understands it", g, status.RivalUnreadable, annotation)
	l.must(sets.Delete(l.Context(), "kured", metav1.DeleteOptions{}))
	l.expect("it is removed", g, "", "")

	// Without the ClusterRole of the manifest nothing is known.
	l.must(l.admin.RbacV1().ClusterRoleBindings().Delete(l.Context(), "kured-node", metav1.DeleteOptions{}))
	l.expect("forbidden", g, status.RivalUnreadable, "forbidden")
}

// While the API server does not answer all of them are closed, by name.
func outageReal(l *lab) {
	l.must(l.plane.PauseAPIServer())
	defer func() { l.must(l.plane.ResumeAPIServer()) }()
	ask := func(g gate.Gate, reason status.Reason) {
		l.Helper()
		ctx, cancel := context.WithTimeout(l.Context(), 300*time.Millisecond)
		defer cancel()
		if v := g.Check(ctx, gate.Within); v.Open || v.Reason != reason {
			l.Errorf("%T: %+v", g, v)
		}
	}
	ask(gate.BlockingPods{Pods: l.kubelet.CoreV1().Pods(""), Node: self, Selectors: []string{"job=backup"}}, status.PodsUnreadable)
	ask(gate.NodePause{Node: ownNode{node.New(l.kubelet, self, strings.Repeat("0", 32))}, Now: time.Now}, status.PauseUnreadable)
	ask(gate.Rival{DaemonSets: l.kubelet.AppsV1().DaemonSets("kube-system"), DaemonSet: "kured", Now: time.Now}, status.RivalUnreadable)
}
