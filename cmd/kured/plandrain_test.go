package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

func TestPrintPlan(t *testing.T) {
	web := node.HeldPod{Namespace: "shop", Name: "web-7", Why: node.WhyBudget, Budget: "web", Detail: "needs 2 healthy, has 2"}
	cache := node.HeldPod{Namespace: "shop", Name: "cache", Why: node.WhyPolicy, Detail: "it would lose the data of its emptyDir volumes"}
	full := node.Report{
		Tiers: []node.Tier{
			{Name: "not system-critical", Pods: []string{"shop/db-0", "shop/web-7"}, Leaving: []node.LeavingPod{
				{Namespace: "shop", Name: "db-0", Owner: "StatefulSet db", Grace: 10 * time.Minute}, {Namespace: "shop", Name: "web-7", Owner: "ReplicaSet web-5d", Grace: 30 * time.Second}}},
			{Name: "system-critical", Pods: []string{"kube-system/dns-1"}, Leaving: []node.LeavingPod{{Namespace: "kube-system", Name: "dns-1", Terminating: true}}},
		},
		Staying:  []node.StayingPod{{Namespace: "kube-system", Name: "etcd-n1", Why: "static pod"}, {Namespace: "kube-system", Name: "proxy-1", Why: "DaemonSet proxy\x1b[2J"}},
		Held:     []node.HeldPod{web},
		Unknown:  []node.HeldPod{{Namespace: "shop", Name: "hooked", Why: node.WhyRefused, Detail: `admission webhook "w" does not support dry run`}},
		Together: []string{"5 pods of ReplicaSet shop/web"},
	}
	for _, c := range []struct {
		name string
		r    node.Report
		want string
	}{
		{"nothing here", node.Report{}, `
node node-a: a drain would go through now
no pod has to leave
`},
		{"held up", full, `
node node-a: a drain would be held up now

2 pods leave, not system-critical:
  shop/db-0   stops within 10m0s  StatefulSet db
  shop/web-7  stops within 30s    ReplicaSet web-5d

then 1 pod leaves, system-critical:
  kube-system/dns-1  is stopping already  nobody makes it anew

2 pods stay:
  kube-system/etcd-n1  static pod
  kube-system/proxy-1  DaemonSet proxy [2J

1 pod would be held now:
  pod shop/web-7 held by PodDisruptionBudget shop/web: needs 2 healthy, has 2

1 pod cannot be told by a dry run:
  pod shop/hooked not evicted: refused: admission webhook "w" does not support dry run

asked about one by one; a budget may let fewer go at a time:
  5 pods of ReplicaSet shop/web

A drain asks again until drain.timeout, 30m0s, is over; then: release (drain.on_timeout).
`},
		{"refused", node.Report{Refused: []node.HeldPod{cache}}, `
node node-a: a drain would not begin: there are pods that may not be evicted

1 pod may not be evicted, so nothing would be:
  pod shop/cache may not be evicted: it would lose the data of its emptyDir volumes
`},
		{"not known", node.Report{Tiers: full.Tiers[:0], Unknown: full.Unknown}, `
node node-a: a dry run does not tell whether a drain would go through
no pod has to leave

1 pod cannot be told by a dry run:
  pod shop/hooked not evicted: refused: admission webhook "w" does not support dry run

A drain asks again until drain.timeout, 30m0s, is over; then: release (drain.on_timeout).
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			d := planOf("node-a", node.DrainOptions{Timeout: 30 * time.Minute, OnTimeout: node.GiveUp}, c.r)
			if err := printPlan(&b, d, c.r); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + b.String(); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}

// A pod that a budget keeps is named with its budget, one that the
// configuration keeps with the reason, and the plan changes nothing. The API
// server is real, and it is asked as the node's own kubelet.
func TestPlanOnTheRealServer(t *testing.T) {
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	testenv.NewNode(t, c.ControlPlane, standin.Options{NodeName: "node-a"})
	cfg := config.Default()
	cfg.Kubernetes.Kubeconfig = c.as(testenv.NodeSubject("node-a"))
	plan := func(code int, output outputFormat) string {
		t.Helper()
		var b bytes.Buffer
		p := testPlan(t, c.dir, "unix:path="+c.dir+"/no-bus", "0123456789abcdef0123456789abcdef", cfg)
		if err := p.tellPlan(t.Context(), &b, output); codeOf(err) != code {
			t.Fatalf("code %d expected, got %v\n%s", code, err, b.String())
		}
		return b.String()
	}
	if out := plan(0, outText); !strings.HasPrefix(out, "node node-a: a drain would go through now\n") {
		t.Errorf("an empty node:\n%s", out)
	}

	unblock := blockDrain(c, "node-a")
	var out string
	c.eventually("the budget counts the pod", func() bool { // before, its text is another
		out = plan(3, outText)
		return strings.Contains(out, "needs 1 healthy, has 1")
	})
	want := `node node-a: a drain would be held up now

1 pod leaves:
  default/web  stops within 30s  nobody makes it anew

1 pod would be held now:
  pod default/web held by PodDisruptionBudget default/web: needs 1 healthy, has 1

A drain asks again until drain.timeout, 30m0s, is over; then: release (drain.on_timeout).
`
	if out != want {
		t.Errorf("held by a budget, got:\n%s\nwant:\n%s", out, want)
	}
	out = plan(3, outJSON)
	var told drainPlan
	if err := json.Unmarshal([]byte(out), &told); err != nil || told.Through || len(told.Held) != 1 || told.Held[0].Budget != "web" ||
		len(told.Tiers) != 1 || told.Tiers[0].Pods[0].GraceSeconds != 30 {
		t.Errorf("as JSON: %v\n%s", err, out)
	}

	unblock()
	cfg.Drain.NakedPods = string(node.Refuse)
	if out = plan(3, outText); !strings.Contains(out, "a drain would not begin") || !strings.Contains(out, "  pod default/web may not be evicted: nobody would make it anew\n") {
		t.Errorf("refused:\n%s", out)
	}
	cfg.Drain.NakedPods = string(node.Evict)
	plan(0, outText)
	pod, err := c.Admin().CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || pod.DeletionTimestamp != nil || c.node("node-a").Spec.Unschedulable {
		t.Errorf("a plan has changed something: %v, %v", err, pod.DeletionTimestamp)
	}
	if pod.Status.Phase == corev1.PodFailed {
		t.Error("the pod is gone")
	}
}
