package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// A node holds the lock in a drain that does not end. People look at it, those
// who may not are refused, an admin releases it; the node says who it was. The
// API server and the daemon are real, the kubelet a stand-in, logind a fake.
func TestLockOnTheRealServer(t *testing.T) {
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true, Scheduler: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	testenv.NewNode(t, c.ControlPlane, standin.Options{NodeName: "node-a"})
	testenv.NewNode(t, c.ControlPlane, standin.Options{NodeName: "node-b"})
	alice := c.as(testenv.Subject{User: "alice", Groups: []string{"system:masters"}})
	nodeA, nodeB := c.as(testenv.NodeSubject("node-a")), c.as(testenv.NodeSubject("node-b"))
	unblock := blockDrain(c, "node-a")

	cfg := config.Default()
	cfg.Log.Format, cfg.Sentinel.Settle, cfg.Kubernetes.Kubeconfig = "text", 0, nodeA
	cfg.Sentinel.Paths = []string{filepath.Join(c.dir, "reboot-required")}
	for path, content := range map[string]string{cfg.Sentinel.Paths[0]: "", filepath.Join(c.dir, "kured.toml"): "[kubernetes]\nkubeconfig = \"" + nodeB + "\"\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := testPlan(t, c.dir, fakelogin1.Start(t).Address(), "0123456789abcdef0123456789abcdef", cfg)
	var err error
	logged := &journal{}
	p.log = slog.New(slog.NewTextHandler(logged, nil))
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := p.run(t.Context(), reloading{}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { // after the context of the test has ended
		ended.Wait()
		if t.Failed() {
			t.Logf("journal:\n%s", logged)
		}
	})

	// Everybody who may read the lock sees it: an admin by --kubeconfig, and root on a node without any flag.
	t.Setenv("KUBECONFIG", alice)
	var out string
	c.eventually("draining", func() bool {
		out, _ = c.kured(0, "lock")
		return strings.Contains(out, "draining")
	})
	shown := regexp.MustCompile(`^lock kube-system/kured-lock: 1 held, 1 allowed, 0 waiting
policy kured-policy: limits nothing

HOLDER  PHASE     SINCE +AGE +ZONE  BOOT +REASON
node-a  draining  20[-0-9]+T[0-9:]+Z  [0-9sm]+ +- +0123456789abcdef0123456789abcdef  -
$`)
	if !shown.MatchString(out) {
		t.Errorf("the list:\n%s", out)
	}
	t.Setenv("KUBECONFIG", "")
	out, _ = c.kured(0, "lock", "--kubeconfig", nodeB, "-o", "json")
	var listed struct {
		Namespace, Name string
		Limit           int
		Holders         []struct{ Node, Phase, Boot string }
		Waiters         []any
	}
	if err := json.Unmarshal([]byte(out), &listed); err != nil || listed.Name != "kured-lock" || listed.Namespace != "kube-system" || listed.Limit != 1 ||
		len(listed.Holders) != 1 || listed.Holders[0].Node != "node-a" || listed.Holders[0].Phase != "draining" || listed.Waiters == nil {
		t.Errorf("as JSON: %v\n%s", err, out)
	}

	// A shell completes NODE by who is in the lock, and by nothing where nobody answers.
	for kubeconfig, want := range map[string]string{nodeB: "node-a\tholds the lock: draining\n:4\n", "/nowhere": ":4\n"} {
		var b bytes.Buffer
		root := newRoot()
		root.SetArgs([]string{"__complete", "lock", "release", "--config", filepath.Join(c.dir, "kured.toml"), "--kubeconfig", kubeconfig, ""})
		root.SetOut(&b)
		if err := root.ExecuteContext(t.Context()); err != nil || b.String() != want {
			t.Errorf("completions with %s: %q, %v", kubeconfig, b.String(), err)
		}
	}

	// A node's credential releases nobody else, present or gone.
	c.put(`{"holder.gone":"{\"v\":1,\"boot\":\"1\",\"phase\":\"rebooting\",\"max\":1,\"uid\":\"u\"}"}`)
	for _, name := range []string{"node-a", "node-b", "gone"} {
		_, err = c.kured(1, "lock", "release", name, "--reason", "for fun") // the configuration's kubeconfig
		if err.Error() != nodeB+" is the credential of the node node-b: a release is a person's decision, give a person's with --kubeconfig" {
			t.Errorf("refused with: %v", err)
		}
	}
	// A person without the rights is told which they are, and nothing is done.
	bob := c.as(testenv.Subject{User: "bob"})
	c.may("bob", "get", "configmaps")
	_, err = c.kured(1, "lock", "release", "node-a", "--reason", "for fun", "--kubeconfig", bob)
	if text := err.Error(); !strings.HasPrefix(text, `nothing was released: annotate node node-a: nodes "node-a" is forbidden: User "bob" `) ||
		!strings.HasSuffix(text, "\na release needs the rights to patch nodes and the ConfigMap kube-system/kured-lock, to create events in the namespace default and, where the API server guards the lock, the verb break-glass on locks.kured.dev kured-lock in the namespace kube-system; the ClusterRole kured-lock-admin in wall.yaml has them") {
		t.Errorf("refused with: %s", text)
	}
	c.may("bob", "patch", "nodes")
	_, err = c.kured(1, "lock", "release", "node-a", "--reason", "for fun", "--kubeconfig", bob)
	if text := err.Error(); !strings.HasPrefix(text, `nothing was released: write lock kube-system/kured-lock: configmaps "kured-lock" is forbidden: User "bob" `) {
		t.Errorf("refused with: %s", text)
	}
	if c.node("node-a").Annotations[node.ReleasedAnnotation] != "" || len(c.events("node-a")) != 0 {
		t.Error("a refused release left something")
	}
	if _, err = c.kured(1, "lock", "release", "node-c", "--reason", "x", "--kubeconfig", alice); err.Error() != `node "node-c" has no entry in the lock, nothing to release` {
		t.Errorf("without an entry: %v", err)
	}
	if _, err = c.kured(1, "lock", "--kubeconfig", alice, "--name", "other"); !errors.Is(err, lock.ErrMissing) {
		t.Errorf("another lock: %v", err)
	}

	// The admin releases.
	out, _ = c.kured(0, "lock", "release", "node-a", "--reason", "it is broken", "--kubeconfig", alice)
	for _, line := range []string{"node-a holds: draining, since 20", "node-a is in the midst of a drain. ", "wrote who and why on the Node node-a\n",
		"removed holder.node-a from the lock kube-system/kured-lock\n", "recorded an Event about the Node node-a\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is not told:\n%s", line, out)
		}
	}
	if got := c.events("node-a"); len(got) != 1 || got[0] != "lock kube-system/kured-lock of this node released by alice: it is broken" {
		t.Errorf("kubectl describe node shows %q", got)
	}
	if _, err = c.kured(1, "lock", "release", "node-a", "--reason", "again", "--kubeconfig", alice); !errors.Is(err, lock.ErrNoEntry) {
		t.Errorf("again: %v", err)
	}
	unblock()
	c.eventually("the node tells", func() bool { return strings.Contains(logged.String(), "next try in 5m0s") })
	if text := logged.String(); strings.Count(text, "lock released by alice: it is broken") != 1 || strings.Contains(text, "asking logind") {
		t.Errorf("journal:\n%s", text)
	}
	if n := c.node("node-a"); n.Annotations[node.ReleasedAnnotation] != "" || n.Spec.Unschedulable || n.Annotations[node.MarkAnnotation] != "" {
		t.Errorf("left on the Node: %v, cordoned %v", n.Annotations, n.Spec.Unschedulable)
	}

	// One whose Node is gone, and one that cannot be read.
	out, _ = c.kured(0, "lock", "release", "gone", "--reason", "it was sold", "--kubeconfig", alice)
	if !strings.Contains(out, "there is no Node gone any more, so nothing was written on it\n") || len(c.events("gone")) != 1 {
		t.Errorf("a node that is gone:\n%s", out)
	}
	c.put(`{"holder.node-b":"{\"v\":9}"}`)
	if out, _ = c.kured(0, "lock", "--kubeconfig", nodeB); !strings.Contains(out, "holder.node-b cannot be read, it counts as a holder: version 9, ") {
		t.Errorf("unreadable:\n%s", out)
	}
	c.kured(0, "lock", "release", "node-b", "--reason", "damaged", "--kubeconfig", alice)
	if note := c.node("node-b").Annotations[node.ReleasedAnnotation]; !strings.HasPrefix(note, `{"by":"alice","why":"damaged","at":"20`) || !strings.HasSuffix(note, `Z","boot":""}`) {
		t.Errorf("note %s", note)
	}

	// Where the API server guards the lock, rights on the ConfigMap are not enough.
	c.may("bob", "patch", "configmaps")
	c.may("bob", "create", "events")
	c.guard(testenv.Subject{User: "bob"})
	c.put(`{"holder.node-b":"{\"v\":1,\"boot\":\"1\",\"phase\":\"rebooting\",\"max\":1,\"uid\":\"u\"}"}`)
	_, err = c.kured(1, "lock", "release", "node-b", "--reason", "for fun", "--kubeconfig", bob)
	if text := err.Error(); !strings.HasPrefix(text, "nothing was released: write lock kube-system/kured-lock: ") ||
		!strings.Contains(text, "ValidatingAdmissionPolicy") || !strings.Contains(text, "the verb break-glass on locks.kured.dev kured-lock") {
		t.Errorf("refused with: %s", text)
	}
	if note := c.node("node-b").Annotations[node.ReleasedAnnotation]; note != "" {
		t.Errorf("a refused release left the note %s", note)
	}
	carol := c.as(testenv.Subject{User: "carol"})
	c.bind("carol", "kured-lock-admin", "patch", "nodes")
	c.kured(0, "lock", "release", "node-b", "--reason", "the machine is dead", "--kubeconfig", carol)
	cm, err := c.Admin().CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kured-lock", metav1.GetOptions{})
	if err != nil || len(cm.Data) != 0 {
		t.Errorf("left in the lock: %v, %v", cm.Data, err)
	}
}

// What the configuration accepts and what the lock can do is written down in both.
func TestConfigurationKnowsTheBoundsOfTheLock(t *testing.T) {
	cfg := config.Default()
	cfg.Lock.MaxConcurrent, cfg.Lock.WaitingRoom, cfg.Lock.MinReady = intstr.FromInt32(lock.MaxHolders), lock.MaxRoom, intstr.FromString(lock.Quorum)
	if p := cfg.Validate(); len(p) != 0 {
		t.Errorf("the lock's bounds are refused: %v", p)
	}
	cfg.Lock.MaxConcurrent, cfg.Lock.WaitingRoom = intstr.FromInt32(lock.MaxHolders+1), lock.MaxRoom+1
	if p := cfg.Validate(); len(p) != 2 {
		t.Errorf("beyond the lock's bounds: %v", p)
	}
}
