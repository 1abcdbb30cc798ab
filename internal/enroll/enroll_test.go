package enroll

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tokenOf is a token with these claims. Nothing here looks at the signature.
func tokenOf(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

const nodeToken = `{"sub":"system:serviceaccount:kube-system:kured","iat":1000,"exp":4000,"kubernetes.io":{"node":{"name":"node-a","uid":"u"}}}`

func TestDue(t *testing.T) {
	c := Credential{Begins: time.Unix(0, 0), Ends: time.Unix(900, 0)}
	for at, want := range map[int64]bool{0: false, 599: false, 600: true, 900: true, 2000: true} {
		if got := c.Due(time.Unix(at, 0)); got != want {
			t.Errorf("at %d: %v", at, got)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kubeconfig")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of another file: %v", err)
	}
	secret := tokenOf(nodeToken)
	c := Credential{Node: "node-a", Method: Token, token: secret}
	text, err := c.Kubeconfig(Server{URL: "https://api.example.org:6443", CA: []byte("ca")})
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(path, text); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := Read(path)
	if err != nil || got.Node != "node-a" || got.Method != Token || got.Ends != time.Unix(4000, 0) {
		t.Errorf("got %v until %s, %v", got, got.Ends, err)
	}
	if server, err := ServerOf(path); err != nil || server.URL != "https://api.example.org:6443" || string(server.CA) != "ca" {
		t.Errorf("got %v, %v", server, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if strings.Contains(fmt.Sprintf(verb, c), secret) {
			t.Errorf("%s shows the token", verb)
		}
	}
	if err := Write(filepath.Join(dir, "no", "kubeconfig"), text); err == nil {
		t.Error("written into a directory that is not there")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What a node must not be sent to, and what is not ours to renew.
func TestRefused(t *testing.T) {
	config := func(cluster, user string) string {
		return "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n" +
			"clusters: [{name: x, cluster: {" + cluster + "}}]\nusers: [{name: x, user: {" + user + "}}]\n"
	}
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, cluster := range []string{
		"server: 'https://x', insecure-skip-tls-verify: true", "server: 'http://x'", "server: 'https://x', proxy-url: 'http://p'",
		"server: 'https://x', certificate-authority: /nowhere",
	} {
		if _, err := ServerOf(write(config(cluster, ""))); err == nil {
			t.Errorf("%s is accepted", cluster)
		}
	}
	for _, user := range []string{
		"token: secret", "token: " + tokenOf(`{"sub":"system:serviceaccount:kube-system:other","iat":1,"exp":2,"kubernetes.io":{"node":{"name":"a"}}}`),
		"token: " + tokenOf(strings.Replace(nodeToken, "node-a", `a; reboot`, 1)),
		"client-certificate: /nowhere", "exec: {command: x, apiVersion: client.authentication.k8s.io/v1}",
	} {
		if _, err := Read(write(config("server: 'https://x'", user))); !errors.Is(err, ErrOther) {
			t.Errorf("%s: %v", user, err)
		}
	}
}
