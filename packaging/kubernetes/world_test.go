package kubernetes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/kured-host/kured/internal/testenv"
)

const (
	inNamespace = "/api/v1/namespaces/" + namespace
	lockPath    = inNamespace + "/configmaps/kured-lock"
	policyPath  = inNamespace + "/configmaps/kured-policy"
	probePath   = inNamespace + "/configmaps/kured-probe"
	nodesPath   = "/api/v1/nodes/"
	podsPath    = "/api/v1/namespaces/default/pods/"
	claimsPath  = "/api/v1/namespaces/default/persistentvolumeclaims"
	volumesPath = "/api/v1/persistentvolumes"
	policies    = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
	bindings    = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"

	mergePatch     = "application/merge-patch+json"
	jsonPatch      = "application/json-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
)

// A request is what is sent, with "<uid of NODE>" where that Node's UID goes.
type request struct {
	method string
	path   string // and query
	media  string // content type, "application/json" if empty
	body   string
	header string // more headers, "Name: value" in lines
}

// An answer is what the API server says: the message of its Status, if it is one.
type answer struct {
	code    int
	message string
	body    []byte
}

func (a answer) refused() bool { return a.code >= 400 }

// A caller sends requests with one credential.
type caller struct {
	name   string
	server string
	client *http.Client
}

func newCaller(t testing.TB, name string, config *rest.Config) caller {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return caller{name, config.Host, client}
}

func (c caller) send(ctx context.Context, r request) (answer, error) {
	message, err := http.NewRequestWithContext(ctx, r.method, c.server+r.path, strings.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	media := r.media
	if media == "" {
		media = "application/json"
	}
	message.Header.Set("Content-Type", media)
	for line := range strings.Lines(r.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		message.Header.Set(name, value)
	}
	response, err := c.client.Do(message)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	var status metav1.Status
	if json.Unmarshal(body, &status) != nil || status.Kind != "Status" {
		status.Message = ""
	}
	return answer{response.StatusCode, status.Message, body}, nil
}

// A world is a cluster behind the wall: the Nodes node-a to node-d, on node-a and node-b a pod each with a volume, on
// node-b one that terminates, a pod on no node, and three credentials of node-a.
type world struct {
	plane *testenv.ControlPlane
	admin caller
	node  caller // kubelet of node-c, for probes
	uids  *strings.Replacer
	rules map[string]string // what kured-policy says
	turn  int               // of kured-policy
}

// The ways in which a node can be known to the API server.
const (
	byKubelet     = "kubelet"     // system:node:NAME
	byCertificate = "certificate" // kured:node:NAME
	byToken       = "token"       // kube-system/kured, bound to the Node
	byMore        = "privileged"  // as kubelet, to whom RBAC allows everything with ConfigMaps
)

// shared is what all tests of the package use together.
var shared struct {
	plane *testenv.ControlPlane
	once  sync.Once
	world *world
}

// theWorld returns the package's world, which the first test that needs it makes.
func theWorld(t testing.TB) *world {
	t.Helper()
	shared.once.Do(func() { shared.world = newWorld(t, shared.plane) })
	if shared.world == nil {
		t.Fatal("the world was not made, see the first test that needed it")
	}
	return shared.world
}

func newWorld(t testing.TB, plane *testenv.ControlPlane) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{plane: plane, admin: newCaller(t, "admin", plane.AdminConfig())}
	for _, name := range []string{"node-a", "node-b", "node-c", "node-d"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := plane.Admin().CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"node-a", "node-b"} {
		createPod(t, plane, "pod-of-"+name, name)
		createVolume(t, plane, "volume-of-"+name)
	}
	createPod(t, plane, "pod-of-nobody", "")
	ending := createPod(t, plane, "pod-that-ends", "node-b")
	if err := plane.Admin().CoreV1().Pods("default").Delete(ctx, ending.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err) // nobody ends it: it goes on terminating
	}
	w.learnUIDs(t)
	for _, file := range []string{"kured.yaml", "identity.yaml", "wall.yaml", "testdata/probe.yaml"} {
		applyFile(t, plane, file)
	}
	w.node = w.caller(t, byKubelet, "node-c")
	// The policies take effect together, the last of wall.yaml not before the others. The lock for probes is held.
	w.await(t, w.admin, request{method: "DELETE", path: probePath + "?dryRun=All"}, "kured-lock-keep")
	clear := request{method: "PATCH", path: probePath, media: mergePatch, body: `{"data":null}`}
	if _, err := w.admin.send(ctx, clear); err != nil {
		t.Fatal(err)
	}
	token := w.caller(t, byToken, "node-a")
	w.await(t, token, w.eviction("pod-of-node-b", "pod-of-node-b"), "kured-eviction")
	w.await(t, token, request{method: "DELETE", path: podsPath + "pod-of-node-b?dryRun=All"}, "kured-deletion")
	w.await(t, token, eventOf("POST", "?dryRun=All", "x", "node-b", "kured"), "kured-event")
	w.await(t, token, tokenFor("kured", `"v1"`, "Node", "node-b", "<uid of node-b>", ""), "kured-token")
	w.setPolicy(t, nil)
	return w
}

// createPod makes a pod on a node, or on none. The pod pod-of-NODE has the volume volume-of-NODE.
func createPod(t testing.TB, plane *testenv.ControlPlane, name, node string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "c"}}},
	}
	if name == "pod-of-"+node {
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "volume-of-" + node}}}}
	}
	made, err := plane.Admin().CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// createVolume makes a PersistentVolume and a claim of that name which is bound to it.
func createVolume(t testing.TB, plane *testenv.ControlPlane, name string) {
	t.Helper()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: name},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "csi.example.org", VolumeHandle: name}},
		},
	}
	if _, err := plane.Admin().CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: name, AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}},
	}
	if _, err := plane.Admin().CoreV1().PersistentVolumeClaims("default").Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func applyFile(t testing.TB, plane *testenv.ControlPlane, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(t.Context(), content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func (w *world) learnUIDs(t testing.TB) {
	t.Helper()
	nodes, err := w.plane.Admin().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, node := range nodes.Items {
		pairs = append(pairs, "<uid of "+node.Name+">", string(node.UID))
	}
	w.uids = strings.NewReplacer(pairs...)
}

// caller makes a credential of that kind for the node.
func (w *world) caller(t testing.TB, kind, node string) caller {
	t.Helper()
	var credential testenv.Credential
	var err error
	switch kind {
	case byKubelet:
		credential, err = w.plane.NodeCredential(node)
	case byMore:
		credential, err = w.plane.Issue(testenv.Subject{User: "system:node:" + node, Groups: []string{"system:nodes", "test:all-configmaps"}})
	case byCertificate:
		credential, err = w.plane.Issue(testenv.Subject{User: "kured:node:" + node, Groups: []string{"kured:nodes"}})
	case byToken:
		credential, err = w.plane.NodeToken(t.Context(), namespace, "kured", node)
	}
	if err != nil {
		t.Fatal(err)
	}
	return newCaller(t, kind, credential.Config())
}

// user makes a certificate for a user in no group.
func (w *world) user(t testing.TB, name string) caller {
	t.Helper()
	credential, err := w.plane.Issue(testenv.Subject{User: name})
	if err != nil {
		t.Fatal(err)
	}
	return newCaller(t, name, credential.Config())
}

// send sends the request with the UIDs filled in.
func (w *world) send(t testing.TB, c caller, r request) answer {
	t.Helper()
	r.body = w.uids.Replace(r.body)
	got, err := c.send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// must sends a request that has to succeed.
func (w *world) must(t testing.TB, c caller, r request) answer {
	t.Helper()
	got := w.send(t, c, r)
	if got.refused() {
		t.Fatalf("%s: %s %s %s: %d %s", c.name, r.method, r.path, r.body, got.code, got.message)
	}
	return got
}

// await sends the request until the answer has the text in it: what was applied takes effect an instant later.
func (w *world) await(t testing.TB, c caller, r request, text string) {
	t.Helper()
	var last answer
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if last = w.send(t, c, r); strings.Contains(last.message, text) {
			return
		}
	}
	t.Fatalf("%s: %s %s: %d %s, want an answer with %q", c.name, r.method, r.path, last.code, last.message, text)
}

// setLock gives the lock these entries, and the label of a burial if it is wanted.
func (w *world) setLock(t testing.TB, entries map[string]string, burial bool) {
	t.Helper()
	labels := map[string]any{"app.kubernetes.io/name": "kured", "app.kubernetes.io/component": "lock"}
	if burial {
		w.setLock(t, nil, false) // or it would be one
		labels["kured.dev/burial"] = "true"
	}
	object := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": entries,
		"metadata": map[string]any{"name": lockName, "namespace": namespace, "labels": labels, "annotations": map[string]string{"a": "b"}},
	}
	w.must(t, w.admin, request{method: "PUT", path: lockPath, body: encoded(t, object)})
}

// setPolicy writes kured-policy and returns when the API server goes by it: the lock for probes is paused with another
// text each time.
func (w *world) setPolicy(t testing.TB, rules map[string]string) {
	t.Helper()
	if w.turn > 0 && maps.Equal(rules, w.rules) {
		return
	}
	w.rules = maps.Clone(rules)
	w.turn++
	data := map[string]string{"paused.kured-probe": "version " + strconv.Itoa(w.turn)}
	maps.Copy(data, rules)
	object := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data,
		"metadata": map[string]any{"name": "kured-policy", "namespace": namespace},
	}
	write := request{method: "PUT", path: policyPath, body: encoded(t, object)}
	if got := w.send(t, w.admin, write); got.code == http.StatusNotFound {
		write.method, write.path = "POST", inNamespace+"/configmaps"
		w.must(t, w.admin, write)
	}
	probe := patchOf(probePath+"?dryRun=All", "holder.node-c", holds("node-c"))
	w.await(t, w.node, probe, data["paused.kured-probe"])
}

func (w *world) eviction(inURL, inBody string) request {
	return request{
		method: "POST", path: "/api/v1/namespaces/default/pods/" + inURL + "/eviction?dryRun=All",
		body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"` + inBody + `","namespace":"default"}}`,
	}
}

// picture is everything that an attack could be after, without what any write changes.
func (w *world) picture(t testing.TB) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{
		inNamespace + "/configmaps", "/api/v1/nodes", "/api/v1/pods", claimsPath, volumesPath, policies, bindings,
	} {
		got := w.send(t, w.admin, request{method: "GET", path: path})
		var object map[string]any
		if err := json.Unmarshal(got.body, &object); err != nil {
			t.Fatal(err)
		}
		strip(object)
		fmt.Fprintf(&all, "%s %d %s\n", path, got.code, encoded(t, object))
	}
	return all.String()
}

// strip takes out the two fields of metadata that every write changes, in lists, too.
func strip(object map[string]any) {
	if metadata, ok := object["metadata"].(map[string]any); ok {
		delete(metadata, "resourceVersion")
		delete(metadata, "managedFields")
	}
	items, _ := object["items"].([]any)
	for _, item := range items {
		if inner, ok := item.(map[string]any); ok {
			strip(inner)
		}
	}
}

func encoded(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(text))
}
