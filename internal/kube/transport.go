package kube

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
)

// newClient makes a client whose connections follow what read returns of the
// kubeconfig at path, and the files that it names; path "": only these.
func newClient(path string, read func() (*rest.Config, error), onRequest func(verb string, code int)) (kubernetes.Interface, *freshTransport, error) {
	fresh := &freshTransport{path: path, read: read, onRequest: onRequest}
	if _, err := fresh.get(); err != nil { // bad certificates are found now, not at the first request
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfigAndClient(fresh.cfg, &http.Client{Transport: fresh})
	if err != nil {
		return nil, nil, err
	}
	return client, fresh, nil
}

// freshTransport sends requests with the credential, and over connections that
// were made with the certificate and CA files, as they are now.
type freshTransport struct {
	path      string // of the kubeconfig
	read      func() (*rest.Config, error)
	onRequest func(verb string, code int)

	mu      sync.Mutex
	cfg     *rest.Config
	current *signed
	stamps  []fileStamp       // of the files that current was made from
	retired []*http.Transport // may still have requests under way
}

// signed puts a credential on requests: tokens, exec plugins and impersonation
// work above the connections.
type signed struct {
	*http.Transport
	above  http.RoundTripper
	plugin *clientcmdapi.ExecConfig // nil: none
}

// fileStamp tells one content of a file from the next, also behind a symbolic
// link that is turned, which is how the kubelet rotates.
type fileStamp struct{ os.FileInfo } // nil for a file that is not configured

func (a fileStamp) same(b fileStamp) bool {
	if a.FileInfo == nil || b.FileInfo == nil {
		return a.FileInfo == b.FileInfo
	}
	return os.SameFile(a.FileInfo, b.FileInfo) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// stampsOf stamps files; an empty path is one that is not configured.
func stampsOf(paths ...string) ([]fileStamp, error) {
	stamps := make([]fileStamp, len(paths))
	for i, path := range paths {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		stamps[i] = fileStamp{info}
	}
	return stamps, nil
}

func sameStamps(a, b []fileStamp) bool { return slices.EqualFunc(a, b, fileStamp.same) }

// RoundTrip implements http.RoundTripper.
func (t *freshTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	current, err := t.get()
	if err != nil {
		return nil, err
	}
	resp, err := current.above.RoundTrip(req)
	if err != nil {
		err = pluginError(current.plugin, err)
	}
	return resp, err
}

// get is what sends the next request.
func (t *freshTransport) get() (*signed, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		if stamps, err := t.look(t.cfg); err != nil || sameStamps(stamps, t.stamps) {
			return t.current, nil
		}
	}
	stamps, cfg, next, err := t.make()
	switch {
	case err != nil && t.current == nil:
		return nil, err
	case err != nil:
		// The files are being written: the old ones are still good.
		return t.current, nil
	case t.current == nil:
	case cfg.Host != t.cfg.Host:
		// All that is known is of the server of before.
		return nil, &Error{Kind: Unreachable, Path: t.path, Server: t.cfg.Host, Err: fmt.Errorf("the kubeconfig leads to %s now", cfg.Host)}
	default:
		t.current.CloseIdleConnections()
		t.retired = append(t.retired, t.current.Transport)
	}
	t.current, t.cfg, t.stamps = next, cfg, stamps
	return next, nil
}

// make reads the kubeconfig and makes a transport from the files as they are now.
func (t *freshTransport) make() (stamps []fileStamp, cfg *rest.Config, next *signed, err error) {
	before, unseen := stampsOf(t.path)
	if cfg, err = t.read(); err != nil {
		return nil, nil, nil, err
	}
	stamps, err = t.look(cfg)
	if err = cmp.Or(unseen, err); err != nil {
		return nil, nil, nil, err
	}
	stamps[0] = before[0]
	next, err = t.build(cfg)
	return stamps, cfg, next, err
}

// look stamps the kubeconfig and the files of its connections.
func (t *freshTransport) look(cfg *rest.Config) ([]fileStamp, error) {
	return stampsOf(t.path, cfg.CAFile, cfg.CertFile, cfg.KeyFile)
}

// build makes a transport from the files as they are now.
func (t *freshTransport) build(cfg *rest.Config) (*signed, error) {
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, err
	}
	if tc.TLS.ReloadTLSFiles {
		if _, err := tls.X509KeyPair(tc.TLS.CertData, tc.TLS.KeyData); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
	}
	next := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 10 * time.Second,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		DisableCompression:  tc.DisableCompression,
	}
	if tc.Proxy != nil {
		next.Proxy = tc.Proxy
	}
	if tc.DialHolder != nil {
		next.DialContext = tc.DialHolder.Dial // an exec plugin's: it closes connections when its certificate changes
	}
	next = utilnet.SetTransportDefaults(next)
	above, err := transport.HTTPWrappersForConfig(tc, counting{next, t.onRequest})
	return &signed{next, above, cfg.ExecProvider}, err
}

// counting tells each request that is sent.
type counting struct {
	http.RoundTripper
	tell func(verb string, code int) // nil: nobody
}

// RoundTrip implements http.RoundTripper.
func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if c.tell != nil {
		code := 0
		if err == nil {
			code = resp.StatusCode
		}
		c.tell(verbOf(req), code)
	}
	return resp, err
}

func (t *freshTransport) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, old := range t.retired {
		old.CloseIdleConnections()
	}
	t.retired = nil // one with a watch still open closes by itself 90 s after the watch ended
	t.current.CloseIdleConnections()
}

// certificateUser is the user name that an API server reads in our client
// certificate, or the one we impersonate; "" without either.
func (t *freshTransport) certificateUser() (string, error) {
	if user := t.cfg.Impersonate.UserName; user != "" {
		return user, nil
	}
	current, err := t.get()
	if err != nil || current.TLSClientConfig == nil || current.TLSClientConfig.GetClientCertificate == nil {
		return "", err
	}
	certificate, err := current.TLSClientConfig.GetClientCertificate(nil)
	if err != nil {
		return "", fmt.Errorf("client certificate: %w", err)
	}
	if len(certificate.Certificate) == 0 {
		return "", nil
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return "", fmt.Errorf("client certificate: %w", err)
	}
	return leaf.Subject.CommonName, nil
}

// token is what our token says of itself; zero without one that can be read.
func (t *freshTransport) token() Token {
	text := t.cfg.BearerToken
	if t.cfg.BearerTokenFile != "" {
		fresh, err := os.ReadFile(t.cfg.BearerTokenFile)
		if err != nil {
			return Token{}
		}
		text = string(fresh)
	}
	token, err := ReadToken(strings.TrimSpace(text))
	if err != nil {
		return Token{}
	}
	return token
}
