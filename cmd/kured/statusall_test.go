package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/testenv"
)

// People and nodes ask for the whole fleet on the real API server, follow it, and a person pauses it.
func TestFleetOnTheRealServer(t *testing.T) {
	c := &cluster{testenv.New(t, testenv.Options{}), t, t.TempDir()}
	c.apply("kured.yaml")
	for name, announced := range map[string]string{
		"node-a": `{"v":1,"phase":"idle","since":"2026-11-22T12:00:00Z","boot":"x","version":"1"}`,
		"node-b": `{"v":1,"phase":"blocked","reason":"outside-window","since":"2026-11-22T12:00:00Z","boot":"x","version":"1"}`, "node-c": "",
	} {
		obj := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"kured.dev/status": announced}}}
		if _, err := c.Admin().CoreV1().Nodes().Create(t.Context(), obj, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	alice, nodeA := c.as(testenv.Subject{User: "alice", Groups: []string{"system:masters"}}), c.as(testenv.NodeSubject("node-a"))
	if err := os.WriteFile(filepath.Join(c.dir, "kured.toml"), []byte("[kubernetes]\nkubeconfig = \""+nodeA+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", alice)
	out, _ := c.kured(0, "status", "--all")
	if !strings.HasPrefix(out, "3 nodes: 1 blocked (outside-window), 1 idle, 1 unknown\n\nNODE ") {
		t.Errorf("all:\n%s", out)
	}
	var v fleet.View
	out, _ = c.kured(0, "status", "--all", "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || len(v.Nodes) != 3 || v.Nodes[0].Node != "node-b" || v.Limit != 1 || v.Lock != "kube-system/kured-lock" {
		t.Errorf("as JSON: %v\n%s", err, out)
	}

	// Root on a node, whose daemon is down: by the kubelet's credential.
	t.Setenv("KUBECONFIG", "")
	c.eventually("the right to list", func() bool {
		root := newRoot()
		root.SetArgs([]string{"status", "--all", "--config", filepath.Join(c.dir, "kured.toml")})
		root.SetOut(&bytes.Buffer{})
		return root.ExecuteContext(t.Context()) == nil
	})
	out, err := c.kured(exitUnavailable, "status", "--socket", filepath.Join(c.dir, "none.sock"))
	if !strings.HasPrefix(out, "node:     node-a, as the API server knows it\nphase:    idle, said ") || !strings.HasPrefix(err.Error(), "kured is not running here") {
		t.Errorf("elsewhere: %v\n%s", err, out)
	}
	for _, line := range [][]string{{"pause", "--all", "--reason", "x"}, {"resume", "--all"}} {
		if _, err := c.kured(exitSoftware, line...); !strings.Contains(err.Error(), " is the credential of the node node-a: ") {
			t.Errorf("%v: %v", line, err)
		}
	}

	// Followed by somebody, while it is paused and resumed and a node changes.
	t.Setenv("KUBECONFIG", alice)
	lines := &journal{}
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		root := newRoot()
		root.SetArgs([]string{"status", "--all", "--watch", "--config", filepath.Join(c.dir, "kured.toml")})
		root.SetOut(lines)
		if err := root.ExecuteContext(ctx); err != nil {
			t.Error(err)
		}
	})
	c.eventually("three lines", func() bool { return strings.Count(lines.String(), "\n") == 3 })
	c.put(fmt.Sprintf(`{"holder.node-c":%q}`, `{"v":1,"boot":"1","phase":"draining","since":"2026-11-22T12:00:00Z","max":1,"uid":"u"}`))
	c.eventually("the holder", func() bool { return strings.Contains(lines.String(), " node-c draining, NotReady\n") })
	stop()
	watching.Wait()

	out, _ = c.kured(0, "pause", "--all", "--reason", "release day")
	if out != "all nodes: paused until somebody resumes it\n" {
		t.Errorf("paused:\n%s", out)
	}
	if out, _ = c.kured(0, "status", "--all"); !strings.Contains(out, "\npolicy kured-policy: paused for the whole cluster: release day; by alice, 20") {
		t.Errorf("while it is paused:\n%s", out)
	}
	if out, _ = c.kured(0, "resume", "--all"); out != "all nodes: not paused any more\n" {
		t.Errorf("resumed:\n%s", out)
	}
	bob := c.as(testenv.Subject{User: "bob"})
	if _, err := c.kured(exitSoftware, "pause", "--all", "--reason", "x", "--kubeconfig", bob); !strings.HasSuffix(err.Error(), "\nit needs the rights to get, create and patch the ConfigMap kube-system/kured-policy") {
		t.Errorf("refused with: %v", err)
	}
}
