package kube

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// newClient makes a client whose connections follow the files of cfg.
func newClient(cfg *rest.Config, onRequest func(verb string, code int)) (kubernetes.Interface, *freshTransport, error) {
	fresh := &freshTransport{cfg: cfg, onRequest: onRequest}
	if _, err := fresh.get(); err != nil { // bad certificates are found now, not at the first request
		return nil, nil, err
	}
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, nil, err
	}
	// Tokens, exec plugins and impersonation work on requests, above the connections.
	rt, err := transport.HTTPWrappersForConfig(tc, fresh)
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfigAndClient(cfg, &http.Client{Transport: rt})
	if err != nil {
		return nil, nil, err
	}
	return client, fresh, nil
}

// freshTransport sends requests over connections that were made with the
// certificate and CA files as they are now.
type freshTransport struct {
	cfg       *rest.Config
	onRequest func(verb string, code int)

	mu      sync.Mutex
	current *http.Transport
	stamp   [3]fileStamp      // of the files that current was made from
	retired []*http.Transport // may still have requests under way
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

// RoundTrip implements http.RoundTripper.
func (t *freshTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	current, err := t.get()
	if err != nil {
		return nil, err
	}
	resp, err := current.RoundTrip(req)
	if t.onRequest != nil {
		code := 0
		if err == nil {
			code = resp.StatusCode
		}
		t.onRequest(verbOf(req), code)
	}
	return resp, err
}

// get is the transport for the next request.
func (t *freshTransport) get() (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	stamp, complete := t.look()
	if t.current != nil && (!complete || t.unchanged(stamp)) {
		return t.current, nil
	}
	next, err := t.build()
	if err != nil {
		if t.current != nil {
			// The files are being written: the old ones are still good.
			return t.current, nil
		}
		return nil, err
	}
	if t.current != nil {
		t.current.CloseIdleConnections()
		t.retired = append(t.retired, t.current)
	}
	t.current, t.stamp = next, stamp
	return next, nil
}

func (t *freshTransport) unchanged(stamp [3]fileStamp) bool {
	for i := range stamp {
		if !stamp[i].same(t.stamp[i]) {
			return false
		}
	}
	return true
}

// look stamps the files; complete is false if one of them cannot be seen.
func (t *freshTransport) look() (stamp [3]fileStamp, complete bool) {
	for i, path := range []string{t.cfg.CAFile, t.cfg.CertFile, t.cfg.KeyFile} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return stamp, false
		}
		stamp[i] = fileStamp{info}
	}
	return stamp, true
}

// build makes a transport from the files as they are now.
func (t *freshTransport) build() (*http.Transport, error) {
	tc, err := t.cfg.TransportConfig()
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
	return utilnet.SetTransportDefaults(next), nil
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
