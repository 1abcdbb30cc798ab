package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// A pod that a budget keeps is named with its budget, one that the
// configuration keeps with the reason, and the plan changes nothing. The API
// server is real, and it is asked as the node's own kubelet.
func TestPlanOnTheRealServer(t *testing.T) {
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	testenv.NewNode(t, c.ControlPlane, standin.Options{NodeName: "node-a"})
	cfg := config.Default()
	cfg.Kubernetes.Kubeconfig = c.as(testenv.NodeSubject("node-a"))
	plan := func(code int, output present.Format) string {
		t.Helper()
		var b bytes.Buffer
		p := testPlan(t, c.dir, "unix:path="+c.dir+"/no-bus", "0123456789abcdef0123456789abcdef", cfg)
		if err := p.tellPlan(t.Context(), &b, output); codeOf(err) != code {
			t.Fatalf("code %d expected, got %v\n%s", code, err, b.String())
		}
		return b.String()
	}
	if out := plan(0, present.Text); !strings.HasPrefix(out, "node node-a: a drain would go through now\n") {
		t.Errorf("an empty node:\n%s", out)
	}

	unblock := blockDrain(c, "node-a")
	var out string
	c.eventually("the budget counts the pod", func() bool { // before, its text is another
		out = plan(3, present.Text)
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
	out = plan(3, present.JSON)
	var told struct {
		Through bool
		Held    []struct{ Budget string }
		Tiers   []struct {
			Pods []struct {
				GraceSeconds float64 `json:"grace_seconds"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || told.Through || len(told.Held) != 1 || told.Held[0].Budget != "web" ||
		len(told.Tiers) != 1 || told.Tiers[0].Pods[0].GraceSeconds != 30 {
		t.Errorf("as JSON: %v\n%s", err, out)
	}

	unblock()
	cfg.Drain.NakedPods = string(drain.Refuse)
	if out = plan(3, present.Text); !strings.Contains(out, "a drain would not begin") || !strings.Contains(out, "  pod default/web may not be evicted: nobody would make it anew\n") {
		t.Errorf("refused:\n%s", out)
	}
	cfg.Drain.NakedPods = string(drain.Evict)
	plan(0, present.Text)
	pod, err := c.Admin().CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || pod.DeletionTimestamp != nil || c.node("node-a").Spec.Unschedulable {
		t.Errorf("a plan has changed something: %v, %v", err, pod.DeletionTimestamp)
	}
	if pod.Status.Phase == corev1.PodFailed {
		t.Error("the pod is gone")
	}
}
