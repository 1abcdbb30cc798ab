package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/enroll"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/testenv"
)

// Both kinds of identity from the first one to the next, against a real API server and signer.
func TestEnroll(t *testing.T) {
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	for _, name := range []string{"node-a", "node-b"} {
		if _, err := c.Admin().CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"kured.yaml", "wall.yaml", "identity.yaml"} {
		c.apply(file)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "kured.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, test func(t *testing.T, c *cluster)) {
		t.Run(name, func(t *testing.T) { test(t, &cluster{c.ControlPlane, t, c.dir}) })
	}
	admin := []string{"--kubeconfig", c.AdminKubeconfig()}
	by := func(line ...string) []string { return append(line, admin...) }

	run("certificate", func(t *testing.T, c *cluster) {
		path := filepath.Join(c.dir, "certificate")
		line := by("enroll", "node-a", "--file", path, "--lifetime", "10m")
		out, _ := c.kured(0, line...)
		c.wantSaid(out, "the certificate of node node-a is new, good until ")
		c.wantIs(path, "node-a", "node-b")
		before := c.read(path)

		out, _ = c.kured(0, line...)
		c.wantSaid(out, "the certificate of node node-a is good until ")
		out, _ = c.kured(0, "enroll", "--self", "--file", path)
		c.wantSaid(out, "is good until ")
		if !bytes.Equal(before, c.read(path)) {
			t.Error("a credential that is good was replaced")
		}
		_, err := c.kured(1, by("enroll", "node-b", "--file", path)...)
		c.wantSaid(err.Error(), "is the credential of the node node-a, not of node-b: --force replaces it")

		// 70 minutes of life, of which 10 are left: the node says so, an administrator renews it.
		c.lend(path, 10*time.Minute)
		before = c.read(path)
		_, err = c.kured(1, "enroll", "--self", "--file", path)
		c.wantSaid(err.Error(), ": an administrator has to make a new one: kured enroll node-a --method certificate")
		if !bytes.Equal(before, c.read(path)) {
			t.Error("the node replaced its certificate")
		}
		out, _ = c.kured(0, line...)
		c.wantSaid(out, "is new, good until ")
		c.wantIs(path, "node-a", "node-b")
	})
	run("certificate that ended", func(t *testing.T, c *cluster) {
		path := filepath.Join(c.dir, "ended")
		c.lend(path, 2*time.Second)
		time.Sleep(4 * time.Second) // real expiry, judged by the server's clock
		_, err := kube.Connect(t.Context(), kube.Options{Kubeconfig: path})
		if err == nil || !strings.Contains(err.Error(), "does not accept the credential") {
			t.Errorf("it connects: %v", err)
		}
		_, err = c.kured(1, "enroll", "--self", "--file", path)
		c.wantSaid(err.Error(), " ended at ")
		c.kured(0, by("enroll", "node-a", "--file", path)...)
		c.wantIs(path, "node-a", "node-b")
	})
	run("token", func(t *testing.T, c *cluster) {
		dir := filepath.Join(c.dir, "identities") // which is not there
		c.kured(0, by("enroll", "node-a", "node-b", "--method", "token", "--dir", dir, "--lifetime", "10m")...)
		path := filepath.Join(dir, "node-b.kubeconfig")
		c.wantIs(filepath.Join(dir, "node-a.kubeconfig"), "node-a", "node-b")
		c.wantIs(path, "node-b", "node-a")
		before := c.read(path)
		if err := c.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		out, _ := c.kured(0, "enroll", "--self", "--file", path)
		c.wantSaid(out, "is good until ") // without an API server
		c.kured(1, "enroll", "--self", "--file", path, "--force", "--timeout", "1s")
		if !bytes.Equal(before, c.read(path)) {
			t.Error("the token is lost in an outage")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.StartAPIServer(ctx); err != nil {
			t.Fatal(err)
		}
		c.eventually("the policies are read again", func() bool {
			_, err := enroll.WithToken(t.Context(), c.client(path).Client, "node-a", c.uid("node-a"), time.Hour)
			return err != nil && strings.Contains(err.Error(), "'kured-token'")
		})
		out, _ = c.kured(0, "enroll", "--self", "--file", path, "--force")
		c.wantSaid(out, "the token of node node-b is new, good until ")
		if bytes.Equal(before, c.read(path)) {
			t.Error("nothing new was written")
		}
		c.wantIs(path, "node-b", "node-a")
	})
	run("standard output", func(t *testing.T, c *cluster) {
		out, _ := c.kured(0, by("enroll", "node-a", "--method", "token", "--server", "https://api.example.org:6443")...)
		path := filepath.Join(c.dir, "printed")
		if err := enroll.Write(path, []byte(out)); err != nil {
			t.Fatal(err)
		}
		if server, err := enroll.ServerOf(path); err != nil || server.URL != "https://api.example.org:6443" || len(server.CA) == 0 {
			t.Errorf("%q, %v", server.URL, err)
		}
	})
	run("with no more rights than docs/identity.md names", func(t *testing.T, c *cluster) {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "issuer"}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get"}},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{"kured"}, Verbs: []string{"create"}},
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests"}, Verbs: []string{"create", "get"}},
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests/approval"}, Verbs: []string{"update"}},
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{"kubernetes.io/kube-apiserver-client"}, Verbs: []string{"approve"}},
		}}
		if _, err := c.Admin().RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.bind("issuer", "issuer", "get", "nodes")
		issuer := c.as(testenv.Subject{User: "issuer"})
		for _, method := range enroll.Methods() {
			path := filepath.Join(c.dir, "issued-"+string(method))
			c.kured(0, "enroll", "node-a", "--method", string(method), "--kubeconfig", issuer, "--file", path)
			c.wantIs(path, "node-a", "node-b")
		}
	})
	run("refused", func(t *testing.T, c *cluster) {
		_, err := c.kured(1, "enroll", "node-b", "--kubeconfig", c.as(testenv.NodeSubject("node-a")))
		c.wantSaid(err.Error(), "is the credential of the node node-a: only an administrator makes identities")
		_, err = c.kured(1, by("enroll", "node-z")...)
		c.wantSaid(err.Error(), `look for node node-z: nodes "node-z" not found`)
		kubelet := c.as(testenv.NodeSubject("node-a"))
		_, err = c.kured(1, "enroll", "--self", "--file", kubelet)
		c.wantSaid(err.Error(), enroll.ErrOther.Error())
		path := filepath.Join(c.dir, "nobody")
		_, err = c.kured(1, "enroll", "node-a", "--kubeconfig", c.as(testenv.Subject{User: "nobody"}), "--file", path)
		c.wantSaid(err.Error(), "forbidden")
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("something is at %s: %v", path, err)
		}
	})
	run("Node deleted", func(t *testing.T, c *cluster) {
		path := filepath.Join(c.dir, "identities", "node-b.kubeconfig")
		if err := c.Admin().CoreV1().Nodes().Delete(t.Context(), "node-b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.eventually("the token ends with its Node", func() bool {
			_, err := kube.Connect(t.Context(), kube.Options{Kubeconfig: path})
			return err != nil && strings.Contains(err.Error(), "does not accept the credential")
		})
		c.kured(1, "enroll", "--self", "--file", path, "--force")
	})
}

// lend writes a certificate of node-a's identity with so much life left of an hour more.
func (c *cluster) lend(path string, left time.Duration) {
	c.t.Helper()
	credential, err := c.Issue(testenv.Subject{User: "kured:node:node-a", Groups: []string{"kured:nodes"}, Lifetime: left})
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := credential.Kubeconfig()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := enroll.Write(path, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) read(path string) []byte {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

func (c *cluster) wantSaid(text, part string) {
	c.t.Helper()
	if !strings.Contains(text, part) {
		c.t.Errorf("%q is not in: %s", part, text)
	}
	for _, secret := range []string{"PRIVATE KEY", base64.StdEncoding.EncodeToString([]byte("-----BEGIN"))[:12], "eyJ"} {
		if strings.Contains(text, secret) {
			c.t.Errorf("a secret is in: %s", text)
		}
	}
}

func (c *cluster) uid(node string) string {
	c.t.Helper()
	return string(c.node(node).UID)
}

// client is what the kubeconfig gives the daemon.
func (c *cluster) client(path string) *kube.Cluster {
	c.t.Helper()
	connected, err := kube.Connect(c.t.Context(), kube.Options{Kubeconfig: path})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(connected.CloseIdle)
	return connected
}

// wantIs sees that the daemon is that node with this file, may cordon it and nothing of the other one.
func (c *cluster) wantIs(path, node, other string) {
	c.t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		c.t.Errorf("%s: %v, %v", path, info, err)
	}
	connected := c.client(path)
	if connected.NodeName != node || connected.NodeNameSource != kube.SourceCredential {
		c.t.Errorf("it is %s by %s, not %s", connected.NodeName, connected.NodeNameSource, node)
	}
	cordon := []byte(`{"spec":{"unschedulable":true}}`)
	patch := func(name string) error {
		_, err := connected.Client.CoreV1().Nodes().Patch(c.t.Context(), name, types.MergePatchType, cordon, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	c.eventually("the policy keeps it from "+other, func() bool { return apierrors.IsForbidden(patch(other)) })
	if err := patch(node); err != nil {
		c.t.Error(err)
	}
}
