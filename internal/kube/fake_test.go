package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority is a CA made for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate and its key, both PEM.
func (a *authority) issue(t *testing.T, user string) (cert, key []byte) {
	t.Helper()
	return a.issueUntil(t, user, time.Now().Add(time.Hour))
}

func (a *authority) issueUntil(t *testing.T, user string, until time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// fakeAPI stands for an API server: it knows users by client certificate or
// bearer token, answers SelfSubjectReviews, and has Nodes.
type fakeAPI struct {
	*httptest.Server
	ca *authority

	mu       sync.Mutex
	pair     tls.Certificate // of the server
	open     map[net.Conn]bool
	nodes    map[string]int      // name -> status of a GET; absent: 404
	tokens   map[string]string   // token -> user
	reviews  int                 // status of a SelfSubjectReview instead of an answer, 0: answers
	extra    map[string][]string // of every user
	seen     []string            // users of the requests, in order
	agents   map[string]bool     // User-Agents
	released chan struct{}       // ends the watches
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{
		ca: newAuthority(t, "fake-ca"), open: map[net.Conn]bool{}, nodes: map[string]int{"node-a": 200},
		tokens: map[string]string{}, agents: map[string]bool{}, released: make(chan struct{}),
	}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.use(t, f.ca)
	f.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return &tls.Config{
			Certificates: []tls.Certificate{f.pair}, NextProtos: []string{"h2", "http/1.1"},
			ClientAuth: tls.RequestClientCert, // as kube-apiserver, which verifies it later and then says 401
		}, nil
	}}
	f.EnableHTTP2 = true
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of the tests
	f.Config.ConnState = func(c net.Conn, s http.ConnState) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch s {
		case http.StateNew:
			f.open[c] = true
		case http.StateClosed, http.StateHijacked:
			delete(f.open, c)
		}
	}
	f.StartTLS()
	t.Cleanup(func() { close(f.released); f.CloseClientConnections(); f.Close() })
	return f
}

// use gives the server a certificate of ca for the connections to come.
func (f *fakeAPI) use(t *testing.T, ca *authority) {
	t.Helper()
	certPEM, keyPEM := ca.issue(t, "kube-apiserver")
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pair = pair
}

func (f *fakeAPI) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

func (f *fakeAPI) users() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func (f *fakeAPI) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	user := ""
	if len(r.TLS.PeerCertificates) > 0 {
		user = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		user = f.tokens[token]
	}
	f.seen = append(f.seen, user)
	f.agents[r.Header.Get("User-Agent")] = true
	reviews, extra := f.reviews, f.extra
	status, known := f.nodes[strings.TrimPrefix(r.URL.Path, "/api/v1/nodes/")]
	f.mu.Unlock()

	answer := func(code int, object any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(object)
	}
	failure := func(code int, reason, message string) {
		answer(code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
	}
	name, isNode := strings.CutPrefix(r.URL.Path, "/api/v1/nodes/")
	switch {
	case user == "":
		failure(401, "Unauthorized", "Unauthorized")
	case r.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews" && reviews == 404:
		failure(404, "NotFound", "the server could not find the requested resource")
	case r.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews" && reviews == 403:
		failure(403, "Forbidden", "selfsubjectreviews is forbidden")
	case r.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews" && reviews != 0:
		failure(reviews, "InternalError", "an internal error")
	case r.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		answer(201, map[string]any{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
			"status": map[string]any{"userInfo": map[string]any{"username": user, "extra": extra}}})
	case r.URL.Query().Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		select {
		case <-f.released:
		case <-r.Context().Done():
		}
	case isNode && !known:
		failure(404, "NotFound", fmt.Sprintf("nodes %q not found", name))
	case isNode && status == 404: // of what is between us and the API server
		http.NotFound(w, r)
	case isNode && status == 500:
		failure(500, "InternalError", "an internal error")
	case isNode && status == 403:
		failure(403, "Forbidden", fmt.Sprintf("nodes %q is forbidden: User %q cannot get resource", name, user))
	case isNode:
		answer(200, map[string]any{"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": name, "labels": map[string]string{"zone": "eu-1a"}}})
	default:
		failure(404, "NotFound", "the server could not find the requested resource")
	}
}

// files are a kubeconfig and what it names, in a directory of the test.
type files struct{ dir string }

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(f.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// kubeconfig writes kubelet.conf in the form of kubeadm's, with the given user.
func (f files) kubeconfig(t *testing.T, server, user string) string {
	t.Helper()
	f.write(t, "kubelet.conf", fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- {name: c, cluster: {server: %q, certificate-authority: ca.crt}}
contexts:
- {name: x, context: {cluster: c, user: u}}
current-context: x
users:
- name: u
  user: %s
`, server, user))
	return f.path("kubelet.conf")
}

const certificateUser = "{client-certificate: current.pem, client-key: current.pem}"

// node writes the credential of a node as the kubelet keeps it: both PEM blocks
// in one file behind a symbolic link.
func (f files) node(t *testing.T, ca *authority, user, version string) {
	t.Helper()
	cert, key := ca.issue(t, user)
	f.write(t, version+".pem", append(cert, key...))
	f.link(t, version+".pem")
}

// link turns current.pem to another file.
func (f files) link(t *testing.T, name string) {
	t.Helper()
	if err := os.Symlink(name, f.path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path("link"), f.path("current.pem")); err != nil {
		t.Fatal(err)
	}
}

// kubelet is a kubeconfig for the fake with the certificate of user.
func kubelet(t *testing.T, api *fakeAPI, user string) (files, string) {
	t.Helper()
	f := files{t.TempDir()}
	f.write(t, "ca.crt", api.ca.pem)
	f.node(t, api.ca, user, "1")
	return f, f.kubeconfig(t, api.URL, certificateUser)
}
